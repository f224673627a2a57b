//! What a profile may say, and how a mistake in one is told.

#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;

use super::*;

fn read(text: &str) -> Result<Profile, String> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("acme.toml"), text).unwrap();
    service::config::load_files(&[folder.path().join("acme.toml")])
        .map_err(|error| error.to_string().rsplit_once("acme.toml:").unwrap().1.to_owned())
}

#[test]
fn each_kind_is_read() {
    let wireguard = read(
        "kind = \"wireguard\"\nprefixes = [\"10.20.0.0/16\"]\nprobe = { icmp = \"10.20.0.1\" }\n",
    )
    .unwrap();
    assert_eq!(wireguard.interface("acme"), "vpn-acme");
    assert_eq!(wireguard.probe.to_string(), "icmp 10.20.0.1");
    let openvpn = read(
        "kind = \"openvpn\"\nprobe = { http = \"http://10.30.0.1/ip\" }\ninteractive = true\n",
    )
    .unwrap();
    assert!(openvpn.interactive);
    assert_eq!(openvpn.probe.to_string(), "http://10.30.0.1:80/ip");
    let unit =
        read("kind = \"unit\"\ninterface = \"ppp0\"\nprobe = { tcp = \"[fd00::1]:443\" }").unwrap();
    assert_eq!(unit.interface("acme"), "ppp0");
    assert_eq!(unit.probe.to_string(), "tcp [fd00::1]:443");
}

#[test]
fn a_mistake_is_named_with_line_value_and_remedy() {
    let probe = "probe = { icmp = \"10.20.0.1\" }";
    for (text, expected) in [
        (
            format!("kind = \"wiregard\"\n{probe}"),
            "1:8: kind = \"wiregard\": unknown value \"wiregard\"; did you mean \"wireguard\"?",
        ),
        (
            format!("kind = \"unit\"\n{probe}"),
            "1:1: kind = \"unit\" is not valid: say with it interface",
        ),
        (
            format!("kind = \"openvpn\"\ninterface = \"tun0\"\n{probe}"),
            "2:1: interface = \"tun0\" is not valid",
        ),
        (
            format!("kind = \"openvpn\"\nprefixes = [\"0.0.0.0/0\"]\n{probe}"),
            "2:1: prefixes = \"0.0.0.0/0\" is not valid",
        ),
        (format!("kind = \"openvpn\"\nprefixes = [\"100.100.0.0/16\"]\n{probe}"), "the tailnet's"),
        (
            format!("kind = \"openvpn\"\nprefixes = [\"10.20.0.1/16\"]\n{probe}"),
            "do you mean \"10.20.0.0/16\"?",
        ),
        ("kind = \"openvpn\"".to_owned(), "missing field `probe`"),
        (
            "kind = \"openvpn\"\nprobe = { ping = \"10.0.0.1\" }".to_owned(),
            "unknown value \"ping\"",
        ),
        (
            "kind = \"openvpn\"\nprobe = { http = \"https://example.com/\" }".to_owned(),
            "write http://ADDRESS",
        ),
        (
            "kind = \"openvpn\"\nprobe = { tcp = \"100.64.0.1:80\" }".to_owned(),
            "2:1: probe = \"tcp 100.64.0.1:80\" is not valid",
        ),
        (format!("kind = \"openvpn\"\nconfg = 1\n{probe}"), "2:1: unknown key \"confg\""),
    ] {
        let said = read(&text).unwrap_err();
        assert!(said.contains(expected), "{text}\n→ {said}\nwanted: {expected}");
    }
}

#[test]
fn names_fit_into_an_interface_and_a_unit() {
    for name in ["acme", "a", "4u", "eleven-char"] {
        assert!(is_name(name), "{name}");
    }
    for name in ["", "twelve-chars", "Acme", "-x", "a_b", "a.b", "a/b", "ä"] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn a_profile_that_others_may_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("acme.toml");
    fs::write(&file, "kind = \"wireguard\"\nprobe = { icmp = \"10.20.0.1\" }\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o664)).unwrap();
    let said = load(folder.path(), "acme").unwrap_err();
    assert!(said.contains("nobody else may write it"), "{said}");
    assert_eq!(names(folder.path()).unwrap(), ["acme"]);
    let said = load(folder.path(), "other").unwrap_err();
    assert!(said.contains("there is no profile other"), "{said}");
}
