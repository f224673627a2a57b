//! Reads the world. In: the kernel (netlink), nft(8), systemd, tailscaled. Out: [`Evidence`], in
//! which what could not be read is Unknown, and never empty.

pub mod hints;
pub mod netlink;
pub mod nft;
pub mod probe;
pub mod sysctl;
pub mod tailscaled;
pub mod units;

use crate::kernel::{Address, Filter, Link, Route, Rule};
use crate::prefix::Prefix;

/// One reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// What is there.
    Known(T),
    /// Why nobody knows.
    Unknown(String),
}

impl<T> Reading<T> {
    /// What is there, if it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }
}

impl<T> From<Result<T, String>> for Reading<T> {
    fn from(result: Result<T, String>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(why) => Self::Unknown(why),
        }
    }
}

/// What the kernel's routing holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Network {
    /// All interfaces.
    pub links: Vec<Link>,
    /// All addresses.
    pub addresses: Vec<Address>,
    /// All policy rules, of both families.
    pub rules: Vec<Rule>,
    /// The routes of our table, of both families.
    pub routes: Vec<Route>,
    /// Indices of the interfaces of main's default routes.
    pub uplinks: Vec<u32>,
    /// The networks that main has other routes to, and by which interface.
    pub networks: Vec<(Prefix, u32)>,
    /// Our filters on the uplinks.
    pub filters: Vec<Filter>,
}

impl Network {
    /// The interface of this name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }
}

/// What systemd says of one `guppy-vpn@NAME.service`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// The profile.
    pub profile: String,
    /// `active`, `activating`, `deactivating`, `inactive`, `failed`.
    pub active: String,
    /// What its client says of itself (sd_notify(3), STATUS=).
    pub status: String,
    /// With what its client ended last.
    pub exit_status: i32,
}

impl Unit {
    /// No process of it is there, and none is about to be.
    pub fn is_idle(&self) -> bool {
        matches!(self.active.as_str(), "inactive" | "failed")
    }
}

/// All that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The kernel's routing.
    pub network: Reading<Network>,
    /// Our nft table as nft(8) lists it; None: it is not there.
    pub table: Reading<Option<String>>,
    /// The units of VPN clients that are loaded.
    pub units: Reading<Vec<Unit>>,
}
