//! `/etc/guppy/vpn.d/NAME.toml`: one customer's VPN. No secret is in it: those are credentials of
//! `guppy-vpn@NAME.service` (systemd.exec(5), CREDENTIALS).

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use service::config::{ConfigError, Invalid, Validate};

use crate::config::is_interface_name;
use crate::prefix::{Prefix, TAILNET};

/// Where profiles are.
pub const FOLDER: &str = "/etc/guppy/vpn.d";
/// What the names of tunnels' interfaces begin with.
pub const INTERFACE_PREFIX: &str = "vpn-";
/// The interface's name is 15 bytes at most, INTERFACE_PREFIX among them.
const NAME_AT_MOST: usize = 11;

/// What makes the tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The kernel's WireGuard, or wireguard-go where the kernel has none.
    WireGuard,
    /// OpenVPN 2.6.
    OpenVpn,
    /// Any unit that root has bound to `guppy-vpn@NAME.service`.
    Unit,
}

impl Kind {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WireGuard => "wireguard",
            Self::OpenVpn => "openvpn",
            Self::Unit => "unit",
        }
    }
}

/// What is asked through the tunnel, to see whether it carries anything.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// An echo request is answered.
    Icmp(IpAddr),
    /// A connection is accepted.
    Tcp(SocketAddr),
    /// A GET is answered with 2xx or 3xx.
    Http(HttpProbe),
}

impl Probe {
    /// The address it goes to.
    pub const fn address(&self) -> IpAddr {
        match self {
            Self::Icmp(address) => *address,
            Self::Tcp(address) => address.ip(),
            Self::Http(http) => http.address.ip(),
        }
    }
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Icmp(address) => write!(f, "icmp {address}"),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Http(http) => write!(f, "http://{}{}", http.address, http.path),
        }
    }
}

/// `http://ADDRESS[:PORT]/PATH`. An address, no name: a name would be resolved outside the tunnel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpProbe {
    /// Where the server listens.
    pub address: SocketAddr,
    /// What is asked for; begins with a slash.
    pub path: String,
}

impl TryFrom<String> for HttpProbe {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || {
            format!(
                "\"{text}\" cannot be asked: write http://ADDRESS[:PORT]/PATH with an address, as in \
                 \"http://10.20.0.1/ip\" (a name would be looked up outside the tunnel)"
            )
        };
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        let (host, path) = match rest.find('/') {
            Some(slash) => rest.split_at(slash),
            None => (rest, "/"),
        };
        let address = host
            .parse::<SocketAddr>()
            .ok()
            .or_else(|| host.parse::<IpAddr>().ok().map(|address| (address, 80).into()))
            .or_else(|| {
                let inner = host.strip_prefix('[')?.strip_suffix(']')?;
                Some((inner.parse::<IpAddr>().ok()?, 80).into())
            })
            .ok_or_else(wrong)?;
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong());
        }
        Ok(Self { address, path: path.to_owned() })
    }
}

impl From<HttpProbe> for String {
    fn from(http: HttpProbe) -> Self {
        format!("http://{}{}", http.address, http.path)
    }
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What makes the tunnel.
    pub kind: Kind,
    /// The customer's private networks, which are advertised as subnet routes while it is up.
    #[serde(default)]
    pub prefixes: Vec<Prefix>,
    /// What healthy means.
    pub probe: Probe,
    /// For kind `unit`: the interface that the unit makes.
    pub interface: Option<String>,
    /// It asks for one-time codes, so only a person can raise it.
    #[serde(default)]
    pub interactive: bool,
}

impl Profile {
    /// The tunnel's interface, in the profile of this name.
    pub fn interface(&self, name: &str) -> String {
        match &self.interface {
            Some(interface) => interface.clone(),
            None => format!("{INTERFACE_PREFIX}{name}"),
        }
    }
}

/// The unit that runs the VPN's client.
pub fn unit(name: &str) -> String {
    format!("guppy-vpn@{name}.service")
}

/// Whether a profile may be called so: its name is part of an interface's and of a unit's.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_AT_MOST).contains(&name.len())
        && !name.starts_with('-')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

/// What a name must be, for people.
pub const NAME_IS: &str =
    "a profile's name is 1 to 11 of a-z, 0-9 and -, and does not begin with -";

impl Validate for Profile {
    fn validate(&self) -> Result<(), Invalid> {
        match (self.kind, &self.interface) {
            (Kind::Unit, None) => {
                let valid = "with it interface = \"…\", the one that the unit makes";
                return Err(Invalid::new("kind", "\"unit\"", valid));
            }
            (Kind::Unit, Some(name)) if !is_interface_name(name) => {
                let valid = "the interface that the unit makes, as `ip link` shows it";
                return Err(Invalid::new("interface", format!("{name:?}"), valid));
            }
            (Kind::WireGuard | Kind::OpenVpn, Some(name)) => {
                let valid = "it for kind \"unit\" only: the others' is called vpn-NAME";
                return Err(Invalid::new("interface", format!("{name:?}"), valid));
            }
            _ => {}
        }
        let reserved = |prefix: Prefix| {
            prefix.length() == 0
                || TAILNET.iter().any(|tailnet| tailnet.overlaps(prefix))
                || prefix.address().is_loopback()
                || prefix.address().is_multicast()
        };
        if let Some(prefix) = self.prefixes.iter().find(|prefix| reserved(**prefix)) {
            let valid = "the customer's private networks, none of which is all addresses, loopback, \
                         multicast or the tailnet's (100.64.0.0/10, fd7a:115c:a1e0::/48)";
            return Err(Invalid::new("prefixes", format!("\"{prefix}\""), valid));
        }
        if reserved(Prefix::host(self.probe.address())) || self.probe.address().is_unspecified() {
            let valid = "an address behind the VPN";
            return Err(Invalid::new("probe", format!("\"{}\"", self.probe), valid));
        }
        Ok(())
    }
}

/// Reads the profile of this name from a folder.
///
/// # Errors
/// For people: the name, the file's owner or mode, or what is wrong in it with its line.
pub fn load(folder: &Path, name: &str) -> Result<Profile, String> {
    if !is_name(name) {
        return Err(format!("\"{name}\": {NAME_IS}"));
    }
    let file = folder.join(format!("{name}.toml"));
    match fs::metadata(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("there is no profile {name}: {} is not there", file.display()));
        }
        Err(error) => return Err(format!("{}: {error}", file.display())),
        Ok(metadata) if !metadata.is_file() => {
            return Err(format!("{}: it is no file", file.display()));
        }
        Ok(_) => {}
    }
    // Whoever may write it decides where a customer's traffic goes.
    for path in [folder, &file] {
        let metadata =
            fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        if metadata.uid() != 0 || metadata.mode() & 0o022 != 0 {
            return Err(format!(
                "{}: uid {} and mode {:o}: it must be root's and nobody else may write it (chown \
                 root, chmod go-w)",
                path.display(),
                metadata.uid(),
                metadata.mode() & 0o7777,
            ));
        }
    }
    service::config::load_files(&[file]).map_err(|error: ConfigError| error.to_string())
}

/// The names of all profiles in a folder, sorted; one that is not there has none.
///
/// # Errors
/// The folder cannot be read.
pub fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry?.file_name();
        let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".toml")) else {
            continue;
        };
        if !name.starts_with('.') {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests;
