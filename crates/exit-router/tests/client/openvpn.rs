//! OpenVPN, with a server that asks for a login and pushes what it likes.

use std::fs;
use std::process::Command;

use crate::world::{CUSTOMER, GUPPY, World};

const PROFILE: &str = "kind = \"openvpn\"\nprobe = { icmp = \"10.8.0.1\" }\n";
/// Where the server writes each login that it has judged.
const ASKED: &str = "server/asked";

/// A server that pushes `pushed` by itself, has `more` in its config, and takes the user anna with the
/// password `right`.
fn serve(world: &mut World, pushed: &[&str], more: &str, right: &str) {
    let folder = world.at("server").display().to_string();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-nodes", "-days", "2", "-subj", "/CN=customer"])
        .args(["-keyout", &format!("{folder}/key"), "-out", &format!("{folder}/cert")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    fs::write(world.at("server/right"), format!("anna\n{right}\n")).unwrap();
    fs::write(
        world.at("server/judge"),
        format!("#!/bin/sh\necho asked >>{folder}/asked\ncat \"$1\" >{folder}/last\nexec cmp -s \"$1\" {folder}/right\n"),
    )
    .unwrap();
    let pushes: String = pushed.iter().map(|push| format!("push \"{push}\"\n")).collect();
    fs::write(
        world.at("server/conf"),
        format!(
            "mode server\ntls-server\nproto udp\nlocal {CUSTOMER}\ndev tuns\ndev-type tun\n\
             topology subnet\nifconfig 10.8.0.1 255.255.255.0\nifconfig-ipv6 fd00:30::1/64 fd00:30::2\n\
             push \"topology subnet\"\n{pushes}{more}ca {folder}/cert\ncert {folder}/cert\nkey {folder}/key\ndh none\n\
             verify-client-cert none\nscript-security 2\nauth-user-pass-verify {folder}/judge via-file\n\
             tmp-dir {folder}\nkeepalive 1 30\nverb 3\n"
        ),
    )
    .unwrap();
    Command::new("chmod").args(["755", &format!("{folder}/judge")]).status().unwrap();
    world.serve(&format!("exec openvpn --config {folder}/conf"));
    world.serves("Initialization Sequence Completed");
}

fn config(world: &World, more: &str) {
    let certificate = world.at("server/cert").display().to_string();
    let print = ["x509", "-in", &certificate, "-noout", "-fingerprint", "-sha256"];
    let print = Command::new("openssl").args(print).output().unwrap();
    let print = String::from_utf8(print.stdout).unwrap();
    let print = print.trim().split_once('=').unwrap().1;
    let text = format!(
        "client\ndev tun\nproto udp\nremote {CUSTOMER} 1194\nnobind\nauth-user-pass\n\
         redirect-gateway def1\n{more}<peer-fingerprint>\n{print}\n</peer-fingerprint>\n"
    );
    world.credential("conf", &text);
}

fn asked(world: &World) -> usize {
    fs::read_to_string(world.at(ASKED)).unwrap_or_default().lines().count()
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn a_server_gets_the_address_through_and_nothing_else() {
    let mut world = World::new(PROFILE);
    let pushed = [
        "redirect-gateway def1 ipv6",
        "route 203.0.113.0 255.255.255.0",
        "route-ipv6 2001:db8:2::/64",
        "dhcp-option DNS 10.8.0.1",
        "setenv-safe X 1",
        "route-gateway 10.8.0.1",
    ];
    // A server lets nothing through from an address that it has not given out itself, and pushes the MTU
    // that it has itself.
    let more = "ifconfig-pool 10.8.0.6 10.8.0.9 255.255.255.0\nifconfig-ipv6-pool fd00:30::6/64\n\
                tun-mtu 1380\n";
    serve(&mut world, &pushed, more, "p w\\\"#");
    config(&world, "");
    world.credential("auth", "anna\np w\\\"#\n");
    let routes = world.sh("ip route; ip -6 route");
    let mut client = world.start();
    client.ready();
    let addresses = world.sh("ip -o address show dev vpn-acme scope global");
    assert!(
        addresses.contains("10.8.0.6/32") && addresses.contains("fd00:30::6/128"),
        "{addresses}"
    );
    let link = world.sh("ip -o link show group 5310");
    assert!(link.contains("vpn-acme") && link.contains("mtu 1380"), "{link}");
    world.sh("ping -c 1 -W 60 -I vpn-acme 10.8.0.1");
    let now = world.sh("ip route; ip -6 route");
    let added: Vec<&str> = now.lines().filter(|line| !routes.contains(*line)).collect();
    assert!(added.iter().all(|line| line.starts_with("fe80::/64 dev vpn-acme")), "{added:?}");
    // Not one capability, and no way to get one.
    let openvpn = client.children("openvpn");
    assert_eq!(openvpn.len(), 1);
    let status = fs::read_to_string(format!("/proc/{}/status", openvpn[0])).unwrap();
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        let line = status.lines().find(|line| line.starts_with(set)).unwrap();
        let none = line.ends_with("0000000000000000") || set == "CapInh";
        assert!(none, "{line}");
    }
    assert!(status.contains("NoNewPrivs:\t1"));
    assert!(!client.seen().contains("p w\\"));
    assert_eq!(client.stop().code(), Some(0));
    assert!(!world.has_link());
    // It has said good-bye.
    assert!(!client.said().contains("p w\\"), "{}", client.said());
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn an_address_of_guppys_or_of_a_peer_is_refused() {
    for (address, why) in [
        (GUPPY, "guppy's own, on eth0"),
        ("100.64.0.7", "tailnet"),
        ("198.51.100.99", "lies behind eth0"),
    ] {
        let mut world = World::new(PROFILE);
        serve(&mut world, &[&format!("ifconfig {address} 255.255.255.0")], "", "pw");
        config(&world, "");
        world.credential("auth", "anna\npw\n");
        let mut client = world.start();
        let status = client.ended();
        assert_eq!(status.code(), Some(78), "{}", client.said());
        assert!(client.said().contains(why), "{}", client.said());
        assert!(!client.is_ready() && !world.has_link());
    }
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn two_refused_logins_park_the_profile_until_somebody_asks_again() {
    let mut world = World::new(PROFILE);
    serve(&mut world, &["ifconfig 10.8.0.6 255.255.255.0"], "", "right");
    config(&world, "");
    world.credential("auth", "anna\nwrong\n");
    world.asked(1);
    let (status, said) = world.run();
    assert_eq!((status, asked(&world)), (Some(1), 1), "{said}");
    let (status, said) = world.run();
    assert_eq!((status, asked(&world)), (Some(77), 2), "{said}");
    assert!(said.contains("parked until `guppy vpn up acme`"), "{said}");
    // From now on the server is not even asked.
    let (status, said) = world.run();
    assert_eq!((status, asked(&world)), (Some(77), 2), "{said}");
    assert!(!said.contains("wrong"), "{said}");
    world.asked(2);
    world.credential("auth", "anna\nright\n");
    let mut client = world.start();
    client.ready();
    assert_eq!(asked(&world), 3);
    assert_eq!(client.stop().code(), Some(0));
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn a_one_time_code_is_sent_with_the_password_and_only_once() {
    let mut world = World::new(&format!("{PROFILE}interactive = true\n"));
    // "right" and "123456".
    serve(&mut world, &["ifconfig 10.8.0.6 255.255.255.0"], "", "SCRV1:cmlnaHQ=:MTIzNDU2");
    config(&world, "static-challenge \"Your code\" 1\n");
    world.credential("auth", "anna\nright\n");
    let (status, said) = world.run();
    assert_eq!((status, asked(&world)), (Some(77), 0), "{said}");
    assert!(said.contains("one-time code"), "{said}");
    world.credential("code", "123456\n");
    world.asked(1);
    let mut client = world.start();
    client.ready();
    assert_eq!(client.stop().code(), Some(0));
    assert!(!client.said().contains("123456"));
    // The file with the code is still there.
    let (status, said) = world.run();
    assert_eq!((status, asked(&world)), (Some(77), 1), "{said}");
}

#[test]
#[ignore = "needs root for network namespaces: tests/run runs it as root"]
fn what_openvpn_does_not_take_is_not_tried_again() {
    let mut world = World::new(PROFILE);
    serve(&mut world, &[], "", "right");
    config(&world, "cipher\n");
    let (status, said) = world.run();
    assert_eq!(status, Some(78), "{said}");
    config(&world, "up /tmp/up\n");
    let (status, said) = world.run();
    assert_eq!(status, Some(78), "{said}");
    assert!(said.contains("guppy-vpn-acme.conf:8: up is refused"), "{said}");
    assert!(!world.has_link());
}
