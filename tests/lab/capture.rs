//! The judge of leaks: every packet that leaves a host by its uplink, seen on the switch, less those
//! that the host may send. What is left is a leak.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::namespace::Switch;
use crate::process::Spawned;
use crate::{ledger, wait};

/// A packet to this UDP port of the switch is a mark: what was sent before it has been seen once it
/// has been seen itself.
const MARK: u16 = 40999;

/// What is written down about one host.
#[derive(Debug)]
pub struct Capture {
    place: PathBuf,
    tcpdump: Spawned,
    marks: u32,
    read: usize,
}

impl Capture {
    /// Begins to watch what the host with this MAC address sends to the switch. `allowed` is a
    /// filter of pcap-filter(7): what the host may send besides ARP, neighbour discovery, multicast
    /// and what goes to the switch itself.
    pub fn of(switch: &Switch, mac: &str, allowed: &str) -> Result<Self> {
        let port = wait::until("the host's port", Duration::from_secs(60), || {
            // Learnt from its first frame: whoever was just asked something has sent one.
            let table = switch.sh("bridge fdb show br br0")?.ok()?;
            let line = table.lines().find(|line| line.starts_with(mac) && !line.contains("perm"));
            Ok(line.and_then(|line| line.split_whitespace().nth(2)).map(str::to_owned))
        })?;
        let (place, _) = ledger::place("gj")?;
        let out = place.join("packets");
        // Neighbour discovery is ICMPv6 133 to 137.
        let filter = format!(
            "ether src {mac} and (ip or ip6) and not ether multicast and \
             not (icmp6 and ip6[40] >= 133 and ip6[40] <= 137) and \
             (udp dst port {MARK} or not (dst host 10.99.0.1 or ({allowed})))"
        );
        let tcpdump = switch.spawn(&format!(
            "exec tcpdump -n -q -tt -l -B 65536 --immediate-mode -i {port} '{filter}' \
             >{} 2>{}",
            out.display(),
            place.join("said").display()
        ))?;
        let mut capture = Self { place, tcpdump, marks: 0, read: 0 };
        wait::until_true("tcpdump to listen", Duration::from_secs(120), || {
            if let Some(code) = capture.tcpdump.ended()? {
                return Err(anyhow!("tcpdump ended with {code}: {}", capture.said()));
            }
            Ok(capture.said().contains("listening on"))
        })?;
        Ok(capture)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.place.join("said")).unwrap_or_default()
    }

    /// The packets that have leaked since the last call, one line each. `mark` sends one UDP
    /// datagram of the given size from the host under watch to the given address and port.
    pub fn leaks(&mut self, mark: impl Fn(&str) -> Result<()>) -> Result<Vec<String>> {
        self.marks += 1;
        // Known by its length, which is all that tcpdump says of a datagram.
        let length = 100 + self.marks % 1000;
        let (seen, here) = (format!("10.99.0.1.{MARK}: UDP, length {length}"), self.read);
        let text = wait::until("a packet in the capture", Duration::from_secs(300), || {
            ensure!(self.tcpdump.ended()?.is_none(), "tcpdump has ended: {}", self.said());
            mark(&format!("head -c {length} /dev/zero >/dev/udp/10.99.0.1/{MARK}"))?;
            let text = self.text()?;
            let new = text.get(here..).unwrap_or_default();
            Ok(new.contains(&seen).then_some(text))
        })?;
        // Whole lines: the last one may be half written.
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        self.read = end;
        let new = text.get(here..end).unwrap_or_default();
        let leaked = |line: &&str| !line.contains(&format!("10.99.0.1.{MARK}:"));
        Ok(new.lines().filter(leaked).map(str::to_owned).collect())
    }

    fn text(&self) -> Result<String> {
        fs::read_to_string(self.place.join("packets")).context("the capture")
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.tcpdump.kill();
        ledger::leave(&self.place);
    }
}
