//! Networks as people write them, `10.20.0.0/16` or `fd00:20::/48`: what overlaps what.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// As ip(8) and nft(8) write it: `ip` or `ip6`.
    pub const fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

/// A network: no bit is set behind its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// Every address of a tailnet: CGNAT's range (RFC 6598) and Tailscale's own ULA (tsaddr.go).
pub const TAILNET: [Prefix; 2] = [
    Prefix { address: IpAddr::V4(Ipv4Addr::new(100, 64, 0, 0)), length: 10 },
    Prefix {
        address: IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0)),
        length: 48,
    },
];

impl Prefix {
    /// The network of `length` bits that `address` lies in.
    pub fn around(address: IpAddr, length: u8) -> Self {
        let length = length.min(Family::of(address).bits());
        let kept = |bits: u128, all: u32| {
            let dropped = all - u32::from(length);
            bits.checked_shr(dropped).unwrap_or(0).checked_shl(dropped).unwrap_or(0)
        };
        let address = match address {
            IpAddr::V4(v4) => {
                let bits = kept(u128::from(v4.to_bits()), 32);
                IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(0)))
            }
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(kept(v6.to_bits(), 128))),
        };
        Self { address, length }
    }

    /// This one address.
    pub fn host(address: IpAddr) -> Self {
        Self::around(address, Family::of(address).bits())
    }

    /// Every address of a family.
    pub fn all(family: Family) -> Self {
        match family {
            Family::V4 => Self::around(Ipv4Addr::UNSPECIFIED.into(), 0),
            Family::V6 => Self::around(Ipv6Addr::UNSPECIFIED.into(), 0),
        }
    }

    /// Its first address.
    pub const fn address(self) -> IpAddr {
        self.address
    }

    /// Its length in bits.
    pub const fn length(self) -> u8 {
        self.length
    }

    /// Its family.
    pub const fn family(self) -> Family {
        Family::of(self.address)
    }

    /// Whether it holds `address`.
    pub fn contains(self, address: IpAddr) -> bool {
        self.family() == Family::of(address) && Self::around(address, self.length) == self
    }

    /// Whether an address lies in both.
    pub fn overlaps(self, other: Self) -> bool {
        let (wide, narrow) =
            if self.length <= other.length { (self, other) } else { (other, self) };
        wide.contains(narrow.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == self.family().bits() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.length)
        }
    }
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("\"{text}\" is no network: write it as in \"10.20.0.0/16\" or \"fd00:20::/48\"")
        };
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let bits = Family::of(address).bits();
        let length = match length {
            Some(length) => {
                length.parse().ok().filter(|length| *length <= bits).ok_or_else(wrong)?
            }
            None => bits,
        };
        let prefix = Self::around(address, length);
        if prefix.address != address {
            return Err(format!(
                "\"{text}\" has bits behind its length: do you mean \"{prefix}\"?"
            ));
        }
        Ok(prefix)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn networks_are_read_and_written() {
        for text in
            ["10.20.0.0/16", "0.0.0.0/0", "::/0", "fd00:20::/48", "192.0.2.7", "2001:db8::1"]
        {
            assert_eq!(prefix(text).to_string(), text);
        }
        assert_eq!(prefix("192.0.2.7/32").to_string(), "192.0.2.7");
        for text in ["", "10.0.0.0/33", "10.0.0.0/", "10.0.0/8", "x", "::/129", "10.0.0.0/-1"] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
        let said = "10.20.0.1/16".parse::<Prefix>().unwrap_err();
        assert!(said.contains("do you mean \"10.20.0.0/16\"?"), "{said}");
    }

    #[test]
    fn what_overlaps() {
        let both =
            |a: &str, b: &str| prefix(a).overlaps(prefix(b)) && prefix(b).overlaps(prefix(a));
        assert!(both("10.0.0.0/8", "10.20.0.0/16"));
        assert!(both("0.0.0.0/0", "192.0.2.7"));
        assert!(!both("10.0.0.0/16", "10.1.0.0/16"));
        assert!(!both("::/0", "0.0.0.0/0"));
        assert!(prefix("fd7a:115c:a1e0::/48").contains("fd7a:115c:a1e0::53".parse().unwrap()));
        assert!(!prefix("100.64.0.0/10").contains("100.128.0.0".parse().unwrap()));
    }
}
