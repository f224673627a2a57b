//! An OpenVPN config, option by option: those that concern the connection are passed on, those that
//! would change this box's routes, names or users are ignored by name, and all else is refused, above
//! all what runs programs or touches files (openvpn(8)).

/// Passed on as they are.
const PASSED: [&str; 53] = [
    "client",
    "tls-client",
    "pull",
    "remote",
    "remote-random",
    "proto",
    "port",
    "lport",
    "rport",
    "local",
    "bind",
    "nobind",
    "float",
    "resolv-retry",
    "connect-retry",
    "connect-retry-max",
    "connect-timeout",
    "server-poll-timeout",
    "hand-window",
    "tran-window",
    "reneg-sec",
    "reneg-bytes",
    "reneg-pkts",
    "keepalive",
    "ping",
    "ping-restart",
    "persist-key",
    "persist-tun",
    "remote-cert-tls",
    "remote-cert-ku",
    "remote-cert-eku",
    "verify-x509-name",
    "peer-fingerprint",
    "tls-version-min",
    "tls-version-max",
    "tls-cipher",
    "tls-ciphersuites",
    "tls-groups",
    "tls-cert-profile",
    "cipher",
    "data-ciphers",
    "data-ciphers-fallback",
    "auth",
    "key-direction",
    "mssfix",
    "fragment",
    "sndbuf",
    "rcvbuf",
    "replay-window",
    "explicit-exit-notify",
    "compress",
    "comp-lzo",
    "push-peer-info",
];

/// Ignored by name.
const IGNORED: [&str; 35] = [
    "dev",
    "dev-type",
    "tun-mtu",
    "redirect-gateway",
    "redirect-private",
    "route",
    "route-ipv6",
    "route-metric",
    "route-delay",
    "route-method",
    "route-nopull",
    "route-noexec",
    "route-gateway",
    "ifconfig-nowarn",
    "ifconfig-noexec",
    "dhcp-option",
    "block-outside-dns",
    "register-dns",
    "block-ipv6",
    "user",
    "group",
    "daemon",
    "verb",
    "mute",
    "mute-replay-warnings",
    "auth-nocache",
    "auth-retry",
    "auth-user-pass",
    "static-challenge",
    "script-security",
    "pull-filter",
    "ignore-unknown-option",
    "allow-compression",
    "ncp-ciphers",
    "setenv",
];

/// Keys and certificates, which stand in the file itself.
const INLINE: [&str; 10] = [
    "ca",
    "cert",
    "key",
    "tls-auth",
    "tls-crypt",
    "tls-crypt-v2",
    "extra-certs",
    "pkcs12",
    "crl-verify",
    "secret",
];

/// The tunnel's MTU unless the file says another, in bytes (openvpn(8), --tun-mtu).
const MTU: u32 = 1500;

/// What is taken from it.
#[derive(Debug)]
pub(super) struct OpenVpn {
    /// For `openvpn --config stdin`; holds keys.
    pub(super) text: String,
    /// Of the device, in bytes.
    pub(super) mtu: u32,
    /// A name and a password are wanted.
    pub(super) wants_auth: bool,
    /// Ignored by name.
    pub(super) ignored: Vec<String>,
}

impl OpenVpn {
    /// Reads it.
    ///
    /// # Errors
    /// For people: line, option, and what to do.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut config =
            Self { text: String::new(), mtu: MTU, wants_auth: false, ignored: Vec::new() };
        let mut open: Option<(String, usize)> = None;
        for (number, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            let wrong = |what: String| format!("guppy-vpn-NAME.conf:{}: {what}", number + 1);
            if let Some((tag, _)) = &open {
                config.text.push_str(line);
                config.text.push('\n');
                if trimmed == format!("</{tag}>") {
                    open = None;
                }
                continue;
            }
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                continue;
            }
            if let Some(tag) = trimmed.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) {
                if !INLINE.contains(&tag) {
                    return Err(wrong(format!(
                        "<{tag}> is not taken here: keys and certificates are, each in a block"
                    )));
                }
                config.text.push_str(line);
                config.text.push('\n');
                open = Some((tag.to_owned(), number + 1));
                continue;
            }
            let mut words = trimmed.split_whitespace();
            let first = words.next().unwrap_or_default();
            let option = first.strip_prefix("--").unwrap_or(first);
            let value = words.next();
            config.option(option, value, trimmed).map_err(wrong)?;
        }
        if let Some((tag, number)) = open {
            return Err(format!(
                "guppy-vpn-NAME.conf:{number}: <{tag}> is not closed: </{tag}> is missing"
            ));
        }
        Ok(config)
    }

    fn option(&mut self, option: &str, value: Option<&str>, line: &str) -> Result<(), String> {
        if INLINE.contains(&option) {
            return Err(format!(
                "{option} names a file, which the client cannot see: put its content here, between \
                 <{option}> and </{option}>"
            ));
        }
        if option == "auth-user-pass" && value.is_some() {
            return Err(
                "auth-user-pass names a file: leave only the word, and put name and password, a line \
                 each, as guppy-vpn-NAME.auth beside this config"
                    .to_owned(),
            );
        }
        if option == "tun-mtu" {
            self.mtu = value
                .and_then(|value| value.parse().ok())
                .filter(|mtu| (576..=65_535).contains(mtu))
                .ok_or("tun-mtu: say 576 to 65535, or leave it out")?;
        }
        self.wants_auth |= option == "auth-user-pass";
        if IGNORED.contains(&option) {
            self.ignored.push(option.to_owned());
            return Ok(());
        }
        if !PASSED.contains(&option) {
            return Err(format!(
                "{option} is refused: it may run programs, touch files or change this box, or is not \
                 known here; remove the line"
            ));
        }
        self.text.push_str(line);
        self.text.push('\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GOOD: &str = "client\ndev tun\nproto udp\nremote 203.0.113.1 1194\nredirect-gateway def1\n\
                        auth-user-pass\ntun-mtu 1400\n# theirs\nremote-cert-tls server\n<ca>\nup in a key\n\
                        </ca>\n";

    #[test]
    fn what_concerns_the_connection_is_passed_on() {
        let config = OpenVpn::parse(GOOD).unwrap();
        assert_eq!(
            config.text,
            "client\nproto udp\nremote 203.0.113.1 1194\nremote-cert-tls server\n<ca>\nup in a \
             key\n</ca>\n"
        );
        assert_eq!(config.ignored, ["dev", "redirect-gateway", "auth-user-pass", "tun-mtu"]);
        assert_eq!((config.mtu, config.wants_auth), (1400, true));
    }

    #[test]
    fn programs_files_and_strangers_are_refused_by_line() {
        for option in [
            "up /bin/sh",
            "down x",
            "route-up x",
            "ipchange x",
            "tls-verify x",
            "plugin x.so",
            "management 127.0.0.1 1",
            "log /etc/x",
            "writepid /x",
            "status /x",
            "cd /",
            "config other",
            "engine x",
            "providers x",
            "pkcs11-providers x",
            "client-connect x",
            "auth-user-pass-verify x via-file",
            "learn-address x",
            "iproute /x",
            "tmp-dir /",
            "askpass x",
            "tls-export-cert /",
            "chroot /",
            "server 10.0.0.0 255.0.0.0",
            "mode server",
            "frobnicate",
            "--up x",
        ] {
            let said = OpenVpn::parse(&format!("client\n{option}\n")).unwrap_err();
            let word = option.split(' ').next().unwrap().trim_start_matches("--");
            assert!(said.contains(&format!(":2: {word} is refused")), "{said}");
        }
        for (line, expected) in [
            ("ca ca.crt", ":2: ca names a file"),
            ("auth-user-pass /x", ":2: auth-user-pass names a file"),
            ("<connection>", ":2: <connection> is not taken"),
            ("<ca>\nx", ":2: <ca> is not closed"),
            ("tun-mtu 10", ":2: tun-mtu: say 576"),
        ] {
            let said = OpenVpn::parse(&format!("client\n{line}\n")).unwrap_err();
            assert!(said.contains(expected), "{said}");
        }
    }
}
