//! What a config file may say, what OpenVPN is given of it, and what it is answered.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use super::file::parse as split;
use super::login;
use super::management::{Said, parse, quoted};
use super::options::{Options, judge};
use crate::client::wrong::Wrong;

fn read(text: &str) -> Result<Options, Wrong> {
    judge(split(text)?)
}

fn rendered(text: &str) -> String {
    read(text).unwrap().render("vpn-acme", Path::new("/run/m"), Path::new("/run"))
}

#[test]
fn a_whole_file_is_passed_on_and_guppys_word_is_the_last() {
    let file = "client\nremote vpn.example.com 1194 udp # one\nremote 2001:db8::1\ndev tun3\n\
                persist-tun\nredirect-gateway def1\ndhcp-option DNS 10.30.0.1\nverb 4\nverb 3\n\
                tun-mtu 1400\nverify-x509-name \"C=DE, CN=a \\\"b\\\"\" name\nauth-user-pass\n<ca>\n\
                -----BEGIN CERTIFICATE-----\n  MII=\n-----END CERTIFICATE-----\n</ca>\n\
                <connection>\nremote x 443 tcp\n</connection>\n";
    let options = read(file).unwrap();
    assert_eq!(options.ignored, ["dev", "persist-tun", "redirect-gateway", "dhcp-option", "verb"]);
    assert_eq!(options.mtu, 1400);
    let text = rendered(file);
    let (theirs, own) = text.split_once("dev \"vpn-acme\"").unwrap();
    assert_eq!(
        theirs,
        "client\nremote \"vpn.example.com\" \"1194\" \"udp\"\nremote \"2001:db8::1\"\n\
         tun-mtu \"1400\"\nverify-x509-name \"C=DE, CN=a \\\"b\\\"\" \"name\"\nauth-user-pass\n<ca>\n\
         -----BEGIN CERTIFICATE-----\nMII=\n-----END CERTIFICATE-----\n</ca>\n\
         <connection>\nremote \"x\" \"443\" \"tcp\"\n</connection>\n"
    );
    for line in [
        "script-security \"0\"",
        "route-nopull",
        "route-noexec",
        "ifconfig-noexec",
        "disable-dco",
        "management \"/run/m\" \"unix\"",
        "pull-filter \"accept\" \"ifconfig \"",
    ] {
        assert!(own.lines().any(|own| own == line), "{line}");
    }
    assert_eq!(own.lines().last(), Some("pull-filter \"ignore\" \"\""));
}

#[test]
fn a_mistake_is_named_with_line_and_remedy() {
    let remote = "remote vpn.example.com\n";
    for (text, expected) in [
        ("up /etc/openvpn/up.sh", "2: up is refused: it would run a program; remove the line"),
        ("--down x", "2: down is refused"),
        ("script-security 2", "2: script-security is refused"),
        ("plugin /lib/x.so", "2: plugin is refused"),
        ("tls-verify x", "2: tls-verify is refused"),
        ("management 127.0.0.1 7505", "2: management is refused: it would let others in"),
        ("management-client", "2: management-client is refused"),
        ("dev tap", "2: dev is not tun"),
        ("dev", "2: dev is not tun"),
        ("config other.conf", "2: \"config\" is not among the options that guppy passes on"),
        ("chroot /", "2: \"chroot\" is not among"),
        ("setenv PATH /tmp", "2: \"setenv\" is not among"),
        ("cd /", "2: \"cd\" is not among"),
        ("http-proxy h 80", "2: \"http-proxy\" is not among"),
        ("server 10.0.0.0 255.0.0.0", "2: \"server\" is not among"),
        ("ifconfig 10.0.0.1 10.0.0.2", "2: \"ifconfig\" is not among"),
        ("ca /etc/ssl/ca.pem", "2: ca names a file, and the client sees none"),
        ("tls-auth ta.key 1", "2: tls-auth names a file"),
        ("auth-user-pass /root/secret", "2: auth-user-pass names a file"),
        ("tun-mtu 100", "2: tun-mtu is not valid"),
        ("<ca>\nx\n", "2: \"ca\" has no end"),
        ("<ca>\nx\n</ca>up x\n", "4: <ca> of line 2 ends with </ca> alone"),
        ("<ca>\nx\n</key>\n", "4: <ca> of line 2 ends with </ca> alone"),
        ("<script>\nx\n</script>\n", "2: <script> is no block"),
        (
            "<connection>\nremote x\nup x\n</connection>",
            "4: \"up\" is not among the options of <connection>",
        ),
        ("cipher \"AES", "2: a quote that does not end"),
        ("cipher A\\ES", "2: a backslash before none of"),
        ("cipher ä", "2: cipher has more than printable ASCII"),
        ("cipher a\u{7}", "2: a control character"),
    ] {
        let said = read(&format!("{remote}{text}")).unwrap_err().to_string();
        assert!(said.starts_with(expected), "{text}\n→ {said}\nwanted: {expected}");
    }
    assert!(read("client\n").unwrap_err().to_string().contains("no remote"));
    let long = format!("{remote}cipher {}", "a".repeat(300));
    assert!(read(&long).unwrap_err().to_string().starts_with("2: longer than 254 bytes"));
}

#[test]
fn an_error_has_no_key_in_it() {
    // A key whose <key> was lost.
    let key = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7";
    let said = read(&format!("remote x\n{key}\n")).unwrap_err().to_string();
    assert_eq!(
        said,
        "2: what stands here (not shown) is not among the options that guppy passes on: remove the \
         line"
    );
    assert!(!format!("{:?}", split(&format!("<key>\n{key}\n</key>\n")).unwrap()).contains(key));
}

#[test]
fn lines_of_the_management_socket() {
    let addresses = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
    for (line, said) in [
        (">HOLD:Waiting for hold release:0", Said::Hold),
        (
            ">STATE:1700000000,CONNECTED,SUCCESS,10.8.0.6,192.0.2.1,1194,,,fd00:30::2",
            Said::Connected(addresses(&["10.8.0.6", "fd00:30::2"])),
        ),
        (
            ">STATE:1700000000,CONNECTED,SUCCESS,10.8.0.6,192.0.2.1,1194,192.0.2.9,999",
            Said::Connected(addresses(&["10.8.0.6"])),
        ),
        (">STATE:1700000000,CONNECTED,SUCCESS,,,,", Said::Connected(Vec::new())),
        (">STATE:1,RECONNECTING,ping-restart,,,,,", Said::Reconnecting("ping-restart".into())),
        (">STATE:1,AUTH,,,,,,", Said::Other),
        (">UPDOWN:ENV,tun_mtu=1380", Said::Mtu(1380)),
        (">UPDOWN:ENV,tun_mtu=70000", Said::Other),
        (">UPDOWN:ENV,trusted_ip=192.0.2.1", Said::Other),
        (">PASSWORD:Need 'Auth' username/password", Said::NeedLogin { challenge: false }),
        (
            ">PASSWORD:Need 'Auth' username/password SC:1,Your code",
            Said::NeedLogin { challenge: true },
        ),
        (">PASSWORD:Need 'Private Key' password", Said::NeedPassword("Private Key".into())),
        (">PASSWORD:Verification Failed: 'Auth'", Said::Refused { challenge: None }),
        (">PASSWORD:Verification Failed: 'Auth' ['locked']", Said::Refused { challenge: None }),
        (
            ">PASSWORD:Verification Failed: 'Auth' ['CRV1:R,E:Om01:dXNlcg==:Your code: 5']",
            Said::Refused { challenge: Some("Om01".into()) },
        ),
        (">PASSWORD:Auth-Token:secret", Said::Other),
        (">INFOMSG:CR_TEXT:R,E:Your code", Said::Challenge),
        (">FATAL:no\u{1b}[2J", Said::Fatal("no?[2J".into())),
        ("SUCCESS: hold release succeeded", Said::Other),
        ("", Said::Other),
        (">", Said::Other),
    ] {
        assert_eq!(parse(line), said, "{line}");
    }
}

#[test]
fn a_login_is_a_line_each() {
    let (user, password) = login::parse("anna\r\np \"w\\\n");
    assert_eq!((user.as_str(), password.unwrap().0.as_str()), ("anna", "p \"w\\"));
    assert!(login::parse("anna\n").1.is_none());
    assert_eq!(quoted("p \"w\\\nsignal SIGTERM"), "\"p \\\"w\\\\signal SIGTERM\"");
}

/// What OpenVPN makes of words in quotes: the same reading as a file's.
fn again(words: &[String]) -> Vec<String> {
    let escaped =
        |word: &String| format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""));
    let line = format!("cipher {}", words.iter().map(escaped).collect::<Vec<_>>().join(" "));
    split(&line).unwrap().remove(0).words
}

proptest! {
    /// Whatever a file says, none of its lines reaches OpenVPN behind guppy's own, and none runs a
    /// program.
    #[test]
    fn no_file_reaches_past_the_list(lines in prop::collection::vec(
        prop_oneof![
            "[a-z-]{1,12}( [!-~]{0,8}){0,3}",
            "(up|down|plugin|management|config|remote|cipher|<ca>|</ca>|<connection>|</connection>) ?[ -~]{0,20}",
            "[ -~]{0,40}",
        ], 0..8)
    ) {
        let Ok(options) = read(&format!("remote x\n{}", lines.join("\n"))) else { return Ok(()) };
        let text = options.render("vpn-a", Path::new("/m"), Path::new("/f"));
        let first = text.lines().position(|line| line == "dev \"vpn-a\"").unwrap();
        prop_assert_eq!(text.lines().count() - first, 21 + 14 + 1);
        let mut block = false;
        for line in text.lines().take(first) {
            let name = line.split(' ').next().unwrap();
            block = if name.starts_with("</") { false } else { block || name.starts_with('<') };
            let programs = ["up", "down", "plugin", "management", "config", "tls-verify"];
            prop_assert!(block || !programs.contains(&name), "{}", line);
        }
    }

    #[test]
    fn words_survive_quotes(words in prop::collection::vec("[ -~]{0,20}", 0..5)) {
        prop_assert_eq!(again(&words), words);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(?s).{0,300}") {
        let _ = read(&text);
        let _ = parse(&text);
    }

    /// A server's words in a line are never taken for another line's addresses.
    #[test]
    fn only_addresses_are_addresses(v4 in "[ -+.-~]{0,20}", v6 in "[ -+.-~]{0,20}") {
        let said = parse(&format!(">STATE:1,CONNECTED,SUCCESS,{v4},,,,,{v6}"));
        let Said::Connected(addresses) = said else { panic!("{said:?}") };
        let valid = [&v4, &v6].into_iter().filter(|one| one.parse::<IpAddr>().is_ok()).count();
        prop_assert_eq!(addresses.len(), valid);
    }

    /// A password never is more than a word of one command.
    #[test]
    fn a_quoted_word_is_one_line(word in "(?s).{0,60}") {
        let text = quoted(&word);
        prop_assert!(!text.contains('\n') && !text.contains('\r'));
        prop_assert!(text.len() >= 2 && text.starts_with('"') && text.ends_with('"'));
    }
}
