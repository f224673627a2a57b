//! Kind `unit`: some other unit makes the interface, which root has bound to `guppy-vpn@NAME.service`.
//! Nothing is made here: this waits until it has an address, and ends when it is gone.

use std::time::Duration;

use service::signals::Signals;

use super::{Context, Ended, ready, until_stopped};
use crate::act;
use crate::kernel::GROUP;
use crate::rtnl::Handle;
use crate::sense::hints::Hints;
use crate::sense::{Network, netlink};

/// A change seldom comes alone; one look is for all of them.
const SETTLE: Duration = Duration::from_millis(100);

pub(super) async fn run(context: &Context, signals: &mut Signals) -> Result<(), Ended> {
    let Context { name, interface, handle, .. } = context;
    let work = async {
        match watch(name, interface, handle).await {
            Ok(ended) | Err(ended) => ended,
        }
    };
    until_stopped(signals, work).await
}

async fn watch(name: &str, interface: &str, handle: &Handle) -> Result<Ended, Ended> {
    let failed = |error: std::io::Error| Ended::Failed(error.to_string());
    let mut hints = Hints::of_links().map_err(failed)?;
    service::notify::status(&format!("waiting for {interface} to have an address"));
    let mut serving = None;
    loop {
        // What cannot be read is not gone.
        if let Ok(network) = netlink::read(handle).await {
            match (serving, usable(&network, interface)) {
                (None, Some(index)) => {
                    let link = network.links.iter().find(|link| link.index == index);
                    if let Some(link) = link.filter(|link| link.group != GROUP) {
                        act::netlink::group(handle, link).await.map_err(Ended::Failed)?;
                    }
                    ready(name, &format!("{interface} is up"));
                    serving = Some(index);
                }
                (Some(index), _) if !network.links.iter().any(|link| link.index == index) => {
                    return Ok(Ended::Failed(format!("the interface {interface} is gone")));
                }
                _ => {}
            }
        }
        hints.next().await.map_err(failed)?;
        tokio::time::sleep(SETTLE).await;
    }
}

/// The index of the interface of this name, once it is up and has an address that can be used.
fn usable(network: &Network, interface: &str) -> Option<u32> {
    let link = network.link(interface).filter(|link| link.up)?;
    let mut addresses = network.addresses.iter();
    addresses.any(|own| own.index == link.index && own.usable).then_some(link.index)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::kernel::{Address, Link};

    #[test]
    fn an_interface_is_of_use_when_it_is_up_and_has_an_address() {
        let link = |up| Link { index: 4, name: "ppp0".into(), up, mtu: 1500, group: 0 };
        let address = |index, usable| {
            let address = "10.40.0.2".parse().unwrap();
            Address { index, address, network: crate::prefix::Prefix::host(address), usable }
        };
        let of = |links: &[Link], addresses: &[Address]| {
            let (links, addresses) = (links.to_vec(), addresses.to_vec());
            usable(&Network { links, addresses, ..Network::default() }, "ppp0")
        };
        assert_eq!(of(&[link(true)], &[address(4, true)]), Some(4));
        assert_eq!(of(&[link(false)], &[address(4, true)]), None);
        assert_eq!(of(&[link(true)], &[address(4, false)]), None);
        assert_eq!(of(&[link(true)], &[address(5, true)]), None);
        assert_eq!(of(&[], &[]), None);
    }
}
