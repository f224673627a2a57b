//! `packaging/demo exit-router`: a laptop takes the box as its exit node and is seen where a customer's
//! VPN ends; then things break, and nothing of it leaves by the box's uplink.

#[allow(dead_code, reason = "the stories use the rest")]
mod guppy;
#[allow(dead_code, reason = "the stories use the rest")]
mod traffic;
#[allow(dead_code, reason = "the stories use the rest")]
mod world;

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::customer::Vpn;
use lab::{Release, scenario};

use traffic::kinds;
use world::{ACME, World};

fn main() {
    scenario(act);
}

fn act() -> Result<()> {
    let begin = Instant::now();
    let say = |text: &str| println!("{:4.0} s  {text}", begin.elapsed().as_secs_f64());
    let seen = |what: &str, addresses: [Option<String>; 2]| {
        let [v4, v6] = addresses.map(|address| address.unwrap_or_else(|| "no answer".to_owned()));
        say(&format!("  {what}: {v4} and {v6}"));
    };
    say("a box, a laptop and a tablet in a tailnet; apt install guppy-exit-router on the box");
    let mut it = World::new(Release::Trixie)?;
    seen("the internet sees the laptop as", it.egress()?);
    it.exit_by_box()?;
    say("tailscale set --exit-node=guppy on the laptop, and no VPN yet");
    seen("the internet sees the laptop as", it.egress()?);
    it.own_exit()?;

    let [customer, _] = it.customer.addresses()?;
    say(&format!("a customer whose VPN ends at {customer}: guppy vpn up {ACME} --wait-healthy"));
    it.raise(Vpn::WireGuard)?;
    seen("the internet sees the laptop as", it.egress()?);
    seen("and the box itself as", it.own_egress()?);
    println!("{}", it.guppy.sh("guppy vpn status")?);

    let both = kinds(&["v4", "v6"]);
    let mut judge = it.judge()?;
    let mut traffic = it.traffic()?;
    traffic.until_answered(&both)?;
    for (what, shell) in [
        ("the tunnel is deleted", "ip link del vpn-acme"),
        ("the agent is killed", "systemctl kill --signal=KILL guppy-exit-router.service"),
        ("all of nftables is flushed", "nft flush ruleset"),
    ] {
        it.guppy.sh(shell)?;
        traffic.until_sent(&both)?;
        let outage = traffic.until_answered(&both)?;
        let leaks = it.leaks(&mut judge)?;
        it.until_layers()?;
        say(&format!(
            "{what}: {} packets leaked, answers again after {:.1} s",
            leaks.len(),
            outage.as_secs_f64()
        ));
        ensure!(leaks.is_empty(), "{leaks:#?}");
    }
    drop(traffic);

    it.vpn("down")?;
    say("guppy vpn down");
    seen("the internet sees the laptop as", it.egress()?);
    Ok(())
}
