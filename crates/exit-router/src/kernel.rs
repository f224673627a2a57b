//! The kernel's rules, routes and filters as values, written as ip(8) and tc(8) write them. What
//! must hold and what was read are the same types, so that they compare.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::prefix::{Family, Prefix};

/// Marks every rule and route as ours, after a crash too (FRA_PROTOCOL, rtm_protocol). Free in
/// rtnetlink.h and in iproute2's rt_protos.
pub const PROTOCOL: u8 = 173;
/// The table of the active tunnel.
pub const TABLE: u32 = 5310;
/// The group of every tunnel's link: unlike its name it stays when the link is renamed.
pub const GROUP: u32 = 5310;
/// The table that guppy's own traffic goes by (rt_tables).
pub const MAIN: u32 = 254;
/// The last route of a table: no other has a larger metric.
pub const LAST: u32 = u32::MAX;
/// Of the route into the tunnel.
pub const TUNNEL_METRIC: u32 = 100;

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RuleAction {
    /// Looks the packet up in a table, and goes on with the next rule where that has no route.
    Lookup(u32),
    /// Drops it without a word.
    Blackhole,
    /// Something that no rule of ours does.
    Other(u8),
}

/// A policy rule (ip-rule(8)).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// v4 or v6.
    pub family: Family,
    /// Its place, low first.
    pub priority: u32,
    /// Sources.
    pub from: Option<Prefix>,
    /// Destinations.
    pub to: Option<Prefix>,
    /// The input interface; `lo` is what this machine itself sends.
    pub iif: Option<String>,
    /// The interface that a socket is bound to.
    pub oif: Option<String>,
    /// What then.
    pub action: RuleAction,
    /// Whose it is.
    pub protocol: u8,
    /// It matches by a mark or by anything else that no rule of ours looks at.
    pub more: bool,
}

impl Rule {
    /// One of ours that every packet of a family matches.
    pub fn new(family: Family, priority: u32, action: RuleAction) -> Self {
        let (from, to, iif, oif) = (None, None, None, None);
        Self { family, priority, from, to, iif, oif, action, protocol: PROTOCOL, more: false }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let six = if self.family == Family::V6 { "-6 " } else { "" };
        write!(f, "ip {six}rule pref {}", self.priority)?;
        if let Some(from) = self.from {
            write!(f, " from {from}")?;
        }
        if let Some(to) = self.to {
            write!(f, " to {to}")?;
        }
        if let Some(iif) = &self.iif {
            write!(f, " iif {iif}")?;
        }
        if let Some(oif) = &self.oif {
            write!(f, " oif {oif}")?;
        }
        if self.more {
            write!(f, " …")?;
        }
        match self.action {
            RuleAction::Lookup(MAIN) => write!(f, " lookup main")?,
            RuleAction::Lookup(table) => write!(f, " lookup {table}")?,
            RuleAction::Blackhole => write!(f, " blackhole")?,
            RuleAction::Other(number) => write!(f, " action {number}")?,
        }
        write!(f, " protocol {}", self.protocol)
    }
}

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RouteAction {
    /// Sends by the interface of this index.
    Device(u32),
    /// Drops without a word: who retries may succeed later.
    Blackhole,
    /// Drops and says so: who retries need not.
    Unreachable,
    /// Something that no route of ours does.
    Other(u8),
}

/// A route of our table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub to: Prefix,
    /// Among those to the same, low first.
    pub metric: u32,
    /// What then.
    pub action: RouteAction,
    /// Whose it is.
    pub protocol: u8,
}

impl Route {
    /// As text, with the name of the interface where it is known.
    pub fn text(&self, links: &[Link]) -> String {
        let six = if self.to.family() == Family::V6 { "-6 " } else { "" };
        let to = if self.to.length() == 0 { "default".to_owned() } else { self.to.to_string() };
        let (kind, device) = match self.action {
            RouteAction::Device(index) => {
                let name = links.iter().find(|link| link.index == index);
                let name = name.map_or_else(|| format!("if{index}"), |link| link.name.clone());
                (String::new(), format!(" dev {name}"))
            }
            RouteAction::Blackhole => ("blackhole ".to_owned(), String::new()),
            RouteAction::Unreachable => ("unreachable ".to_owned(), String::new()),
            RouteAction::Other(number) => (format!("type {number} "), String::new()),
        };
        let Self { metric, protocol, .. } = self;
        format!(
            "ip {six}route {kind}{to}{device} table {TABLE} metric {metric} protocol {protocol}"
        )
    }
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number: never another's while it lives, and another when it is made anew.
    pub index: u32,
    /// Its name, which anybody with CAP_NET_ADMIN may change.
    pub name: String,
    /// IFF_UP.
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// Its group (`ip link set group`).
    pub group: u32,
}

/// An address of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Of the interface.
    pub index: u32,
    /// Itself.
    pub address: IpAddr,
    /// The network it stands in.
    pub network: Prefix,
    /// Neither link-local nor of this host only, and not tentative.
    pub usable: bool,
}

/// What a filter takes, and what then.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Taken {
    /// Bears this address of the tunnel's as its source: dropped, wherever it came in. This machine's
    /// own word to an answer that is for nobody came in nowhere.
    From(IpAddr),
    /// Came in by the interface of this name (None: the one it was made for is gone), to here: passes.
    Exempt(Option<String>, Prefix),
    /// All else that came in by it: dropped.
    In(Option<String>),
}

/// A filter on what leaves by an uplink (tc-u32(8), on clsact's egress).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// The uplink's index.
    pub uplink: u32,
    /// Which packets.
    pub taken: Taken,
}

impl Filter {
    /// Its place among an uplink's filters, low first. One for each family: a preference has one
    /// protocol.
    pub const fn preference(&self) -> u32 {
        match &self.taken {
            Taken::From(IpAddr::V4(_)) => FROM_PREF,
            Taken::From(IpAddr::V6(_)) => FROM6_PREF,
            Taken::Exempt(_, to) => match to.family() {
                Family::V4 => EXEMPT_PREF,
                Family::V6 => EXEMPT6_PREF,
            },
            Taken::In(_) => IN_PREF,
        }
    }

    /// As text, with the uplink's name where it is known.
    pub fn text(&self, links: &[Link]) -> String {
        let uplink = links.iter().find(|link| link.index == self.uplink);
        let uplink = uplink.map_or_else(|| format!("if{}", self.uplink), |link| link.name.clone());
        self.tc(&uplink)
    }

    /// The arguments that make tc(8) add it on the uplink of this name.
    pub fn tc(&self, uplink: &str) -> String {
        let words = |family| match family {
            Family::V4 => ("ip", "ip"),
            Family::V6 => ("ipv6", "ip6"),
        };
        let (protocol, matches, action) = match &self.taken {
            Taken::From(address) => {
                let (protocol, word) = words(Family::of(*address));
                let bits = Family::of(*address).bits();
                (protocol, format!("match {word} src {address}/{bits}"), "drop")
            }
            Taken::Exempt(indev, to) => {
                let (protocol, word) = words(to.family());
                let (address, length) = (to.address(), to.length());
                let indev = indev.as_deref().unwrap_or("?");
                (protocol, format!("match {word} dst {address}/{length} indev {indev}"), "pass")
            }
            Taken::In(indev) => {
                let indev = indev.as_deref().unwrap_or("?");
                ("all", format!("match u32 0 0 indev {indev}"), "drop")
            }
        };
        let preference = self.preference();
        format!(
            "filter add dev {uplink} egress protocol {protocol} pref {preference} u32 {matches} \
             action {action}"
        )
    }
}

/// What bears the tunnel's IPv4 address.
pub const FROM_PREF: u32 = 5306;
/// … or its IPv6 address.
pub const FROM6_PREF: u32 = 5307;
/// What peers may send past the tunnel over IPv4.
pub const EXEMPT_PREF: u32 = 5308;
/// … and over IPv6.
pub const EXEMPT6_PREF: u32 = 5309;
/// All else of the peers'.
pub const IN_PREF: u32 = 5310;
/// All of them.
pub const PREFERENCES: RangeInclusive<u32> = FROM_PREF..=IN_PREF;
