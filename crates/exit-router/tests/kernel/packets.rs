//! Real packets: a peer's leave by the tunnel or not at all.

use super::namespace::{World, in_a_box, run, succeeds};

const EVERYWHERE: [&str; 2] = ["203.0.113.80", "2001:db8:80::1"];

/// Who answered for the internet: the packets that each has got.
fn pings_seen(world: &World, who: &str) -> u64 {
    let counted = world.within(who, "cat /proc/net/snmp /proc/net/snmp6");
    let mut lines = counted.lines();
    let mut seen = 0;
    while let Some(line) = lines.next() {
        if line.starts_with("Icmp:") {
            let values = lines.next().unwrap_or_default();
            let at = line.split_whitespace().position(|name| name == "InEchos").unwrap();
            seen += values.split_whitespace().nth(at).unwrap().parse::<u64>().unwrap();
        }
        if let Some(value) = line.strip_prefix("Icmp6InEchos") {
            seen += value.trim().parse::<u64>().unwrap();
        }
    }
    seen
}

#[test]
#[ignore = "needs root: it makes network namespaces"]
fn without_us_the_internet_sees_the_peer_and_with_us_nothing() {
    in_a_box(async |mut world| {
        for to in EVERYWHERE {
            world.leaks_to(to);
        }
        world.converge().await;
        let before = pings_seen(&world, "internet");
        for to in EVERYWHERE {
            assert!(!world.peer_reaches(to), "{to}");
            // This box itself goes on as it was.
            assert!(succeeds(&format!("ping -n -c 1 -W 5 {to}")), "{to}");
        }
        assert_eq!(pings_seen(&world, "internet"), before + 2);
    });
}

#[test]
#[ignore = "needs root: it makes network namespaces"]
fn either_layer_alone_keeps_peers_in() {
    in_a_box(async |mut world| {
        for to in EVERYWHERE {
            world.leaks_to(to);
        }
        world.converge().await;
        for flush in [
            "nft flush ruleset",
            "ip rule del pref 5310; ip rule del pref 5320; ip -6 rule del pref 5310; ip -6 rule del pref 5320",
        ] {
            run(flush);
            let before = pings_seen(&world, "internet");
            for to in EVERYWHERE {
                assert!(!world.peer_reaches(to), "{to} after {flush}");
            }
            assert_eq!(pings_seen(&world, "internet"), before, "{flush}");
            world.converge().await;
        }
        // The peers' interface under another name is an input that nobody knows.
        run(
            "ip link set tailscale0 down; ip link set tailscale0 name ts-old; ip link set ts-old up; \
             ip addr add 100.64.0.1/10 dev ts-old || true",
        );
        for to in EVERYWHERE {
            assert!(!world.peer_reaches(to), "{to} after the rename");
        }
    });
}

#[test]
#[ignore = "needs root: it makes network namespaces"]
fn with_the_tunnel_up_the_customer_sees_the_tunnels_address() {
    in_a_box(async |mut world| {
        world.raise_tunnel();
        world.converge().await;
        let before = (pings_seen(&world, "internet"), pings_seen(&world, "customer"));
        for to in EVERYWHERE {
            assert!(world.peer_reaches(to), "{to} by the tunnel");
        }
        let after = (pings_seen(&world, "internet"), pings_seen(&world, "customer"));
        assert_eq!(after, (before.0, before.1 + 2));
        // This box's own stays with the uplink, but for a socket that is bound to the tunnel.
        assert!(succeeds("ping -n -c 1 -W 5 203.0.113.80"));
        assert_eq!(pings_seen(&world, "internet"), before.0 + 1);
        assert!(succeeds("ping -n -c 1 -W 5 -I 10.8.0.2 10.20.0.1"), "the probe's way");
        // The customer's network reaches nobody.
        world.within(
            "customer",
            "ip route add 100.64.0.0/10 via 10.8.0.2; ip route add 198.51.100.0/24 via 10.8.0.2",
        );
        for to in ["10.8.0.2", "100.64.0.1", "100.64.0.2", "198.51.100.10"] {
            let name = world.name("customer");
            assert!(
                !succeeds(&format!("ip netns exec {name} ping -n -c 1 -W 1 {to}")),
                "the customer reaches {to}"
            );
        }
    });
}
