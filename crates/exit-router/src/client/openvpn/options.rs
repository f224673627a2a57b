//! Which options of the file reach OpenVPN: those that are listed here, and no others. What runs a
//! program or opens a way in is refused; what would touch guppy's own routes, resolver or processes
//! is ignored by name.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::path::Path;

use super::super::secret::Secret;
use super::super::wrong::{Wrong, shown};
use super::file::Entry;

/// What the tunnel's interface has where the file says nothing (OpenVPN's TUN_MTU_DEFAULT), in bytes.
const MTU: u32 = 1500;
/// Those that a tunnel may have, in bytes.
pub(super) const MTUS: RangeInclusive<u32> = 576..=65_535;

/// The options that are left, and what has to be known of them.
#[derive(Debug)]
pub(super) struct Options {
    kept: Vec<Entry>,
    /// Names of those that are ignored, each once.
    pub(super) ignored: Vec<String>,
    /// Name and password, from a block `<auth-user-pass>`.
    pub(super) login: Option<Secret>,
    /// Of the tunnel, in bytes.
    pub(super) mtu: u32,
}

/// Passed on. OpenVPN judges what they say.
const KEPT: &str = "allow-compression auth auth-user-pass cipher client comp-lzo compress \
    connect-retry connect-retry-max connect-timeout data-ciphers data-ciphers-fallback ecdh-curve \
    explicit-exit-notify float fragment hand-window inactive keepalive key-direction link-mtu \
    lport mssfix mtu-disc ncp-ciphers nobind peer-fingerprint ping ping-exit ping-restart port \
    proto proto-force pull push-peer-info rcvbuf remote remote-cert-eku remote-cert-ku \
    remote-cert-tls remote-random remote-random-hostname reneg-bytes reneg-pkts reneg-sec \
    replay-window resolv-retry rport server-poll-timeout sndbuf static-challenge \
    tls-cert-profile tls-cipher tls-ciphersuites tls-client tls-groups tls-timeout \
    tls-version-max tls-version-min tran-window tun-mtu verify-hash verify-x509-name";
/// Within a block `<connection>`.
const CONNECTION: &str = "connect-retry connect-timeout explicit-exit-notify float fragment link-mtu \
    lport mssfix nobind port proto remote rport tun-mtu";
/// Blocks that are passed on.
const BLOCKS: &str = "ca cert crl-verify extra-certs key peer-fingerprint pkcs12 tls-auth tls-crypt \
    tls-crypt-v2 verify-hash";
/// What guppy says itself, or what is none of a client's business here.
const IGNORED: &str = "auth-nocache auth-retry block-ipv6 block-outside-dns daemon dev-type \
    dhcp-option dhcp-release dhcp-renew disable-dco dns down-pre fast-io group ifconfig-noexec \
    ifconfig-nowarn ignore-unknown-option ip-win32 key-method log log-append \
    machine-readable-output mlock mute mute-replay-warnings nice passtos persist-key \
    persist-local-ip persist-remote-ip persist-tun pull-filter redirect-gateway redirect-private \
    register-dns route route-delay route-gateway route-ipv6 route-method route-metric \
    route-noexec route-nopull setenv-safe status status-version \
    suppress-timestamps topology user verb";
/// What runs a program.
const PROGRAMS: &str = "auth-user-pass-verify client-connect client-crresponse client-disconnect down \
    engine ipchange iproute learn-address plugin providers route-pre-down route-up script-security tls-crypt-v2-verify \
    tls-verify up";
/// What is accepted of a server's push. Everything else it may say in vain: routes, resolvers,
/// its own idea of the gateway.
const PUSHED: [&str; 14] = [
    "ifconfig ",
    "ifconfig-ipv6 ",
    "topology ",
    "tun-mtu ",
    "ping ",
    "ping-restart ",
    "peer-id ",
    "cipher ",
    "key-derivation ",
    "protocol-flags ",
    "auth-token",
    "compress",
    "comp-lzo",
    "explicit-exit-notify",
];

/// Judges all of a file's options.
///
/// # Errors
/// The first one that cannot be passed on.
pub(super) fn judge(entries: Vec<Entry>) -> Result<Options, Wrong> {
    let mut options = Options { kept: Vec::new(), ignored: Vec::new(), login: None, mtu: MTU };
    for entry in entries {
        options.take(entry)?;
    }
    if !options.kept.iter().any(|entry| matches!(entry.name.as_str(), "remote" | "connection")) {
        return Err(Wrong::of_file("no remote says where the server is: add it"));
    }
    Ok(options)
}

fn has(list: &str, name: &str) -> bool {
    list.split(' ').any(|one| one == name)
}

impl Options {
    fn take(&mut self, mut entry: Entry) -> Result<(), Wrong> {
        let (line, name) = (entry.line, entry.name.as_str());
        if let Some(mut block) = entry.block.take() {
            match name {
                "connection" => block = connection(line, &block)?,
                "auth-user-pass" => {
                    self.login = Some(block);
                    entry.words.clear();
                    self.kept.push(entry);
                    return Ok(());
                }
                name if has(BLOCKS, name) => {}
                name => {
                    let what = format!("<{}> is no block that guppy passes on", plain(name));
                    return Err(Wrong::at(line, what));
                }
            }
            entry.block = Some(block);
            self.kept.push(entry);
            return Ok(());
        }
        let first = entry.words.first().map(String::as_str);
        match name {
            "dev" if first.is_none_or(|dev| !dev.starts_with("tun")) => {
                let what = "dev is not tun: guppy routes packets, so the server must offer tun";
                return Err(Wrong::at(line, what));
            }
            "dev" => self.ignore("dev"),
            // `setenv opt X` and FORWARD_COMPATIBLE tell other versions what they may leave out.
            "setenv" if matches!(first, Some("opt" | "FORWARD_COMPATIBLE" | "CLIENT_CERT")) => {
                self.ignore("setenv");
            }
            "auth-user-pass" if first.is_some() => {
                let what = "auth-user-pass names a file: write it alone, and put name and password \
                            into the credential guppy-vpn-NAME.auth";
                return Err(Wrong::at(line, what));
            }
            "tun-mtu" => {
                self.mtu = mtu_of(line, first)?;
                self.keep(entry)?;
            }
            name if has(BLOCKS, name) && name != "peer-fingerprint" && name != "verify-hash" => {
                let what = format!(
                    "{name} names a file, and the client sees none: put its text here, between \
                     <{name}> and </{name}>, and for tls-auth write key-direction beside it"
                );
                return Err(Wrong::at(line, what));
            }
            name if has(KEPT, name) => self.keep(entry)?,
            name if has(IGNORED, name) => self.ignore(name),
            name if has(PROGRAMS, name) => {
                let what = format!("{name} is refused: it would run a program; remove the line");
                return Err(Wrong::at(line, what));
            }
            name if name.starts_with("management") => {
                let what = format!("{name} is refused: it would let others in; remove the line");
                return Err(Wrong::at(line, what));
            }
            name => {
                let what = format!(
                    "{} is not among the options that guppy passes on: remove the line",
                    shown(name)
                );
                return Err(Wrong::at(line, what));
            }
        }
        Ok(())
    }

    fn keep(&mut self, entry: Entry) -> Result<(), Wrong> {
        printable(&entry)?;
        self.kept.push(entry);
        Ok(())
    }

    fn ignore(&mut self, name: &str) {
        if !self.ignored.iter().any(|ignored| ignored == name) {
            self.ignored.push(name.to_owned());
        }
    }

    /// What OpenVPN reads: the file's options and then guppy's, of which the last one holds.
    /// `socket` is where the management's listener is, `folder` a place for temporary files.
    pub(super) fn render(&self, interface: &str, socket: &Path, folder: &Path) -> String {
        let mut text = String::new();
        for entry in &self.kept {
            let name = &entry.name;
            // Writing to a String cannot fail.
            let _ = match &entry.block {
                Some(Secret(block)) => writeln!(text, "<{name}>\n{block}</{name}>"),
                None => writeln!(text, "{}", line(name, &entry.words)),
            };
        }
        let (socket, folder) = (socket.display().to_string(), folder.display().to_string());
        let own: [&[&str]; 21] = [
            &["dev", interface],
            &["dev-type", "tun"],
            // The kernel's OpenVPN would make a device of its own.
            &["disable-dco"],
            &["ifconfig-noexec"],
            &["route-noexec"],
            &["route-nopull"],
            &["script-security", "0"],
            // The device and the keys stay while it connects anew.
            &["persist-tun"],
            &["persist-key"],
            // A refusal is told, not the end, and what comes then is decided here.
            &["auth-retry", "interact"],
            &["auth-nocache"],
            &["connect-retry", "2", "60"],
            &["management", &socket, "unix"],
            &["management-client"],
            &["management-hold"],
            &["management-query-passwords"],
            // It tells of the tunnel's MTU.
            &["management-up-down"],
            &["tmp-dir", &folder],
            // What it says at 2 and above has the server's words in it.
            &["verb", "1"],
            &["mute", "20"],
            &["suppress-timestamps"],
        ];
        let pushed = PUSHED.iter().map(|begin| ["pull-filter", "accept", begin]);
        let pushed = pushed.chain([["pull-filter", "ignore", ""]]);
        let own = own.iter().map(|words| words.to_vec()).chain(pushed.map(|words| words.to_vec()));
        for words in own {
            let _ = match words.split_first() {
                Some((name, words)) => writeln!(text, "{}", line(name, words)),
                None => Ok(()),
            };
        }
        text
    }
}

/// An option with its words in quotes.
fn line(name: &str, words: &[impl AsRef<str>]) -> String {
    let mut text = name.to_owned();
    for word in words {
        let escaped = word.as_ref().replace('\\', "\\\\").replace('"', "\\\"");
        let _ = write!(text, " \"{escaped}\"");
    }
    text
}

/// `<connection>` has options of its own.
fn connection(begin: usize, block: &Secret) -> Result<Secret, Wrong> {
    let within = |wrong: Wrong| Wrong { line: wrong.line.map(|line| begin + line), ..wrong };
    let mut text = String::new();
    for entry in super::file::parse(&block.0).map_err(within)? {
        if entry.block.is_some() || !has(CONNECTION, &entry.name) {
            let what = format!(
                "{} is not among the options of <connection> that guppy passes on: remove the line",
                shown(&entry.name)
            );
            return Err(Wrong::at(begin + entry.line, what));
        }
        printable(&entry).map_err(within)?;
        text += &line(&entry.name, &entry.words);
        text.push('\n');
    }
    Ok(Secret(text))
}

/// A word with another letter could mean something else to OpenVPN than it does here.
fn printable(entry: &Entry) -> Result<(), Wrong> {
    if entry.words.iter().all(|word| word.bytes().all(|byte| (b' '..=b'~').contains(&byte))) {
        return Ok(());
    }
    let what = format!("{} has more than printable ASCII: write it so", plain(&entry.name));
    Err(Wrong::at(entry.line, what))
}

fn mtu_of(line: usize, word: Option<&str>) -> Result<u32, Wrong> {
    let mtu = word.and_then(|word| word.parse().ok());
    mtu.filter(|mtu| MTUS.contains(mtu)).ok_or_else(|| {
        Wrong::at(line, "tun-mtu is not valid: write a number of bytes from 576 to 65535")
    })
}

fn plain(name: &str) -> String {
    shown(name).replace('"', "")
}
