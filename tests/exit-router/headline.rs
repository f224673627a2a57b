//! What a user gets: `tailscale set --exit-node=guppy` reaches the customer, and nothing else does.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::customer::{self, Vpn};
use lab::{Release, say, scenario, wait};

use crate::traffic::kinds;
use crate::world::{ACME, LONG, SOON, World, of, url};

#[test]
fn the_exit_node_reaches_the_customer_by_wireguard() {
    scenario(|| headline(Vpn::WireGuard));
}

#[test]
fn the_exit_node_reaches_the_customer_by_openvpn() {
    scenario(|| headline(Vpn::OpenVpn));
}

fn headline(vpn: Vpn) -> Result<()> {
    for release in Release::of_this_run() {
        let mut it = World::new(*release)?;
        let mut judge = it.judge()?;
        // Before there is any customer, a peer that takes the box as its exit gets nowhere.
        it.exit_by_box()?;
        let mut traffic = it.traffic()?;
        traffic.until_sent(&kinds(&["v4", "v6"]))?;
        ensure!(it.egress()? == [None, None], "the laptop gets out: {:?}", it.egress()?);
        it.own_way_is_untouched()?;
        it.own_exit()?;
        it.until_egress(&it.laptop_addresses()?)?;

        it.raise(vpn)?;
        traffic.until_answered(&kinds(&["v4", "v6"]))?;
        it.own_way_is_untouched()?;
        private(&it)?;
        told(&it)?;
        opts_out(&it)?;
        goes_down(&it)?;
        let leaks = it.leaks(&mut judge)?;
        ensure!(leaks.is_empty(), "leaked: {leaks:#?}");
    }
    Ok(())
}

/// The customer's private web is there for whoever accepts routes, over both families.
fn private(it: &World) -> Result<()> {
    for address in customer::PRIVATE {
        it.until("the customer's private web", |it| {
            Ok(it.laptop.get(&url(address), SOON)?.is_some())
        })?;
        let seen = it.laptop.get(&url(address), SOON)?.context("no answer")?;
        // No address of the tailnet leaves the box.
        ensure!(!seen.starts_with("100.64.") && !seen.starts_with("fd7a:"), "seen as {seen}");
        let tablet = it.tablet.get(&url(address), SOON)?;
        ensure!(tablet.is_none(), "the tablet, which accepts no routes, is answered: {tablet:?}");
    }
    Ok(())
}

/// What status tells.
fn told(it: &World) -> Result<()> {
    let [egress, _] = it.customer.addresses()?;
    it.until(
        "status to show the egress",
        |it| Ok(of(&it.status()?, "/egress") == egress.as_str()),
    )?;
    let status = it.status()?;
    ensure!(of(&status, "/state") == "up" && of(&status, "/healthy") == true, "{status:#}");
    ensure!(of(&status, "/profile") == ACME, "{status:#}");
    let [laptop, _] = it.laptop.addresses()?;
    let peers = of(&status, "/peers").as_array().context("no peers")?;
    let peer = peers.iter().find(|peer| of(peer, "/address") == laptop.as_str());
    let bytes = peer.and_then(|peer| of(peer, "/bytes").as_u64()).unwrap_or_default();
    ensure!(bytes > 0, "no bytes of {laptop}: {status:#}");
    ensure!(of(&status, "/foreign").as_array().is_some_and(Vec::is_empty), "{status:#}");
    Ok(())
}

/// Once `tailscale set --exit-node=` has returned, nothing public of the laptop's goes by the VPN; its
/// routes stay.
fn opts_out(it: &World) -> Result<()> {
    let (ours, own) = (it.customer.addresses()?, it.laptop_addresses()?);
    let began = Instant::now();
    it.own_exit()?;
    let returned = began.elapsed();
    wait::until_true("the laptop's own way", LONG, || {
        let seen = it.egress()?;
        let by_vpn = seen.iter().zip(&ours).any(|(seen, ours)| seen.as_ref() == Some(ours));
        ensure!(!by_vpn, "a request after the command went by the VPN");
        Ok(seen == own.clone().map(Some))
    })?;
    say(format_args!(
        "opted out: the command took {:.2} s, and {:.2} s after its begin both families were seen \
         under the laptop's own addresses",
        returned.as_secs_f64(),
        began.elapsed().as_secs_f64()
    ));
    private(it)?;
    it.exit_by_box()?;
    it.until_egress(&ours)
}

/// `guppy vpn down` withdraws what `up` has advertised, and closes.
fn goes_down(it: &World) -> Result<()> {
    let down = it.vpn("down")?;
    ensure!(of(&down, "/changed") == true, "{down:#}");
    ensure!(*of(&down, "/withdrawn") == serde_json::json!(customer::PREFIXES), "{down:#}");
    let advertised = it.guppy.sh("tailscale debug prefs | tr -d ' \\n\\t'")?;
    ensure!(advertised.contains("\"AdvertiseRoutes\":[\"0.0.0.0/0\",\"::/0\"]"), "{advertised}");
    let again = it.vpn("down")?;
    ensure!(of(&again, "/changed") == false, "{again:#}");
    it.until("the tunnel to be gone", |it| Ok(of(&it.status()?, "/state") == "off"))?;
    ensure!(it.egress()? == [None, None], "the laptop gets out: {:?}", it.egress()?);
    it.own_way_is_untouched()
}
