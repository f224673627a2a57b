//! What happens to a box: by hand, by other programs, by the network, by the agent's own end. The
//! tunnel's interface is `vpn-acme`, after the profile.

use anyhow::Result;
use lab::customer::Vpn;

use crate::world::World;

/// One of them.
pub(crate) struct Disturbance {
    pub(crate) name: &'static str,
    /// How often a random walk takes it, among the others.
    pub(crate) often: u64,
    pub(crate) happens: fn(&mut World, Vpn) -> Result<()>,
    /// What a person, or the world, does to end it; often nothing.
    pub(crate) ends: fn(&mut World, Vpn) -> Result<()>,
}

/// The layers that this kernel has, each with the command that takes it away.
pub(crate) const LAYERS: [(&str, &str); 3] = [
    ("the rules", RULES_FLUSHED),
    ("the nft table", "nft delete table inet guppy_exit_router"),
    // Not an error where there is none: a kernel without it says so in status.
    ("the filter of the uplink", "tc qdisc del dev eth0 clsact 2>/dev/null || true"),
];

const RULES_FLUSHED: &str = "for family in -4 -6; do
    ip $family rule | sed -n 's/^\\(53[0-9]0\\):.*/\\1/p' | while read -r pref; do
        ip $family rule del pref $pref
    done
done";

fn nothing(_: &mut World, _: Vpn) -> Result<()> {
    Ok(())
}

fn sh(it: &World, shell: &str) -> Result<()> {
    it.guppy.sh(shell).map(drop)
}

macro_rules! disturbance {
    ($name:expr, $often:expr, $happens:expr) => {
        disturbance!($name, $often, $happens, "")
    };
    ($name:expr, $often:expr, $happens:expr, $ends:expr) => {
        Disturbance {
            name: $name,
            often: $often,
            happens: |it, _| sh(it, $happens),
            ends: |it, _| if $ends.is_empty() { Ok(()) } else { sh(it, $ends) },
        }
    };
}

/// All of them. Those that cost seconds by their nature are taken less often.
pub(crate) const ALL: &[Disturbance] = &[
    disturbance!("tunnel link down and up", 4, "ip link set vpn-acme down", "ip link set vpn-acme up"),
    disturbance!("tunnel deleted", 2, "ip link del vpn-acme"),
    disturbance!(
        "tunnel renamed",
        3,
        "ip link set vpn-acme name stranger",
        "ip link set stranger name vpn-acme"
    ),
    disturbance!(
        "tunnel's addresses flushed",
        2,
        "ip address flush dev vpn-acme",
        "systemctl restart guppy-vpn@acme.service"
    ),
    disturbance!(
        "VPN client killed",
        2,
        "systemctl kill --signal=KILL guppy-vpn@acme.service"
    ),
    disturbance!("VPN client restarted", 2, "systemctl restart guppy-vpn@acme.service"),
    Disturbance {
        name: "VPN server dead for a while",
        often: 1,
        happens: |it, vpn| it.customer.kill(vpn),
        ends: |it, vpn| it.customer.serve(vpn, ""),
    },
    disturbance!(
        "agent killed",
        4,
        "systemctl kill --signal=KILL guppy-exit-router.service"
    ),
    disturbance!(
        "agent stopped",
        4,
        "systemctl stop guppy-exit-router.service",
        "systemctl start guppy-exit-router.service"
    ),
    disturbance!("agent restarted", 4, "systemctl restart guppy-exit-router.service"),
    disturbance!(
        "tunnel deleted while the agent is stopped",
        1,
        "systemctl stop guppy-exit-router.service guppy-exit-router.socket
         ip link del vpn-acme",
        "systemctl start guppy-exit-router.service"
    ),
    disturbance!("block applied again", 4, "systemctl restart guppy-exit-router-block.service"),
    disturbance!("rules flushed", 6, RULES_FLUSHED),
    disturbance!("all rules flushed", 2, "ip rule flush; ip -6 rule flush", ALL_RULES),
    disturbance!("table flushed", 6, "ip route flush table 5310; ip -6 route flush table 5310"),
    disturbance!(
        "one route of the table deleted",
        4,
        "ip route del default dev vpn-acme table 5310; ip -6 route del default dev vpn-acme table 5310"
    ),
    disturbance!("nft table deleted", 6, "nft delete table inet guppy_exit_router"),
    disturbance!("nft table emptied", 4, "nft flush table inet guppy_exit_router"),
    disturbance!("nft ruleset flushed", 4, "nft flush ruleset"),
    disturbance!("nftables.service restarted", 2, "systemctl restart nftables.service"),
    disturbance!(
        "nftables.service reloaded",
        2,
        "systemctl start nftables.service; systemctl reload nftables.service"
    ),
    disturbance!("tailscaled restarted", 1, "systemctl restart tailscaled.service"),
    disturbance!("tailscaled killed", 1, "systemctl kill --signal=KILL tailscaled.service"),
    disturbance!(
        "tailscale0 renamed",
        3,
        "ip link set tailscale0 name stranger",
        "ip link set stranger name tailscale0"
    ),
    disturbance!(
        "tailscale0 down and up",
        1,
        "ip link set tailscale0 down",
        "ip link set tailscale0 up; systemctl restart tailscaled.service"
    ),
    disturbance!(
        "flood of rules",
        2,
        "for i in $(seq 1 500); do
             echo rule add pref $((20000 + i)) from 192.0.2.1 lookup 5000
         done >/tmp/add
         sed s/add/del/ /tmp/add >/tmp/del
         ip -batch /tmp/add; ip -batch /tmp/del; ip -6 rule add pref 30000 lookup 5000; ip -6 rule del pref 30000"
    ),
    disturbance!(
        "flood of routes",
        2,
        "for i in $(seq 1 2000); do
             echo route add 198.18.$((i / 250)).$((i % 250))/32 dev lo table 5001
         done >/tmp/routes
         ip -batch /tmp/routes; ip route flush table 5001"
    ),
    disturbance!("conntrack flushed", 3, "conntrack -F 2>/dev/null"),
    disturbance!("networkd restarted", 1, "systemctl restart systemd-networkd.service"),
    Disturbance {
        name: "cable of the box out and in",
        often: 2,
        happens: |it, _| sh(it, "ip link set eth0 down"),
        ends: |it, _| {
            sh(it, "ip link set eth0 up")?;
            sh(it, &it.internet.way_for(it.guppy.address())?)
        },
    },
    Disturbance { name: "nothing", often: 1, happens: nothing, ends: nothing },
];

/// What the kernel makes at its start, and what tailscaled only makes at its own.
const ALL_RULES: &str = "
    ip rule add pref 32766 lookup main; ip rule add pref 32767 lookup default
    ip -6 rule add pref 32766 lookup main
    systemctl restart tailscaled";
