//! WireGuard: the kernel's where it has one, else wireguard-go; the customer's is wireguard-go.

use std::fs;
use std::process::Command;

use crate::world::{CUSTOMER, Client, World, until};

const PROFILE: &str = "kind = \"wireguard\"\nprobe = { icmp = \"10.20.0.1\" }\n";

fn wg(line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

struct Keys {
    server: String,
    client: String,
    shared: String,
}

/// A world with a config; the server does not run yet.
fn world() -> (World, Keys) {
    let world = World::new(PROFILE);
    let keys = Keys { server: wg("wg genkey"), client: wg("wg genkey"), shared: wg("wg genpsk") };
    let public = |key: &str| wg(&format!("echo {key} | wg pubkey"));
    world.credential(
        "conf",
        &format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.20.0.2/24, fd00:20::2/64\nMTU = 1380\n\
             DNS = 10.20.0.1\n[Peer]\nPublicKey = {}\nPresharedKey = {}\n\
             AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = {CUSTOMER}:51820\n",
            keys.client,
            public(&keys.server),
            keys.shared,
        ),
    );
    fs::write(
        world.at("server/wg.conf"),
        format!(
            "[Interface]\nPrivateKey = {}\nListenPort = 51820\n[Peer]\nPublicKey = {}\n\
             PresharedKey = {}\nAllowedIPs = 10.20.0.2/32, fd00:20::2/128\n",
            keys.server,
            public(&keys.client),
            keys.shared,
        ),
    )
    .unwrap();
    (world, keys)
}

fn serve(world: &mut World) {
    let config = world.at("server/wg.conf").display().to_string();
    world.serve(&format!(
        "WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 wireguard-go --foreground wgs & \
         until wg setconf wgs {config}; do sleep 0.1; done; \
         ip address add 10.20.0.1/24 dev wgs && ip address add fd00:20::1/64 dev wgs nodad && \
         ip link set wgs up && wait"
    ));
}

fn connected() -> (World, Keys, Client) {
    let (mut world, keys) = world();
    serve(&mut world);
    let mut client = world.start();
    client.ready();
    (world, keys, client)
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn it_is_ready_once_a_peer_has_answered_and_not_before() {
    let (mut world, keys) = world();
    let mut client = world.start();
    until("the addresses", || {
        let shown = world.try_sh("ip -o address show dev vpn-acme up").stdout;
        String::from_utf8(shown).unwrap().contains("10.20.0.2/32").then_some(())
    });
    // It has called twice, and nobody was there.
    until("two calls", || {
        let counters = world.sh("cat /proc/net/snmp");
        let sent = counters.lines().rfind(|line| line.starts_with("Udp:"))?.split(' ').nth(4)?;
        (sent.parse::<u32>().ok()? >= 2).then_some(())
    });
    assert!(!client.is_ready());
    serve(&mut world);
    client.ready();
    world.sh("ping -c 1 -W 60 -I vpn-acme 10.20.0.1");
    let link = world.sh("ip -o link show group 5310");
    assert!(link.contains("vpn-acme") && link.contains("mtu 1380"), "{link}");
    let addresses = world.sh("ip -o address show dev vpn-acme scope global");
    assert!(
        addresses.contains("10.20.0.2/32") && addresses.contains("fd00:20::2/128"),
        "{addresses}"
    );
    // Nothing of guppy's own goes there.
    assert_eq!(world.sh("ip route show table main dev vpn-acme"), "");
    let six = world.sh("ip -6 route show table main dev vpn-acme");
    assert!(six.lines().all(|line| line.starts_with("fe80::")), "{six}");
    assert!(!world.sh("ip rule; ip -6 rule").contains("vpn-acme"));
    let said = client.said();
    assert!(said.contains("ignored: DNS"), "{said}");
    for key in [&keys.client, &keys.shared, &keys.server] {
        assert!(!client.seen().contains(key) && !said.contains(key));
    }
    assert_eq!(client.stop().code(), Some(0));
    assert!(!world.has_link());
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn an_interface_that_is_deleted_ends_it_and_one_that_loses_an_address_gets_it_again() {
    let (world, _, mut client) = connected();
    world.sh("ip link set vpn-acme down && ip link set vpn-acme up");
    until("the IPv6 address", || {
        let shown = world.sh("ip -6 -o address show dev vpn-acme scope global");
        shown.contains("fd00:20::2").then_some(())
    });
    world.sh("ip address flush dev vpn-acme");
    until("the IPv4 address", || {
        world.sh("ip -o address show dev vpn-acme").contains("10.20.0.2/32").then_some(())
    });
    world.sh("ping -c 1 -W 60 -I vpn-acme 10.20.0.1");
    world.sh("ip link delete vpn-acme");
    assert_eq!(client.ended().code(), Some(1));
    let said = client.said();
    assert!(said.contains("was deleted") || said.contains("wireguard-go ended"), "{said}");
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn one_that_was_renamed_is_removed_at_the_end_all_the_same() {
    let (world, _, mut client) = connected();
    world
        .sh("ip link set vpn-acme down && ip link set vpn-acme name other && ip link set other up");
    assert_eq!(client.stop().code(), Some(0));
    assert_eq!(world.sh("ip -o link show group 5310"), "");
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn what_is_wrong_is_not_tried_again() {
    let (world, keys) = world();
    world.sh("ip link add vpn-acme type bridge");
    let (status, said) = world.run();
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("ip link delete vpn-acme"), "{said}");
    assert!(world.has_link());
    world.sh("ip link delete vpn-acme");
    let text = format!("[Interface]\nPrivateKey = {}x\n", keys.client);
    world.credential("conf", &text);
    let (status, said) = world.run();
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("guppy-vpn-acme.conf:2: PrivateKey is no key"), "{said}");
    assert!(!said.contains(&keys.client));
    // An address of guppy's own, here of the cable.
    let text = format!(
        "[Interface]\nPrivateKey = {0}\nAddress = {1}\n[Peer]\nPublicKey = {0}\nEndpoint = \
         {CUSTOMER}:51820\n",
        keys.client,
        crate::world::GUPPY,
    );
    world.credential("conf", &text);
    let (status, said) = world.run();
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("guppy's own, on eth0"), "{said}");
    assert!(!world.has_link());
}
