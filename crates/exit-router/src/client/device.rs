//! The tunnel's interface, brought to what it should be and kept so: whoever takes it down, renames
//! it, empties or deletes it, finds it again as it was.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;

use rtnetlink::Handle;

use super::address;
use crate::act::netlink as act;
use crate::kernel::Link;
use crate::sense::netlink;

/// One interface.
#[derive(Debug)]
pub(crate) struct Device {
    name: String,
    handle: Handle,
    /// The index under which it was seen last: a renamed interface is found by it.
    seen: RefCell<Option<u32>>,
}

impl Device {
    /// The interface of this name, which need not be there yet.
    ///
    /// # Errors
    /// No netlink.
    pub(crate) fn new(name: String) -> io::Result<Self> {
        Ok(Self { name, handle: netlink::connect()?, seen: RefCell::new(None) })
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The interface; None: it is not there, or not by its name. One that was renamed is deleted,
    /// since whoever lies behind it must not come in under a name that nobody knows.
    ///
    /// # Errors
    /// For people: what netlink says.
    pub(crate) async fn find(&self) -> Result<Option<Link>, String> {
        let network = netlink::read(&self.handle).await?;
        if let Some(link) = network.link(&self.name) {
            self.seen.replace(Some(link.index));
            return Ok(Some(link.clone()));
        }
        let seen = self.seen.take();
        if let Some(renamed) = network.links.iter().find(|link| Some(link.index) == seen) {
            tracing::warn!(
                guppy_event = "renamed",
                "{} was renamed to {}: it is deleted and made anew",
                self.name,
                renamed.name
            );
            act::delete_link(&self.handle, renamed).await?;
        }
        Ok(None)
    }

    /// Makes a WireGuard interface of the kernel's; false: this kernel has no WireGuard.
    ///
    /// # Errors
    /// For people: what netlink says.
    pub(crate) async fn add_wireguard(&self) -> Result<bool, String> {
        act::add_wireguard(&self.handle, &self.name).await
    }

    /// Gives it its addresses, and no others, its MTU in bytes, and raises it.
    ///
    /// # Errors
    /// For people: it is gone, an address is this box's own, or what netlink says.
    pub(crate) async fn set_up(&self, addresses: &[IpAddr], mtu: u32) -> Result<(), String> {
        let network = netlink::read(&self.handle).await?;
        let link = network.link(&self.name).cloned();
        let link = link.ok_or_else(|| format!("{} is gone", self.name))?;
        for wanted in addresses {
            if let Some(why) = address::refused(*wanted, &network, link.index) {
                return Err(why);
            }
        }
        act::raise(&self.handle, &link, mtu).await?;
        let of_link = || network.addresses.iter().filter(|address| address.index == link.index);
        for old in of_link().filter(|old| old.usable && !addresses.contains(&old.address)) {
            act::delete_address(&self.handle, &link, old).await?;
        }
        for wanted in addresses {
            if !of_link().any(|old| old.address == *wanted) {
                act::add_address(&self.handle, &link, *wanted).await?;
            }
        }
        Ok(())
    }

    /// Deletes it, if it is there.
    ///
    /// # Errors
    /// For people: what netlink says.
    pub(crate) async fn delete(&self) -> Result<(), String> {
        match self.find().await? {
            Some(link) => act::delete_link(&self.handle, &link).await,
            None => Ok(()),
        }
    }
}
