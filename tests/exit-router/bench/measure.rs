//! The measurements, each with what is read to get it.

use anyhow::{Context as _, Result};
use lab::internet::PEERS;

use crate::table::{Table, Target, median};
use crate::world::{LONG, World};

/// How often each time and throughput is taken.
pub(crate) const ROUNDS: usize = 7;
/// How long the agent is watched at rest.
pub(crate) const REST_SECONDS: u32 = 120;

const UNIT: &str = "guppy-exit-router.service";
/// The agent's rules, routes and table, as commands that make them again.
const DUMP: &str = "
    for family in -4 -6; do
        ip $family rule | sed -n 's/^\\([0-9]*\\):\\t\\(.*\\) proto 173$/rule add pref \\1 \\2 protocol 173/p' \
            >/tmp/rules$family
        ip $family route save table 5310 >/tmp/routes$family
    done
    nft -s list table inet guppy_exit_router >/tmp/table";
const FLUSH: &str = "
    for family in -4 -6; do
        ip $family rule flush protocol 173
        ip $family route flush table 5310
    done
    nft delete table inet guppy_exit_router";
const BY_HAND: &str = "
    for family in -4 -6; do
        ip $family -batch /tmp/rules$family
        ip $family route restore </tmp/routes$family
    done
    nft -f /tmp/table";

pub(crate) struct Bench {
    pub(crate) it: World,
}

impl Bench {
    fn pid(&self) -> Result<String> {
        self.it.guppy.sh(&format!("systemctl show -P MainPID {UNIT}"))
    }

    /// From what happens to what holds again, in milliseconds; asked all the time meanwhile.
    fn time(&self, happens: &str, holds: &str) -> Result<f64> {
        let text = self.it.guppy.sh(&format!(
            "begin=$(date +%s%N); {happens}
             until {holds}; do :; done
             echo $(($(date +%s%N) - begin))"
        ))?;
        Ok(text.trim().parse::<f64>().with_context(|| text.clone())? / 1e6)
    }

    pub(crate) fn converges(&self, table: &mut Table) -> Result<()> {
        for (what, happens, holds) in [
            (
                "a rule deleted to converged, ms",
                "ip rule del pref 5310",
                "ip rule show pref 5310 | grep -q 5310",
            ),
            (
                "the nft table deleted to converged, ms",
                "nft delete table inet guppy_exit_router",
                "nft list chain inet guppy_exit_router forward >/dev/null 2>&1",
            ),
            (
                "the tunnel's link down and up to converged, ms",
                "ip link set vpn-acme down; ip link set vpn-acme up",
                "ip route show table 5310 | grep -q vpn-acme",
            ),
        ] {
            let mut times = Vec::new();
            for _ in 0..ROUNDS {
                self.it.until_converged()?;
                times.push(self.time(happens, holds)?);
            }
            table.row(what, median(&mut times), Target::None);
        }
        self.it.until_converged()
    }

    pub(crate) fn events(&self, table: &mut Table) -> Result<()> {
        let before = self.it.cpu_seconds()?;
        self.it.rule_events()?;
        self.it.until_converged()?;
        table.row("CPU for 10,000 rule events, s", self.it.cpu_seconds()? - before, Target::None);
        Ok(())
    }

    pub(crate) fn rests(&self, table: &mut Table) -> Result<()> {
        let pid = self.pid()?;
        let counts =
            format!("awk '/^voluntary/ {{ print $2 }} /^VmRSS/ {{ print $2 }}' /proc/{pid}/status");
        let text = self.it.guppy.sh(&format!("{counts}; sleep {REST_SECONDS}; {counts}"))?;
        let numbers: Vec<f64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
        let &[_, before, kibibytes, after] = numbers.as_slice() else {
            anyhow::bail!("{text}");
        };
        table.row("resident memory (VmRSS), MiB", kibibytes / 1024.0, Target::AtMost(4.0));
        let hour = (after - before) * 3600.0 / f64::from(REST_SECONDS);
        table.row("voluntary switches an hour at rest", hour, Target::None);
        let watchdog = self.it.guppy.sh(&format!("systemctl show -P WatchdogUSec {UNIT}"))?;
        lab::say(format_args!("the watchdog wants a sign of life each {watchdog}"));
        let size = self.it.guppy.sh("stat -c %s /usr/bin/guppy-exit-router")?;
        table.row("binary, MB", size.parse::<f64>()? / 1e6, Target::AtMost(3.0));
        Ok(())
    }

    pub(crate) fn throughput(&self, table: &mut Table) -> Result<()> {
        let it = &self.it;
        let _server = it.internet.host().spawn("exec iperf3 --server >/dev/null 2>&1")?;
        let (mut ours, mut by_hand, mut none) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            it.until_converged()?;
            it.until_egress(&it.customer.addresses()?)?;
            ours.push(self.megabits()?);
            it.guppy.sh(&format!("{DUMP}; systemctl stop {UNIT} guppy-exit-router.socket"))?;
            it.guppy.sh(FLUSH)?;
            it.until_egress(&it.own_addresses()?)?;
            none.push(self.megabits()?);
            it.guppy.sh(BY_HAND)?;
            it.until_egress(&it.customer.addresses()?)?;
            by_hand.push(self.megabits()?);
            it.guppy.sh(&format!("systemctl start {UNIT}"))?;
        }
        // Of neighbours in time: a machine that others use is now faster, now slower.
        let mut ratios: Vec<f64> =
            ours.iter().zip(&by_hand).map(|(ours, by_hand)| ours / by_hand).collect();
        let ratio = median(&mut ratios);
        let [ours, by_hand, none] = [&mut ours, &mut by_hand, &mut none].map(|all| median(all));
        table.row("throughput with the agent, Mbit/s", ours, Target::None);
        table.row("  the same plan made by hand", by_hand, Target::None);
        table.row("  with the agent to by hand", ratio, Target::AtLeast(0.98));
        table.row("  no policy at all, by the uplink", none, Target::None);
        Ok(())
    }

    fn megabits(&self) -> Result<f64> {
        let words = format!("iperf3 --client {} --time 5 --json", PEERS[0]);
        let text = self.it.laptop.host.sh_within(LONG, &words)?.ok()?;
        let told: serde_json::Value = serde_json::from_str(&text).context("iperf3")?;
        let bits = told.pointer("/end/sum_received/bits_per_second").and_then(|bits| bits.as_f64());
        Ok(bits.with_context(|| format!("iperf3: {text}"))? / 1e6)
    }
}
