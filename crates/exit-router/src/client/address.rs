//! Which addresses a tunnel may have. A server that gives the tunnel an address of guppy's own would
//! make guppy's traffic to it its own, and one that gives a peer's would speak for the peer.

use std::net::{IpAddr, Ipv6Addr};

use crate::prefix::{Prefix, TAILNET};
use crate::sense::Network;

/// Whether the tunnel with this index may have `address`.
///
/// # Errors
/// For people: whose it is.
pub(super) fn check(network: &Network, tunnel: u32, address: IpAddr) -> Result<(), String> {
    let said = |whose: &str| Err(format!("the tunnel's address {address} is refused: {whose}"));
    if !is_unicast(address) {
        return said("it is no address of a host");
    }
    if TAILNET.iter().any(|tailnet| tailnet.contains(address)) {
        return said("it lies in the tailnet's range");
    }
    let name = |index: u32| {
        let link = network.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("interface {index}"), |link| link.name.clone())
    };
    let others = || network.addresses.iter().filter(|own| own.index != tunnel);
    if let Some(own) = others().find(|own| own.address == address) {
        return said(&format!("it is guppy's own, on {}", name(own.index)));
    }
    let connected = others().map(|own| (own.network, own.index));
    let routed = network.networks.iter().copied().filter(|(_, index)| *index != tunnel);
    // A default route's network is everything, and nobody's.
    match connected.chain(routed).find(|(own, _)| own.length() > 1 && own.contains(address)) {
        Some((own, index)) => said(&format!("guppy's network {own} lies behind {}", name(index))),
        None => Ok(()),
    }
}

/// An address that a host on some network can have, for itself alone (RFC 6890).
fn is_unicast(address: IpAddr) -> bool {
    let reserved = match address {
        IpAddr::V4(v4) => {
            // 0.0.0.0/8 is "this network", 240.0.0.0/4 reserved and 255.255.255.255 in it.
            let [first, ..] = v4.octets();
            first == 0 || first >= 240 || v4.is_link_local()
        }
        IpAddr::V6(v6) => {
            let mapped = Prefix::around(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0).into(), 96);
            v6.is_unicast_link_local() || mapped.contains(address)
        }
    };
    !(reserved || address.is_unspecified() || address.is_loopback() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::kernel::{Address, Link};

    const TUNNEL: u32 = 9;

    fn network() -> Network {
        let address = |index, address: &str, network: &str| Address {
            index,
            address: address.parse().unwrap(),
            network: network.parse().unwrap(),
            usable: true,
        };
        Network {
            links: vec![Link { index: 2, name: "eth0".into(), up: true, mtu: 1500, group: 0 }],
            addresses: vec![
                address(2, "198.51.100.10", "198.51.100.0/24"),
                address(2, "2001:db8:1::10", "2001:db8:1::/64"),
                address(TUNNEL, "10.8.0.6", "10.8.0.6"),
            ],
            networks: vec![
                ("10.1.0.0/16".parse().unwrap(), 2),
                ("0.0.0.0/0".parse().unwrap(), 2),
                ("10.9.0.0/16".parse().unwrap(), TUNNEL),
            ],
            ..Network::default()
        }
    }

    fn said(address: &str) -> String {
        match check(&network(), TUNNEL, address.parse().unwrap()) {
            Ok(()) => String::new(),
            Err(why) => why,
        }
    }

    #[test]
    fn a_server_cannot_give_what_is_guppys_or_the_tailnets() {
        for (address, whose) in [
            ("198.51.100.10", "it is guppy's own, on eth0"),
            ("2001:db8:1::10", "it is guppy's own, on eth0"),
            ("198.51.100.77", "guppy's network 198.51.100.0/24 lies behind eth0"),
            ("2001:db8:1::77", "guppy's network 2001:db8:1::/64 lies behind eth0"),
            ("10.1.2.3", "guppy's network 10.1.0.0/16 lies behind eth0"),
            ("100.64.0.1", "tailnet's range"),
            ("100.127.255.255", "tailnet's range"),
            ("fd7a:115c:a1e0::53", "tailnet's range"),
            ("127.0.0.1", "no address of a host"),
            ("0.0.0.0", "no address of a host"),
            ("0.1.2.3", "no address of a host"),
            ("169.254.169.254", "no address of a host"),
            ("224.0.0.1", "no address of a host"),
            ("255.255.255.255", "no address of a host"),
            ("::", "no address of a host"),
            ("::1", "no address of a host"),
            ("::ffff:198.51.100.10", "no address of a host"),
            ("fe80::1", "no address of a host"),
            ("ff02::1", "no address of a host"),
        ] {
            assert!(said(address).contains(whose), "{address}: {}", said(address));
        }
        for address in
            ["10.8.0.6", "10.9.0.1", "10.2.0.1", "203.0.113.5", "fd00:30::2", "100.128.0.1"]
        {
            assert_eq!(said(address), "", "{address}");
        }
    }

    proptest! {
        /// Whatever a server says, what is guppy's or a peer's is not taken.
        #[test]
        fn no_address_of_guppys_or_the_tailnets_passes(bits: u32, low: u64) {
            let v4 = IpAddr::from(bits.to_be_bytes());
            let peer = Prefix::around("100.64.0.0".parse().unwrap(), 10);
            if peer.contains(v4) || v4.is_loopback() || v4.is_multicast() {
                prop_assert!(check(&network(), TUNNEL, v4).is_err());
            }
            for high in [0xfd7a_115c_a1e0_0000_u64, 0x2001_0db8_0001_0000] {
                let v6 = IpAddr::from((u128::from(high) << 64 | u128::from(low)).to_be_bytes());
                prop_assert!(check(&network(), TUNNEL, v6).is_err());
            }
            let peer = IpAddr::from((0x6440_0000_u32 | (bits & 0x003f_ffff)).to_be_bytes());
            prop_assert!(check(&network(), TUNNEL, peer).is_err());
        }
    }
}
