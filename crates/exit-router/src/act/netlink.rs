//! Rules, routes and links, by netlink. What is there already, and what is gone already, is done.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::route::{RouteHeader, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::rule::{RuleAction as Act, RuleAttribute, RuleMessage};

use crate::kernel::{GROUP, Link, Route, RouteAction, Rule, RuleAction, TABLE};
use crate::prefix::{Family, Prefix};
use crate::rtnl::{self, ADD, CHANGE, Handle, Message, kind};

/// errno(3): what came of a request whose work was done already.
const ALREADY: [i32; 1] = [17];
const GONE: [i32; 4] = [2, 3, 19, 99];

const fn number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn rule_message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = number(rule.family);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Protocol(RouteProtocol::from(rule.protocol)));
    match rule.action {
        RuleAction::Lookup(table) => {
            message.header.action = Act::ToTable;
            attributes.push(RuleAttribute::Table(table));
        }
        RuleAction::Blackhole => message.header.action = Act::Blackhole,
        RuleAction::Other(number) => message.header.action = Act::from(number),
    }
    if let Some(from) = rule.from {
        message.header.src_len = from.length();
        attributes.push(RuleAttribute::Source(from.address()));
    }
    if let Some(to) = rule.to {
        message.header.dst_len = to.length();
        attributes.push(RuleAttribute::Destination(to.address()));
    }
    if let Some(iif) = &rule.iif {
        attributes.push(RuleAttribute::Iifname(iif.clone()));
    }
    if let Some(oif) = &rule.oif {
        attributes.push(RuleAttribute::Oifname(oif.clone()));
    }
    message
}

/// Adds a rule.
///
/// # Errors
/// For people: the rule, and what the kernel says.
pub async fn add_rule(handle: &Handle, rule: &Rule) -> Result<(), String> {
    let message = Message::new(kind::NEWRULE, &rule_message(rule));
    handle.request(&rule.to_string(), message, ADD, &ALREADY).await
}

/// Takes one away.
///
/// # Errors
/// As those of [`add_rule`].
pub async fn delete_rule(handle: &Handle, rule: &Rule) -> Result<(), String> {
    let message = Message::new(kind::DELRULE, &rule_message(rule));
    handle.request(&rule.to_string(), message, CHANGE, &GONE).await
}

fn route_message(kind: u16, route: &Route) -> Message {
    let header = RouteHeader {
        address_family: number(route.to.family()),
        destination_prefix_length: route.to.length(),
        protocol: RouteProtocol::from(route.protocol),
        scope: match (kind, route.action, route.to.family()) {
            // Any scope (fib_table_delete()).
            (kind::DELROUTE, ..) => RouteScope::NoWhere,
            (_, RouteAction::Device(_), Family::V4) => RouteScope::Link,
            _ => RouteScope::Universe,
        },
        kind: match route.action {
            RouteAction::Device(_) => RouteType::Unicast,
            RouteAction::Blackhole => RouteType::BlackHole,
            RouteAction::Unreachable => RouteType::Unreachable,
            RouteAction::Other(number) => RouteType::from(number),
        },
        ..RouteHeader::default()
    };
    let mut message = Message::new(kind, &header)
        .with(rtnl::route::TABLE, &TABLE.to_ne_bytes())
        .with(rtnl::route::PRIORITY, &route.metric.to_ne_bytes());
    if route.to.length() > 0 {
        message = match route.to.address() {
            IpAddr::V4(v4) => message.with(rtnl::route::DST, &v4.octets()),
            IpAddr::V6(v6) => message.with(rtnl::route::DST, &v6.octets()),
        };
    }
    if let RouteAction::Device(index) = route.action {
        message = message.with(rtnl::route::OIF, &index.to_ne_bytes());
    }
    message
}

/// Adds a route to our table.
///
/// # Errors
/// For people: the route, and what the kernel says.
pub async fn add_route(handle: &Handle, route: &Route) -> Result<(), String> {
    let message = route_message(kind::NEWROUTE, route);
    handle.request(&route.text(&[]), message, ADD, &ALREADY).await
}

/// Takes one away.
///
/// # Errors
/// As those of [`add_route`].
pub async fn delete_route(handle: &Handle, route: &Route) -> Result<(), String> {
    let message = route_message(kind::DELROUTE, route);
    handle.request(&route.text(&[]), message, CHANGE, &GONE).await
}

fn link_message(kind: u16, index: u32, flags: LinkFlags) -> Message {
    let header = LinkHeader { index, flags, change_mask: flags, ..LinkHeader::default() };
    Message::new(kind, &header)
}

/// Puts an interface into the group of the tunnels.
///
/// # Errors
/// For people: the interface, and what the kernel says.
pub async fn group(handle: &Handle, link: &Link) -> Result<(), String> {
    set_link(handle, link, rtnl::link::GROUP, GROUP).await
}

async fn set_link(handle: &Handle, link: &Link, attribute: u16, value: u32) -> Result<(), String> {
    let message = link_message(kind::SETLINK, link.index, LinkFlags::empty())
        .with(attribute, &value.to_ne_bytes());
    handle.request(&link.name, message, CHANGE, &GONE).await
}

/// Makes a WireGuard interface, in the group of the tunnels from its first moment.
///
/// # Errors
/// `Ok(false)`: this kernel has no WireGuard. For people: what else it says.
pub async fn add_wireguard(handle: &Handle, name: &str) -> Result<bool, String> {
    let what = rtnl::attribute(rtnl::link::INFO_KIND, b"wireguard");
    let message = link_message(kind::NEWLINK, 0, LinkFlags::empty())
        .with(rtnl::link::IFNAME, format!("{name}\0").as_bytes())
        .with(rtnl::link::GROUP, &GROUP.to_ne_bytes())
        .with(rtnl::link::LINKINFO, &what);
    match handle.request(name, message, ADD, &ALREADY).await {
        Ok(()) => Ok(true),
        // EOPNOTSUPP, for a kind that no module is there for (rtnl_newlink()).
        Err(why) if why.contains("os error 95") => Ok(false),
        Err(why) => Err(why),
    }
}

/// Deletes an interface.
///
/// # Errors
/// For people: what the kernel says.
pub async fn delete_link(handle: &Handle, link: &Link) -> Result<(), String> {
    let message = link_message(kind::DELLINK, link.index, LinkFlags::empty());
    handle.request(&link.name, message, CHANGE, &GONE).await
}

/// Makes an interface ready: group, MTU in bytes, up.
///
/// # Errors
/// For people: the interface, and what the kernel says.
pub async fn raise(handle: &Handle, link: &Link, mtu: u32) -> Result<(), String> {
    if link.group != GROUP {
        group(handle, link).await?;
    }
    if link.mtu != mtu {
        set_link(handle, link, rtnl::link::MTU, mtu).await?;
    }
    if !link.up {
        let message = link_message(kind::SETLINK, link.index, LinkFlags::Up);
        handle.request(&link.name, message, CHANGE, &GONE).await?;
    }
    Ok(())
}

/// Gives an interface an address, alone in its network, so that no route of guppy's own leads there.
///
/// # Errors
/// For people: the address, and what the kernel says.
pub async fn add_address(handle: &Handle, link: &Link, address: IpAddr) -> Result<(), String> {
    let family = Family::of(address);
    let mut message = AddressMessage::default();
    message.header.family = number(family);
    message.header.prefix_len = family.bits();
    message.header.scope = AddressScope::Universe;
    message.header.index = link.index;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    // Nobody else is on the link: no duplicate address detection, after which alone it could be used.
    let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
    message.attributes.push(AddressAttribute::Flags(flags));
    let what = format!("address {} on {}", Prefix::host(address), link.name);
    handle.request(&what, Message::new(kind::NEWADDR, &message), ADD, &ALREADY).await
}

/// Takes an address from an interface.
///
/// # Errors
/// For people: the address, and what the kernel says.
pub async fn delete_address(
    handle: &Handle,
    link: &Link,
    address: &crate::kernel::Address,
) -> Result<(), String> {
    let mut message = AddressMessage::default();
    message.header.family = number(Family::of(address.address));
    message.header.prefix_len = address.network.length();
    message.header.index = link.index;
    message.attributes.push(AddressAttribute::Local(address.address));
    let what = format!("address {} on {}", address.address, link.name);
    handle.request(&what, Message::new(kind::DELADDR, &message), CHANGE, &GONE).await
}
