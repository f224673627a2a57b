//! A WireGuard config as wg-quick(8) takes it, without what would change this box: `DNS` and `Table`
//! are ignored by name, commands are refused.

use std::net::IpAddr;

use tracing::info;

use crate::prefix::Prefix;

/// What wg-quick(8) makes of a path MTU of 1500: the outer IPv6 and UDP headers and WireGuard's own.
const MTU: u32 = 1420;

/// What is taken from it.
#[derive(Debug, Default)]
pub(super) struct WireGuard {
    /// Of the interface.
    pub(super) addresses: Vec<IpAddr>,
    /// In bytes.
    pub(super) mtu: u32,
    /// For `wg setconf` (wg(8)); holds the keys.
    pub(super) setconf: String,
    /// Ignored by name.
    ignored: Vec<String>,
}

impl WireGuard {
    /// Reads it.
    ///
    /// # Errors
    /// For people: line, key, and what to do.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut config = Self { mtu: MTU, ..Self::default() };
        let mut section = String::new();
        let (mut has_key, mut peers) = (false, 0);
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            let wrong = |what: &str| format!("guppy-vpn-NAME.conf:{}: {what}", number + 1);
            if line.is_empty() {
                continue;
            }
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                section = name.to_ascii_lowercase();
                match section.as_str() {
                    "interface" => config.setconf.push_str("[Interface]\n"),
                    "peer" => {
                        peers += 1;
                        config.setconf.push_str("[Peer]\n");
                    }
                    _ => {
                        return Err(wrong(&format!(
                            "[{name}] is no section: [Interface] or [Peer]"
                        )));
                    }
                }
                continue;
            }
            // A value may be a key: it is never shown.
            let (key, value) = line
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .ok_or_else(|| wrong("it is neither a section nor \"Key = value\""))?;
            let lower = key.to_ascii_lowercase();
            match (section.as_str(), lower.as_str()) {
                ("interface", "address") => {
                    for address in value.split(',') {
                        let address = address.trim();
                        let host = address.split('/').next().unwrap_or_default();
                        let host = host.parse().map_err(|_| {
                            wrong(&format!("Address = {address} is no address, as in 10.8.0.2/32"))
                        })?;
                        config.addresses.push(host);
                    }
                }
                ("interface", "mtu") => {
                    config.mtu =
                        value.parse().ok().filter(|mtu| (576..=65_535).contains(mtu)).ok_or_else(
                            || {
                                wrong(&format!(
                                    "MTU = {value} is none: say 576 to 65535, or leave it out"
                                ))
                            },
                        )?;
                }
                ("interface", "dns" | "table" | "saveconfig" | "fwmark") => {
                    config.ignored.push(key.to_owned());
                }
                ("interface", "preup" | "postup" | "predown" | "postdown") => {
                    return Err(wrong(&format!(
                        "{key} is refused: a customer's config runs no commands here; remove the line"
                    )));
                }
                ("interface", "privatekey" | "listenport")
                | (
                    "peer",
                    "publickey"
                    | "presharedkey"
                    | "allowedips"
                    | "endpoint"
                    | "persistentkeepalive",
                ) => {
                    has_key |= lower == "privatekey";
                    if lower == "allowedips" {
                        for network in
                            value.split(',').map(str::trim).filter(|text| !text.is_empty())
                        {
                            // wg(8) takes bits behind the length.
                            let (host, _) = network.split_once('/').unwrap_or((network, ""));
                            host.parse::<IpAddr>().map(Prefix::host).map_err(|_| {
                                wrong(&format!("AllowedIPs = {network} is no network"))
                            })?;
                        }
                    }
                    config.setconf.push_str(&format!("{key} = {value}\n"));
                }
                ("", _) => return Err(wrong("it stands before [Interface]")),
                _ => {
                    return Err(wrong(&format!(
                        "{key} is no key of [{section}] that is known here: remove the line"
                    )));
                }
            }
        }
        if !has_key || peers == 0 || config.addresses.is_empty() {
            let what = "guppy-vpn-NAME.conf: it needs [Interface] with PrivateKey and Address, and a \
                        [Peer]";
            return Err(what.to_owned());
        }
        Ok(config)
    }

    /// Says what was left out.
    pub(super) fn tell(&self) {
        if !self.ignored.is_empty() {
            info!(
                "ignored, since this box's own names and routes stay: {}",
                self.ignored.join(", ")
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: &str = "[Interface]\nPrivateKey = kkkk=\nAddress = 10.8.0.2/24, fd08::2/64\nDNS = 10.8.0.1\n\
                        Table = 7\nMTU = 1380\n\n# theirs\n[Peer]\nPublicKey = pppp=\nEndpoint = 203.0.113.1:51820\n\
                        AllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 25\n";

    #[test]
    fn what_would_change_this_box_is_left_out() {
        let config = WireGuard::parse(GOOD).unwrap();
        assert_eq!(config.mtu, 1380);
        let addresses: Vec<_> = config.addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["10.8.0.2", "fd08::2"]);
        assert_eq!(config.ignored, ["DNS", "Table"]);
        assert_eq!(
            config.setconf,
            "[Interface]\nPrivateKey = kkkk=\n[Peer]\nPublicKey = pppp=\nEndpoint = \
             203.0.113.1:51820\nAllowedIPs = 0.0.0.0/0, ::/0\nPersistentKeepalive = 25\n"
        );
    }

    #[test]
    fn mistakes_are_named_with_their_line_and_no_key_is_shown() {
        for (from, to, expected) in [
            ("DNS = 10.8.0.1", "PostUp = rm -rf /", "4: PostUp is refused"),
            ("MTU = 1380", "MTU = 80", "6: MTU = 80 is none"),
            ("Address = 10.8.0.2/24, ", "Address = 10.8.0.260/24, ", "3: Address = 10.8.0.260/24"),
            ("[Peer]", "[Pear]", "9: [Pear] is no section"),
            ("PublicKey", "PublicKeys", "10: PublicKeys is no key of [peer]"),
            ("PrivateKey = kkkk=", "PrivateKey: kkkk", "2: it is neither"),
            ("[Interface]\n", "", "1: it stands before [Interface]"),
            ("PrivateKey = kkkk=\n", "", "it needs [Interface] with PrivateKey"),
            ("AllowedIPs = 0.0.0.0/0", "AllowedIPs = all", "12: AllowedIPs = all is no network"),
        ] {
            let said = WireGuard::parse(&GOOD.replacen(from, to, 1)).unwrap_err();
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("kkkk"), "{said}");
        }
    }
}
