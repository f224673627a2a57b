//! Plans, compared with what stands in snapshots/: GUPPY_SNAPSHOTS=write makes them anew.

use super::world::{ETH0, World, address, link};
use crate::config::AlsoForward;
use crate::kernel::GROUP;

fn compare(name: &str, text: &str) {
    let folder =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/decide/tests/snapshots");
    let file = folder.join(format!("{name}.txt"));
    if std::env::var_os("GUPPY_SNAPSHOTS").is_some() {
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    assert_eq!(text, expected, "{} differs", file.display());
}

#[test]
fn closed() {
    compare("closed", &World::new().plan_text());
}

#[test]
fn before_there_is_a_network() {
    let mut world = World::new();
    world.network.links.truncate(1);
    world.network.addresses.clear();
    world.network.uplinks.clear();
    compare("before-network", &world.plan_text());
}

#[test]
fn up_over_ipv4() {
    compare("up-v4", &World::up().plan_text());
}

#[test]
fn up_over_both_with_exemptions() {
    let mut world = World::up();
    world.network.addresses.push(address(super::world::TUNNEL, "fd08::2/128"));
    let also = |from: Option<&str>, to: &str| AlsoForward {
        from: from.map(str::to_owned),
        to: to.parse().unwrap(),
        via: "eth0".into(),
    };
    world.config.also_forward = vec![
        also(None, "10.1.0.0/16"),
        also(None, "2001:db8:1::/48"),
        also(Some("docker0"), "0.0.0.0/0"),
    ];
    compare("up-both-exempt", &world.plan_text());
}

#[test]
fn while_connecting_it_is_silent_and_once_failed_it_says_so() {
    let mut world = World::up();
    world.network.links.pop();
    world.network.addresses.pop();
    let connecting = world.plan_text();
    assert!(connecting.contains("ip route blackhole default table 5310 metric 4294967295"));
    // Nothing says that this tunnel carries IPv6, so nobody is kept waiting for it.
    assert!(connecting.contains("ip -6 route unreachable default table 5310"));
    world.state.started = Some((1, world.now));
    world.units[0].active = "failed".into();
    world.units[0].exit_status = crate::decide::EXIT_PARKED;
    let parked = world.plan_text();
    assert!(parked.contains("ip route unreachable default table 5310 metric 4294967295"));
    assert_eq!(world.decide().phase.name(), "parked");
}

#[test]
fn the_plan_without_a_tunnel_is_a_part_of_each_with_one() {
    let closed = World::new().decide().plan.unwrap();
    let mut up = World::up();
    up.network.links.push(link(20, "eth1", 1500, GROUP));
    let open = up.decide().plan.unwrap();
    assert!(closed.rules.iter().all(|rule| open.rules.contains(rule)));
    assert!(closed.routes.iter().all(|route| open.routes.contains(route)));
    assert!(closed.filters.iter().all(|filter| open.filters.contains(filter)));
}

#[test]
fn disabled_there_is_nothing_of_ours() {
    let mut world = World::new();
    world.intent.enabled = false;
    assert_eq!(world.plan_text(), "");
}

#[test]
fn a_tunnel_with_mains_default_route_is_no_uplink() {
    let mut world = World::up();
    world.network.uplinks = vec![ETH0, super::world::TUNNEL];
    let plan = world.decide().plan.unwrap();
    assert!(plan.filters.iter().all(|filter| filter.uplink == ETH0));
}
