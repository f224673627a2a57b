//! Addresses that a customer's config or server gives to the tunnel are not believed: one that is this
//! box's own, or the tailnet's, would draw traffic there that is not the customer's.

use std::net::IpAddr;

use crate::prefix::TAILNET;
use crate::sense::Network;

/// Why the tunnel may not have this address; None: it may.
pub(super) fn refused(address: IpAddr, network: &Network, tunnel: u32) -> Option<String> {
    let reserved = address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || match address {
            IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.to_ipv4_mapped().is_some(),
        };
    if reserved {
        return Some(format!(
            "the tunnel's address {address} is refused: it is none of a network's"
        ));
    }
    if TAILNET.iter().any(|tailnet| tailnet.contains(address)) {
        return Some(format!("the tunnel's address {address} is refused: it is the tailnet's"));
    }
    let own = network
        .addresses
        .iter()
        .filter(|own| own.index != tunnel)
        .find(|own| own.address == address || own.network.contains(address))?;
    let link = network.links.iter().find(|link| link.index == own.index);
    Some(format!(
        "the tunnel's address {address} is refused: {} on {} is this box's own",
        own.network,
        link.map_or("another interface", |link| &link.name)
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::kernel::{Address, Link};

    #[test]
    fn this_boxs_own_and_the_tailnets_are_refused() {
        let network = Network {
            links: vec![Link { index: 2, name: "eth0".into(), up: true, mtu: 1500, group: 0 }],
            addresses: vec![Address {
                index: 2,
                address: "198.51.100.10".parse().unwrap(),
                network: "198.51.100.0/24".parse().unwrap(),
                usable: true,
            }],
            ..Network::default()
        };
        for address in [
            "0.0.0.0",
            "127.0.0.1",
            "224.0.0.1",
            "169.254.1.1",
            "255.255.255.255",
            "100.64.0.9",
            "198.51.100.10",
            "198.51.100.77",
            "fe80::1",
            "::1",
            "::",
            "fd7a:115c:a1e0::9",
            "::ffff:198.51.100.10",
        ] {
            assert!(refused(address.parse().unwrap(), &network, 9).is_some(), "{address}");
        }
        for address in ["10.8.0.2", "172.16.0.2", "203.0.113.9", "fd00::2", "2001:db8::2"] {
            assert_eq!(refused(address.parse().unwrap(), &network, 9), None, "{address}");
        }
        // Its own address is no other's.
        assert_eq!(refused("198.51.100.10".parse().unwrap(), &network, 2), None);
    }
}
