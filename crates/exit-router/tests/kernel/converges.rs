//! What is put is what is read back, and what is taken away comes back.

use exit_router::decide::Phase;

use super::namespace::{in_a_box, run};

const DISTURBANCES: [&str; 14] = [
    "ip rule flush; ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default",
    "ip -6 rule flush; ip -6 rule add pref 32766 lookup main",
    "ip rule del pref 5310",
    "ip -6 rule del pref 5320",
    "ip rule add pref 5310 iif tailscale0 lookup 5310 protocol 173 || true",
    "ip rule add pref 5301 iif tailscale0 lookup main protocol 173",
    "ip route flush table 5310",
    "ip -6 route flush table 5310",
    "ip route add default via 198.51.100.1 dev eth0 table 5310",
    "ip route del default table 5310 metric 4294967295",
    "nft flush ruleset",
    "nft delete table inet guppy_exit_router",
    "nft flush chain inet guppy_exit_router forward",
    "nft add rule inet guppy_exit_router input accept",
];

#[test]
#[ignore = "needs root: it makes network namespaces"]
fn closed_and_with_a_tunnel_and_disabled() {
    in_a_box(async |mut world| {
        let closed = world.converge().await;
        assert_eq!(closed.phase, Phase::Off);
        assert!(
            run("ip rule show").contains("5310:\tfrom all iif tailscale0 lookup 5310 proto 173")
        );
        assert!(run("ip route show table 5310").contains("blackhole default proto 173"));
        assert!(run("ip -6 route show table 5310").contains("unreachable default"));

        world.raise_tunnel();
        let up = world.converge().await;
        assert_eq!(up.phase, Phase::Up);
        assert!(run("ip route show table 5310").contains("default dev vpn-acme proto 173"));
        assert!(run("ip -6 route show table 5310").contains("default dev vpn-acme proto 173"));

        world.intent.enabled = false;
        world.converge().await;
        assert!(!run("ip rule show; ip -6 rule show").contains("173"));
        assert_eq!(run("ip route show table 5310; ip -6 route show table 5310"), "");
        assert_eq!(run("nft list tables"), "");
    });
}

#[test]
#[ignore = "needs root: it makes network namespaces"]
fn whatever_is_taken_away_comes_back() {
    in_a_box(async |mut world| {
        world.raise_tunnel();
        world.converge().await;
        let kernel = || {
            run(
                "ip rule show; ip -6 rule show; ip route show table 5310; ip -6 route show table 5310; \
                 nft -s list table inet guppy_exit_router",
            )
        };
        let before = kernel();
        for disturbance in DISTURBANCES {
            run(disturbance);
            world.converge().await;
            assert_eq!(kernel(), before, "after {disturbance}");
        }
        // What netlink says nothing of: the IPv4 route goes with the link.
        run("ip link set vpn-acme down");
        world.converge().await;
        assert!(!run("ip route show table 5310").contains("vpn-acme"));
        run("ip link set vpn-acme up");
        world.converge().await;
        assert!(run("ip route show table 5310").contains("default dev vpn-acme"));
        run("ip address flush dev vpn-acme");
        world.converge().await;
        assert!(!run("ip route show table 5310").contains("vpn-acme"));
        assert!(!run("ip rule show").contains("10.8.0.2"));
    });
}

#[test]
#[ignore = "needs root: it makes network namespaces"]
fn ten_thousand_rules_of_others_are_not_in_the_way() {
    in_a_box(async |mut world| {
        let rules: String = (0..10_000)
            .map(|number| format!("rule add pref {} to 192.0.2.1 lookup 77\n", 20_000 + number))
            .collect();
        let folder = tempfile::tempdir().unwrap();
        let batch = folder.path().join("batch");
        std::fs::write(&batch, rules).unwrap();
        run(&format!("ip -batch {}", batch.display()));
        world.raise_tunnel();
        world.converge().await;
        run("ip rule del pref 5310");
        world.converge().await;
        assert!(run("ip rule show pref 5310").contains("iif tailscale0"));
    });
}
