//! The tunnel's interface, known by its index: its name is anybody's to change who has
//! CAP_NET_ADMIN.

use std::cell::RefCell;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use tracing::{info, warn};

use super::{Ended, address};
use crate::act::netlink as act;
use crate::kernel::{GROUP, Link};
use crate::rtnl::Handle;
use crate::sense::hints::Hints;
use crate::sense::{Network, netlink};

/// A change seldom comes alone; one look is for all of them.
const SETTLE: Duration = Duration::from_millis(100);

/// The interface of this client.
pub(super) struct Tunnel<'a> {
    handle: &'a Handle,
    link: Link,
    /// What it is to have.
    addresses: RefCell<Vec<IpAddr>>,
}

async fn network(handle: &Handle) -> Result<Network, Ended> {
    netlink::read(handle).await.map_err(Ended::Failed)
}

/// Removes what a client that was killed has left.
///
/// # Errors
/// An interface of that name is somebody else's.
pub(super) async fn clear(handle: &Handle, name: &str) -> Result<(), Ended> {
    let network = network(handle).await?;
    let Some(link) = network.link(name) else { return Ok(()) };
    // tun(4)'s owner tells of one that was made and not yet put into the group.
    let owner = fs::read_to_string(format!("/sys/class/net/{name}/owner"));
    let own = rustix::process::geteuid();
    let of_own_user =
        !own.is_root() && owner.is_ok_and(|uid| uid.trim() == own.as_raw().to_string());
    if link.group != GROUP && !of_own_user {
        return Err(Ended::Wrong(format!(
            "there is an interface {name} that is not guppy's: remove it (ip link delete {name}), or \
             give the profile another name"
        )));
    }
    act::delete_link(handle, link).await.map_err(Ended::Failed)
}

impl<'a> Tunnel<'a> {
    /// The interface of this name, that was just made.
    pub(super) async fn find(handle: &'a Handle, name: &str) -> Result<Self, Ended> {
        let network = network(handle).await?;
        let Some(link) = network.link(name).cloned() else {
            return Err(Ended::Failed(format!("the interface {name} was deleted at once")));
        };
        if link.group != GROUP {
            act::group(handle, &link).await.map_err(Ended::Failed)?;
        }
        Ok(Self { handle, link, addresses: RefCell::default() })
    }

    /// Up, with these addresses and no others, and this MTU, in bytes. Said again, it changes what
    /// differs.
    ///
    /// # Errors
    /// An address is refused ([`address::check`]), or the kernel does not take it.
    pub(super) async fn raise(&self, addresses: &[IpAddr], mtu: u32) -> Result<(), Ended> {
        let network = network(self.handle).await?;
        for address in addresses {
            // A server that has once pushed such a one is not tried again by itself.
            address::check(&network, self.link.index, *address).map_err(Ended::Wrong)?;
        }
        // Nothing is mended meanwhile.
        self.addresses.take();
        for old in network.addresses.iter().filter(|old| old.index == self.link.index) {
            if old.usable && !addresses.contains(&old.address) {
                act::delete_address(self.handle, &self.link, old).await.map_err(Ended::Failed)?;
            }
        }
        // Up first: an IPv6 address of an interface that is down goes (addrconf_ifdown()).
        let link = network.links.iter().find(|link| link.index == self.link.index);
        act::raise(self.handle, link.unwrap_or(&self.link), mtu).await.map_err(Ended::Failed)?;
        self.address(addresses).await?;
        self.addresses.replace(addresses.to_vec());
        Ok(())
    }

    async fn address(&self, addresses: &[IpAddr]) -> Result<(), Ended> {
        for address in addresses {
            match act::add_address(self.handle, &self.link, *address).await {
                // A box without IPv6 still has the tunnel's IPv4.
                Err(why) if address.is_ipv6() => warn!("{why}: the tunnel goes without IPv6"),
                done => done.map_err(Ended::Failed)?,
            }
        }
        Ok(())
    }

    /// Looks after it, until it is gone. Who takes it down may have a reason; but with that IPv6
    /// addresses go, and do not come back with it.
    pub(super) async fn hold(&self) -> Ended {
        let mut hints = match Hints::of_links() {
            Ok(hints) => hints,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        loop {
            // What cannot be read is not gone.
            if let Ok(network) = netlink::read(self.handle).await {
                let link = network.links.iter().find(|link| link.index == self.link.index);
                let Some(link) = link else {
                    return Ended::Failed(format!("the interface {} was deleted", self.link.name));
                };
                if let Err(ended) = self.mend(&network, link).await {
                    return ended;
                }
            }
            if let Err(error) = hints.next().await {
                return Ended::Failed(error.to_string());
            }
            tokio::time::sleep(SETTLE).await;
        }
    }

    async fn mend(&self, network: &Network, link: &Link) -> Result<(), Ended> {
        let has = |address: &IpAddr| {
            let mut all = network.addresses.iter();
            all.any(|own| own.index == link.index && own.address == *address)
        };
        let addresses = self.addresses.borrow().clone();
        let lacking: Vec<IpAddr> = addresses.into_iter().filter(|own| !has(own)).collect();
        match (link.up, lacking.first()) {
            (true, Some(first)) => {
                info!(guppy_event = "vpn-mended", "{} has lost {first}: given again", link.name);
                self.address(&lacking).await
            }
            _ => Ok(()),
        }
    }

    /// Deletes it, whatever it is called now.
    pub(super) async fn remove(&self) {
        if let Err(why) = act::delete_link(self.handle, &self.link).await {
            warn!("{why}: it stays, and the next start removes it");
        }
    }
}
