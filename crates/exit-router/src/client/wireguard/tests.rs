//! What a config file may say, and how a mistake in one is told.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::base64;
use super::file::parse;
use crate::prefix::Family;

const PRIVATE: &str = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
const PUBLIC: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const PRESHARED: &str = "FpCyhws9cxwWoV4xELtfJvjJN+zQVRPISllRWgeopVE=";

fn whole() -> String {
    format!(
        "# acme\n[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.20.0.2/24, fd00:20::2/64\n\
         MTU = 1380\nDNS = 10.20.0.1\nTable = off\nSaveConfig = true\nFwMark = 0x1\ndns = 10.20.0.2\n\
         ListenPort = 0\n\n[Peer] # the customer\nPublicKey = {PUBLIC}\nPresharedKey={PRESHARED}\n\
         AllowedIPs = 0.0.0.0/0, 10.20.0.1/16\nEndpoint = vpn.example.com:51820\n"
    )
}

#[test]
fn a_whole_file_is_read_and_rendered() {
    let file = parse(&whole()).unwrap();
    assert_eq!(
        file.addresses,
        ["10.20.0.2", "fd00:20::2"].map(|one| one.parse::<IpAddr>().unwrap())
    );
    assert_eq!(file.mtu, Some(1380));
    assert_eq!(file.ignored, ["DNS", "Table", "SaveConfig", "FwMark"]);
    assert_eq!(file.default_routes(), [Family::V4]);
    assert_eq!(
        file.render(25).0,
        format!(
            "[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 0\n[Peer]\nPublicKey = {PUBLIC}\n\
             PresharedKey = {PRESHARED}\nAllowedIPs = 0.0.0.0/0, 10.20.0.0/16\n\
             Endpoint = vpn.example.com:51820\nPersistentKeepalive = 25\n"
        )
    );
    assert!(!format!("{file:?}").contains(PRIVATE));
    assert!(!file.is_plain(&format!("x{PRESHARED}y")) && file.is_plain(PUBLIC));
}

#[test]
fn a_mistake_is_named_with_line_value_and_remedy() {
    let interface = format!("[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.20.0.2\n");
    let peer = format!("[Peer]\nPublicKey = {PUBLIC}\nEndpoint = 192.0.2.1:51820\n");
    for (text, expected) in [
        (
            format!("{interface}PostUp = iptables -F\n{peer}"),
            "4: \"PostUp\" is refused: it would run a command; remove the line",
        ),
        (format!("{interface}predown = x\n{peer}"), "4: \"predown\" is refused"),
        (format!("{interface}Adress = 10.0.0.1\n{peer}"), "4: \"Adress\" is no key here"),
        (format!("{interface}{peer}Endpont = x\n"), "7: \"Endpont\" is no key here: PublicKey"),
        (
            format!("{interface}MTU = 100\n{peer}"),
            "4: MTU = \"100\" is not valid: write a number from 576 to 65455",
        ),
        (
            format!("{interface}PrivateKey = {PRIVATE}\n{peer}"),
            "4: \"PrivateKey\" stands here twice",
        ),
        (format!("{interface}{peer}{interface}"), "7: a second [Interface]"),
        (format!("{interface}{peer}{peer}"), "7: this [Peer] has the PublicKey of one before"),
        (format!("{interface}[Peer]\nEndpoint = 192.0.2.1:1\n"), "4: this [Peer] has no PublicKey"),
        (format!("{interface}[Peer]\nPublicKey = {PUBLIC}\n"), " no [Peer] has an Endpoint"),
        (
            format!("{interface}[Peer]\nEndpoint = 2001:db8::1:51820\n"),
            "5: Endpoint = \"2001:db8::1:51820\" is not valid",
        ),
        (format!("{interface}[Peer]\nEndpoint = -x:51820\n"), "5: Endpoint"),
        (format!("{interface}[Peer]\nEndpoint = host:0\n"), "5: Endpoint"),
        (
            format!("{interface}[Peer]\nAllowedIPs = 10.0.0.0/33\n"),
            "5: AllowedIPs = \"10.0.0.0/33\" is not valid",
        ),
        (format!("[Interface]\nAddress = 10.20.0.2\n{peer}"), " [Interface] has no PrivateKey"),
        (format!("[Interface]\nPrivateKey = {PRIVATE}\n{peer}"), " [Interface] has no Address"),
        (format!("Address = 10.20.0.2\n{interface}"), "1: \"Address\" stands before [Interface]"),
        ("[Interface]\nAddress\n".to_owned(), "2: \"Address\" is no KEY = VALUE"),
    ] {
        let said = parse(&text).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{text}\n→ {said}\nwanted: {expected}");
    }
}

#[test]
fn an_error_has_no_key_in_it() {
    let short = PRIVATE.trim_end_matches('=');
    for text in [
        format!("[Interface]\nPrivateKey = {short}\n"),
        format!("[Interface]\nPrivateKey = {PRIVATE}{PRIVATE}\n"),
        format!("[Interface]\n{PRIVATE}\n"),
        format!("[Interface]\n{short}\n"),
        format!("{PRIVATE} = x\n"),
        format!("[Interface]\n[Peer]\nPresharedKey = {short}!\n"),
        // Two of the last letter's bits are no key's.
        format!("[Interface]\nPrivateKey = {}l=\n", &PRIVATE[..42]),
    ] {
        let said = parse(&text).unwrap_err();
        assert!(said.line.is_some() && !said.to_string().contains(&PRIVATE[..8]), "{said}");
    }
}

proptest! {
    /// No text makes it fail in another way than with an error, and what it takes has no line in it
    /// that the file did not have a key for.
    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,400}") {
        if let Ok(file) = parse(&text) {
            prop_assert!(!file.peers.is_empty());
        }
    }

    #[test]
    fn what_is_rendered_is_read_again(
        keys in prop::collection::vec(prop::array::uniform32(any::<u8>()), 2..5),
        allowed in prop::collection::vec((any::<u32>(), 0..=32_u8), 0..4),
        port: u16,
        keepalive in 1..=u16::MAX,
    ) {
        let mut keys = keys.iter().map(|bytes| base64::encode(bytes));
        let mut text = format!("[Interface]\nPrivateKey={}\nAddress=10.0.0.1\n", keys.next().unwrap());
        for key in keys {
            text += &format!("[peer]\nPublicKey={key}\nEndpoint=h:{}\n", port.max(1));
            for (address, length) in &allowed {
                text += &format!("AllowedIPs={}/{length}\n", std::net::Ipv4Addr::from_bits(*address));
            }
        }
        // Two equal keys are one peer.
        if let Ok(file) = parse(&text) {
            let again = format!("Address=10.0.0.1\n{}", file.render(keepalive).0.split_off(12));
            let again = parse(&format!("[Interface]\n{again}")).unwrap();
            prop_assert_eq!(again.render(1).0, file.render(keepalive).0);
        }
    }
}
