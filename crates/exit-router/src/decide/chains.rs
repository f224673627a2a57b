//! Our nft table as values: each chain is a list of lines, of which the first that matches counts.
//! They are rendered as text for nft(8), and walked by a test.

use std::fmt;
use std::net::IpAddr;

use crate::kernel::GROUP;
use crate::prefix::{Family, Prefix};

/// The table, of family inet.
pub const TABLE: &str = "guppy_exit_router";

/// What a line looks at; all of its matches must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// The input interface's name; a `*` at the end matches any rest.
    In(String),
    /// The input interface is in the group of the tunnels.
    InGroup,
    /// The output interface's name; a `*` at the end matches any rest.
    Out(String),
    /// The output interface is in the group of the tunnels.
    OutGroup,
    /// The output interface is none of these.
    NotOut(Vec<String>),
    /// v4 or v6.
    Family(Family),
    /// The destination.
    To(Prefix),
    /// The source, as it is by now.
    From(IpAddr),
    /// Belongs to a connection that was let through before, or is an answer to one.
    Answer,
    /// Conntrack can make nothing of it, so it would not be translated either.
    Invalid,
    /// The connection was begun from this address.
    BegunFrom(IpAddr),
    /// Opens a TCP connection.
    Syn,
}

/// What then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on to the chains of others.
    Accept,
    /// The same, and its bytes count for the peer that sends or gets it.
    Count(Family, Peer),
    /// A peer's or a stranger's: dropped and counted.
    Blocked,
    /// From the customer's network, unasked: dropped and counted.
    Hostile,
    /// Gets the source address of the interface that it leaves by.
    Masquerade,
    /// The other side may send segments of what the route's MTU allows.
    ClampToRoute,
    /// … of this many bytes.
    ClampTo(u32),
}

/// Where the peer's address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// It sends.
    Source,
    /// It gets.
    Destination,
}

/// One rule of a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(pub Vec<Match>, pub Verdict);

/// Where the kernel calls a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// A packet passes through.
    Forward,
    /// … its segment size.
    Clamp,
    /// A packet is for this machine.
    Input,
    /// The source address is chosen.
    Nat,
    /// After that, on the way out.
    Leaving,
}

impl Hook {
    const fn declaration(self) -> (&'static str, &'static str) {
        match self {
            Self::Forward => ("forward", "type filter hook forward priority -10"),
            Self::Clamp => ("clamp", "type filter hook forward priority -150"),
            Self::Input => ("input", "type filter hook input priority -10"),
            Self::Nat => ("postrouting_nat", "type nat hook postrouting priority 100"),
            Self::Leaving => ("leaving", "type filter hook postrouting priority 150"),
        }
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Where it is called.
    pub hook: Hook,
    /// Its lines; what none matches is accepted.
    pub lines: Vec<Line>,
}

impl fmt::Display for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nft = |address: IpAddr| Family::of(address).nft();
        match self {
            Self::In(name) => write!(f, "iifname \"{name}\""),
            Self::InGroup => write!(f, "iifgroup {GROUP}"),
            Self::Out(name) => write!(f, "oifname \"{name}\""),
            Self::OutGroup => write!(f, "oifgroup {GROUP}"),
            Self::NotOut(names) => {
                let names: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
                write!(f, "oifname != {{ {} }}", names.join(", "))
            }
            Self::Family(Family::V4) => write!(f, "meta nfproto ipv4"),
            Self::Family(Family::V6) => write!(f, "meta nfproto ipv6"),
            Self::To(to) if to.length() == 0 => Self::Family(to.family()).fmt(f),
            Self::To(to) => write!(f, "{} daddr {to}", to.family().nft()),
            Self::From(address) => write!(f, "{} saddr {address}", nft(*address)),
            Self::Answer => write!(f, "ct state established,related"),
            Self::Invalid => write!(f, "ct state invalid"),
            Self::BegunFrom(address) => {
                write!(f, "ct original {} saddr {address}", nft(*address))
            }
            Self::Syn => write!(f, "tcp flags & (syn | rst) == syn"),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => write!(f, "accept"),
            Self::Count(family, peer) => {
                let (word, number) = match family {
                    Family::V4 => ("ip", 4),
                    Family::V6 => ("ip6", 6),
                };
                let end = match peer {
                    Peer::Source => "saddr",
                    Peer::Destination => "daddr",
                };
                write!(f, "update @peers{number} {{ {word} {end} counter }} accept")
            }
            Self::Blocked => write!(f, "counter name blocked drop"),
            Self::Hostile => write!(f, "counter name hostile drop"),
            Self::Masquerade => write!(f, "masquerade"),
            Self::ClampToRoute => write!(f, "tcp option maxseg size set rt mtu"),
            Self::ClampTo(bytes) => write!(f, "tcp option maxseg size set {bytes}"),
        }
    }
}

/// What makes nft(8) replace the whole table in one transaction (nft -f). Its comment tells it from
/// every other, whoever puts that.
pub fn render(chains: &[Chain]) -> String {
    let content = content(chains);
    let mark = mark(&content);
    format!(
        "table inet {TABLE}\ndelete table inet {TABLE}\ntable inet {TABLE} {{\n\tcomment \"{mark}\"\n\
         {content}}}\n"
    )
}

/// Whether what nft(8) lists was put as this text.
pub fn is_listing_of(listed: &str, text: &str) -> bool {
    let comment = |table: &str| {
        let mut lines = table.lines().map(str::trim);
        lines.find(|line| line.starts_with("comment ")).map(str::to_owned)
    };
    let own = comment(text);
    own.is_some() && comment(listed) == own
}

/// FNV-1a, of 64 bits.
fn mark(content: &str) -> String {
    let hash = content.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

fn content(chains: &[Chain]) -> String {
    let mut text = "\tcounter blocked {\n\t}\n\tcounter hostile {\n\t}\n".to_owned();
    for (number, kind) in [(4, "ipv4_addr"), (6, "ipv6_addr")] {
        text.push_str(&format!(
            "\tset peers{number} {{\n\t\ttype {kind}\n\t\tsize 4096\n\t\tflags dynamic,timeout\n\
             \t\ttimeout 10m\n\t}}\n"
        ));
    }
    for Chain { hook, lines } in chains {
        let (name, declaration) = hook.declaration();
        text.push_str(&format!("\tchain {name} {{\n\t\t{declaration}; policy accept;\n"));
        for Line(matches, verdict) in lines {
            text.push_str("\t\t");
            for each in matches {
                text.push_str(&format!("{each} "));
            }
            text.push_str(&format!("{verdict}\n"));
        }
        text.push_str("\t}\n");
    }
    text
}
