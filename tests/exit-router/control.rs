//! The control: without the agent an exit node leaks, and the judge of all other stories sees it.

use anyhow::ensure;
use lab::{Release, internet, say, scenario};

use crate::guppy::Guppy;
use crate::traffic::kinds;
use crate::world::World;

#[test]
fn without_the_agent_an_exit_node_leaks_and_the_judge_sees_each_kind() {
    scenario(|| {
        let it = World::without_agent(Release::Trixie, Guppy::container, &[])?;
        let mut judge = it.judge()?;
        it.exit_by_box()?;
        it.until_egress(&it.own_addresses()?)?;
        // What was sent to get here is no part of the run.
        it.leaks(&mut judge)?;
        let mut traffic = it.traffic()?;
        traffic.until_answered(&kinds(&["v4", "v6"]))?;
        let leaks = it.leaks(&mut judge)?;
        say(format_args!("control: {} packets left by the uplink", leaks.len()));
        let [v4, v6] = internet::PEERS;
        for (kind, how) in [
            ("TCP over IPv4", format!("{v4}.80: tcp")),
            ("TCP over IPv6", format!("{v6}.80: tcp")),
            ("UDP over IPv4", format!("{v4}.7: UDP, length 64")),
            ("UDP over IPv6", format!("{v6}.7: UDP, length 64")),
            ("QUIC-like over IPv4", format!("{v4}.443: UDP")),
            ("QUIC-like over IPv6", format!("{v6}.443: UDP")),
            ("ICMP", format!("{v4}: ICMP echo request")),
            ("ICMPv6", format!("{v6}: ICMP6, echo request")),
            ("a fragment of IPv4", format!("{v4}: ip-proto-17")),
            ("a fragment of IPv6", format!("{v6}: frag")),
        ] {
            ensure!(leaks.iter().any(|line| line.contains(&how)), "no {kind} in {leaks:#?}");
        }
        Ok(())
    });
}
