//! The config file as wg-quick(8) and wg(8) have it, read strictly. What would run a command is
//! refused, what would touch guppy's own routes or resolver is ignored by name.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::super::secret::Secret;
use super::super::wrong::{Wrong, shown};
use crate::prefix::{Family, Prefix};

/// What the file says.
#[derive(Debug)]
pub(super) struct File {
    private_key: Secret,
    pub(super) addresses: Vec<IpAddr>,
    /// In bytes.
    pub(super) mtu: Option<u32>,
    listen_port: Option<u16>,
    pub(super) peers: Vec<Peer>,
    /// Keys that are ignored, as they stand there.
    pub(super) ignored: Vec<String>,
}

/// A `[Peer]`.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) public_key: String,
    preshared_key: Option<Secret>,
    pub(super) allowed: Vec<Prefix>,
    endpoint: Option<String>,
    /// In seconds; None: off.
    pub(super) keepalive: Option<u16>,
}

/// Keys of wg-quick's that are none of guppy's business: the daemon says what goes where.
const IGNORED: [&str; 4] = ["DNS", "Table", "SaveConfig", "FwMark"];
/// Keys that run a command.
const COMMANDS: [&str; 4] = ["PreUp", "PostUp", "PreDown", "PostDown"];

enum Section {
    None,
    Interface,
    Peer,
}

/// A peer as far as it was read.
#[derive(Default)]
struct Draft {
    line: usize,
    public_key: Option<String>,
    preshared_key: Option<Secret>,
    allowed: Vec<Prefix>,
    endpoint: Option<String>,
    keepalive: Option<u16>,
}

#[derive(Default)]
struct Reader {
    private_key: Option<Secret>,
    addresses: Vec<IpAddr>,
    mtu: Option<u32>,
    listen_port: Option<u16>,
    peers: Vec<Draft>,
    ignored: Vec<String>,
}

/// Reads the file.
///
/// # Errors
/// Its first mistake, without the text of any key.
pub(super) fn parse(text: &str) -> Result<File, Wrong> {
    let mut reader = Reader::default();
    let mut section = Section::None;
    let mut interfaces = 0;
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        if line.eq_ignore_ascii_case("[Interface]") {
            section = Section::Interface;
            interfaces += 1;
            if interfaces > 1 {
                return Err(Wrong::at(number, "a second [Interface]: one file is one tunnel"));
            }
            continue;
        }
        if line.eq_ignore_ascii_case("[Peer]") {
            section = Section::Peer;
            reader.peers.push(Draft { line: number, ..Draft::default() });
            continue;
        }
        let Some((key, value)) = line.split_once('=') else {
            return Err(Wrong::at(
                number,
                format!("{} is no KEY = VALUE, [Interface] or [Peer]", shown(line)),
            ));
        };
        let (key, value) = (key.trim(), value.trim());
        match section {
            Section::Interface => reader.interface(number, key, value)?,
            Section::Peer => reader.peer(number, key, value)?,
            Section::None => {
                let what = format!("{} stands before [Interface]", shown(key));
                return Err(Wrong::at(number, what));
            }
        }
    }
    reader.finish()
}

impl Reader {
    fn interface(&mut self, line: usize, key: &str, value: &str) -> Result<(), Wrong> {
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("PrivateKey") {
            once(line, key, &mut self.private_key, Secret(key_of(line, "PrivateKey", value)?))
        } else if is("Address") {
            for one in value.split(',') {
                self.addresses.push(network_of(line, "Address", one.trim())?.0);
            }
            Ok(())
        } else if is("MTU") {
            // The smallest that IPv4 must carry, and the largest that the kernel takes
            // (drivers/net/wireguard/device.c).
            let mtu = number_of(line, "MTU", value, 576, 65_455)?;
            once(line, key, &mut self.mtu, mtu)
        } else if is("ListenPort") {
            let port = number_of(line, "ListenPort", value, 0, 65_535)?;
            once(line, key, &mut self.listen_port, u16::try_from(port).unwrap_or(0))
        } else if COMMANDS.iter().any(|name| is(name)) {
            let what =
                format!("{} is refused: it would run a command; remove the line", shown(key));
            Err(Wrong::at(line, what))
        } else if let Some(name) = IGNORED.iter().find(|name| is(name)) {
            if !self.ignored.iter().any(|ignored| ignored == name) {
                self.ignored.push((*name).to_owned());
            }
            Ok(())
        } else {
            let keys = "PrivateKey, Address, MTU and ListenPort are what [Interface] may have";
            Err(Wrong::at(line, format!("{} is no key here: {keys}", shown(key))))
        }
    }

    fn peer(&mut self, line: usize, key: &str, value: &str) -> Result<(), Wrong> {
        let Some(peer) = self.peers.last_mut() else { return Ok(()) };
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("PublicKey") {
            once(line, key, &mut peer.public_key, key_of(line, "PublicKey", value)?)
        } else if is("PresharedKey") {
            once(line, key, &mut peer.preshared_key, Secret(key_of(line, "PresharedKey", value)?))
        } else if is("AllowedIPs") {
            for one in value.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                let (address, length) = network_of(line, "AllowedIPs", one)?;
                peer.allowed.push(Prefix::around(address, length));
            }
            Ok(())
        } else if is("Endpoint") {
            once(line, key, &mut peer.endpoint, endpoint_of(line, value)?)
        } else if is("PersistentKeepalive") {
            let seconds = match value.eq_ignore_ascii_case("off") {
                true => 0,
                false => number_of(line, "PersistentKeepalive", value, 0, 65_535)?,
            };
            once(line, key, &mut peer.keepalive, u16::try_from(seconds).unwrap_or(0))
        } else {
            let keys = "PublicKey, PresharedKey, AllowedIPs, Endpoint and PersistentKeepalive are \
                        what [Peer] may have";
            Err(Wrong::at(line, format!("{} is no key here: {keys}", shown(key))))
        }
    }

    fn finish(self) -> Result<File, Wrong> {
        let lacks = |what: &str| Wrong::of_file(format!("{what}: add it"));
        let private_key = self.private_key.ok_or_else(|| lacks("[Interface] has no PrivateKey"))?;
        if self.addresses.is_empty() {
            return Err(lacks("[Interface] has no Address"));
        }
        let mut peers: Vec<Peer> = Vec::new();
        for draft in self.peers {
            let Some(public_key) = draft.public_key else {
                return Err(Wrong::at(draft.line, "this [Peer] has no PublicKey: add it"));
            };
            if peers.iter().any(|peer| peer.public_key == public_key) {
                let what = "this [Peer] has the PublicKey of one before: make them one";
                return Err(Wrong::at(draft.line, what));
            }
            peers.push(Peer {
                public_key,
                preshared_key: draft.preshared_key,
                allowed: draft.allowed,
                endpoint: draft.endpoint,
                keepalive: draft.keepalive.filter(|seconds| *seconds > 0),
            });
        }
        if !peers.iter().any(|peer| peer.endpoint.is_some()) {
            return Err(lacks("no [Peer] has an Endpoint, so nobody can be called"));
        }
        Ok(File {
            private_key,
            addresses: self.addresses,
            mtu: self.mtu,
            listen_port: self.listen_port,
            peers,
            ignored: self.ignored,
        })
    }
}

fn once<T>(line: usize, key: &str, place: &mut Option<T>, value: T) -> Result<(), Wrong> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Wrong::at(line, format!("{} stands here twice: keep one", shown(key)))),
    }
}

/// 32 bytes in base64, as wg(8) writes and takes them (encoding.c).
fn key_of(line: usize, name: &str, value: &str) -> Result<String, Wrong> {
    let alphabet = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/';
    let right = match value.as_bytes() {
        // Of the last letter's six bits two are none of the key's.
        [letters @ .., last, b'='] if letters.len() == 42 => {
            letters.iter().copied().all(alphabet) && b"AEIMQUYcgkosw048".contains(last)
        }
        _ => false,
    };
    if right {
        return Ok(value.to_owned());
    }
    let what = format!(
        "{name} is no key of 32 bytes in base64 (44 characters, the last is =; what stands here is \
         not shown): copy it again"
    );
    Err(Wrong::at(line, what))
}

/// An address with the length of its network; without one it is a host's.
fn network_of(line: usize, name: &str, value: &str) -> Result<(IpAddr, u8), Wrong> {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, Some(length)),
        None => (value, None),
    };
    let read = address.parse::<IpAddr>().ok().and_then(|address| {
        let bits = Family::of(address).bits();
        let length = match length {
            Some(length) => length.parse().ok().filter(|length| *length <= bits)?,
            None => bits,
        };
        Some((address, length))
    });
    read.ok_or_else(|| {
        let what = format!(
            "{name} = {value:?} is not valid: write addresses as in \"10.20.0.2/32, fd00:20::2/128\""
        );
        Wrong::at(line, what)
    })
}

fn number_of(line: usize, name: &str, value: &str, min: u32, max: u32) -> Result<u32, Wrong> {
    match value.parse::<u32>() {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => {
            let what =
                format!("{name} = {value:?} is not valid: write a number from {min} to {max}");
            Err(Wrong::at(line, what))
        }
    }
}

/// `HOST:PORT`, with a host that is a name or an address, an IPv6 one in brackets.
fn endpoint_of(line: usize, value: &str) -> Result<String, Wrong> {
    let right = value.rsplit_once(':').is_some_and(|(host, port)| {
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match inner {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
                !host.is_empty() && host.bytes().all(letter) && !host.starts_with('-')
            }
        };
        host && port.parse::<u16>().is_ok_and(|port| port > 0)
    });
    if right {
        return Ok(value.to_owned());
    }
    let what = format!(
        "Endpoint = {value:?} is not valid: write HOST:PORT, as in \"vpn.example.com:51820\" or \
         \"[2001:db8::1]:51820\""
    );
    Err(Wrong::at(line, what))
}

impl File {
    /// What `wg setconf` takes (wg(8)). `keepalive`, in seconds, is for peers that have none.
    pub(super) fn render(&self, keepalive: u16) -> Secret {
        let mut text = format!("[Interface]\nPrivateKey = {}\n", self.private_key.0);
        let mut line = |key: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key} = {value}");
        };
        if let Some(port) = self.listen_port {
            line("ListenPort", port.to_string());
        }
        for peer in &self.peers {
            line("[Peer]\nPublicKey", peer.public_key.clone());
            if let Some(key) = &peer.preshared_key {
                line("PresharedKey", key.0.clone());
            }
            if !peer.allowed.is_empty() {
                let all = peer.allowed.iter();
                let all: Vec<String> =
                    all.map(|one| format!("{}/{}", one.address(), one.length())).collect();
                line("AllowedIPs", all.join(", "));
            }
            if let Some(endpoint) = &peer.endpoint {
                line("Endpoint", endpoint.clone());
            }
            line("PersistentKeepalive", peer.keepalive.unwrap_or(keepalive).to_string());
        }
        Secret(text)
    }

    /// Whether a text of another program's may be shown: it has no key in it.
    pub(super) fn is_plain(&self, text: &str) -> bool {
        let preshared = self.peers.iter().filter_map(|peer| peer.preshared_key.as_ref());
        !preshared.chain([&self.private_key]).any(|key| text.contains(&key.0))
    }

    /// The families that go into it whole: without one of them, peers have no egress of it.
    pub(super) fn default_routes(&self) -> Vec<Family> {
        let all = |family: &Family| {
            let mut allowed = self.peers.iter().flat_map(|peer| &peer.allowed);
            allowed.any(|prefix| prefix.length() == 0 && prefix.family() == *family)
        };
        Family::ALL.into_iter().filter(all).collect()
    }
}
