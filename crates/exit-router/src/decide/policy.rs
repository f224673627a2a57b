//! What must hold, as one value: who is forwarded, into which tunnel, and what is exempt.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::AlsoForward;
use crate::kernel::Link;
use crate::prefix::Family;

/// What becomes of a peer's packet that no tunnel takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Dropped in silence: a tunnel may come up, and the sender's next try then gets through.
    Blackhole,
    /// Refused at once: there is nothing to wait for.
    Unreachable,
}

/// The tunnel that peers' packets go into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its interface.
    pub link: Link,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
}

impl Tunnel {
    /// Whether it can carry packets of a family now.
    pub fn carries(&self, family: Family) -> bool {
        self.link.up && self.addresses_of(family).next().is_some()
    }

    /// Its addresses of a family.
    pub fn addresses_of(&self, family: Family) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().copied().filter(move |address| Family::of(*address) == family)
    }
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The interface by which peers' packets come in.
    pub peers: String,
    /// Names of interfaces behind which a customer's network lies; a `*` at the end matches any
    /// rest. Nothing comes in from them that was not asked for.
    pub hostile: BTreeSet<String>,
    /// The tunnel, while its interface is there and it is wanted.
    pub tunnel: Option<Tunnel>,
    /// What else becomes of IPv4, then of IPv6.
    pub ends: [End; 2],
    /// Exemptions.
    pub also_forward: Vec<AlsoForward>,
    /// Interfaces that lead to the internet: those of main's default routes. Empty: none is known,
    /// and any may be one.
    pub uplinks: Vec<Link>,
}

impl Policy {
    /// What becomes of a family's packets that no tunnel takes.
    pub const fn end(&self, family: Family) -> End {
        let [v4, v6] = self.ends;
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// Whether an also_forward is for peers.
    pub fn is_for_peers(&self, also: &AlsoForward) -> bool {
        also.from.as_ref().is_none_or(|from| from == &self.peers)
    }
}
