//! Hosts without a kernel of their own (network namespaces), and the switches that join them
//! to machines. Every address is in 10.99.0.0/16 and exists inside namespaces only.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::ledger;
use crate::process::{Output, PATIENCE, Spawned, host, quietly, run};

/// The name of the bridge inside a switch.
const BRIDGE: &str = "br0";

/// A named network namespace; goes with its last user.
#[derive(Debug)]
struct Net {
    name: String,
    place: PathBuf,
}

impl Net {
    fn new(kind: &str) -> Result<Self> {
        let (place, name) = ledger::place(kind)?;
        ledger::note_namespace(&name)?;
        host("ip", &["netns", "add", &name])?;
        host("ip", &["-netns", &name, "link", "set", "lo", "up"])?;
        Ok(Self { name, place })
    }

    /// A command that will run inside.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg("--").arg(program);
        command
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        quietly("ip", &["netns", "delete", &self.name]);
        ledger::leave(&self.place);
    }
}

/// An Ethernet switch: a bridge in a namespace of its own, itself reachable as 10.99.0.1.
///
/// Machines and namespaces plug into it. Clones are the same switch.
#[derive(Debug, Clone)]
pub struct Switch {
    net: Arc<Net>,
    taken: Arc<Mutex<BTreeSet<String>>>,
}

impl Switch {
    /// A switch with nothing plugged in.
    pub fn new() -> Result<Self> {
        let net = Net::new("gs")?;
        for arguments in [
            &["link", "add", BRIDGE, "type", "bridge", "forward_delay", "0"][..],
            &["address", "add", "10.99.0.1/16", "dev", BRIDGE],
            &["link", "set", BRIDGE, "up"],
        ] {
            host("ip", &[&["-netns", &net.name], arguments].concat())?;
        }
        Ok(Self { net: Arc::new(net), taken: Arc::default() })
    }

    /// The next free address: 10.99.0.100 and on, so that smaller ones are free to be chosen.
    pub(crate) fn next_address(&self) -> Result<String> {
        (100..=250)
            .map(|host| format!("10.99.0.{host}"))
            .find(|address| self.take_address(address).is_ok())
            .ok_or_else(|| anyhow!("150 hosts on one switch"))
    }

    /// Notes an address as taken; an error if another host has it.
    pub(crate) fn take_address(&self, address: &str) -> Result<()> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(taken.insert(address.to_owned()), "two hosts with {address} on one switch");
        Ok(())
    }

    /// The name of its network namespace.
    #[must_use]
    pub fn namespace_name(&self) -> &str {
        &self.net.name
    }

    /// A command that will run in the switch's namespace.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.net.command(program)
    }

    /// Takes a tap that qemu has made in the namespace `from` as a port.
    pub(crate) fn plug_tap(&self, from: &Self, tap: &str) -> Result<()> {
        if from.net.name != self.net.name {
            host("ip", &["-netns", &from.net.name, "link", "set", tap, "netns", &self.net.name])?;
        }
        let net = &self.net.name;
        host("ip", &["-netns", net, "link", "set", tap, "master", BRIDGE, "up"])?;
        Ok(())
    }

    /// Plugs in a namespace: it gets the interface `eth0` (`eth1` …) with the next free address.
    pub fn plug(&self, namespace: &mut Namespace) -> Result<String> {
        let address = self.next_address()?;
        let inside = format!("eth{}", namespace.addresses.len());
        let port = format!("p{}", address.rsplit('.').next().unwrap_or_default());
        let (here, there) = (&self.net.name, &namespace.net.name);
        host(
            "ip",
            &[
                "-netns", here, "link", "add", &port, "type", "veth", "peer", "name", &inside,
                "netns", there,
            ],
        )?;
        host("ip", &["-netns", here, "link", "set", &port, "master", BRIDGE, "up"])?;
        let with_length = format!("{address}/16");
        host("ip", &["-netns", there, "address", "add", &with_length, "dev", &inside])?;
        host("ip", &["-netns", there, "link", "set", &inside, "up"])?;
        namespace.addresses.push(address.clone());
        namespace.switches.push(self.clone());
        Ok(address)
    }

    /// A new host plugged into this switch.
    pub fn host(&self) -> Result<Namespace> {
        let mut namespace = Namespace::new()?;
        self.plug(&mut namespace)?;
        Ok(namespace)
    }

    /// Runs a shell command in the switch's own namespace (`tcpdump`, `tc`, `nft` …).
    pub fn sh(&self, shell: &str) -> Result<Output> {
        let mut command = self.command("bash");
        command.args(["-c", shell]);
        run(command, b"", PATIENCE)
    }

    /// Starts a shell command in the switch's own namespace that lives until the value is dropped.
    pub fn spawn(&self, shell: &str) -> Result<Spawned> {
        let mut command = self.command("bash");
        command.args(["-c", shell]).stdin(std::process::Stdio::null());
        Spawned::start(&mut command)
    }
}

/// A host with a network of its own, this machine's kernel and this machine's files.
#[derive(Debug)]
pub struct Namespace {
    net: Net,
    addresses: Vec<String>,
    /// Kept so that the other end of each link lives as long as this one.
    switches: Vec<Switch>,
}

impl Namespace {
    /// A host with nothing but a loopback; see [`Switch::host`] for one with a link.
    pub fn new() -> Result<Self> {
        Ok(Self { net: Net::new("gn")?, addresses: Vec::new(), switches: Vec::new() })
    }

    /// The name under which `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.net.name
    }

    /// Its address on the first switch it was plugged into.
    #[must_use]
    pub fn address(&self) -> &str {
        self.addresses.first().map_or("", String::as_str)
    }

    /// The MAC address of its `eth0`.
    pub fn mac(&self) -> Result<String> {
        let link = self.sh("ip -o link show eth0")?.ok()?;
        let mut words = link.split_whitespace().skip_while(|word| *word != "link/ether");
        let mac = words.nth(1).context("eth0 has no MAC address")?;
        Ok(mac.to_owned())
    }

    /// A command that will run inside; for everything [`Self::sh`] cannot express.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.net.command(program)
    }

    /// Runs a shell command to its end, within a minute.
    pub fn sh(&self, shell: &str) -> Result<Output> {
        self.sh_within(PATIENCE, shell)
    }

    /// Runs a shell command to its end.
    pub fn sh_within(&self, within: Duration, shell: &str) -> Result<Output> {
        let mut command = self.command("bash");
        command.args(["-c", shell]);
        run(command, b"", within)
    }

    /// Starts a shell command that lives until the returned value is dropped.
    pub fn spawn(&self, shell: &str) -> Result<Spawned> {
        let mut command = self.command("bash");
        command.args(["-c", shell]).stdin(std::process::Stdio::null());
        Spawned::start(&mut command)
    }

    /// Takes the interface `eth0` down or up again: the cable of this host.
    pub fn link(&self, up: bool) -> Result<()> {
        let state = if up { "up" } else { "down" };
        host("ip", &["-netns", self.name(), "link", "set", "eth0", state])
            .context("cannot switch the link")?;
        Ok(())
    }
}
