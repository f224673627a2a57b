//! Rules, routes and links, by netlink. What is there already, and what is gone already, is done.

use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction as Act, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::Handle;

use crate::kernel::{GROUP, Link, Route, RouteAction, Rule, RuleAction, TABLE};
use crate::prefix::{Family, Prefix};

const ADD: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;

/// errno(3): what came of a request whose work was done already.
const ALREADY: [i32; 1] = [17];
const GONE: [i32; 4] = [2, 3, 19, 99];

async fn request(
    handle: &Handle,
    what: &str,
    message: RouteNetlinkMessage,
    flags: u16,
    done: &[i32],
) -> Result<(), String> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    let answers = handle.clone().request(message).map_err(|error| format!("{what}: {error}"))?;
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        if let NetlinkPayload::Error(error) = answer.payload
            && !done.contains(&-error.raw_code())
            && error.raw_code() != 0
        {
            return Err(format!("{what}: {}", error.to_io()));
        }
    }
    Ok(())
}

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
    let message = RouteNetlinkMessage::NewRule(rule_message(rule));
    request(handle, &rule.to_string(), message, ADD, &ALREADY).await
}

/// Takes one away.
///
/// # Errors
/// As those of [`add_rule`].
pub async fn delete_rule(handle: &Handle, rule: &Rule) -> Result<(), String> {
    let message = RouteNetlinkMessage::DelRule(rule_message(rule));
    request(handle, &rule.to_string(), message, CHANGE, &GONE).await
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = number(route.to.family());
    message.header.destination_prefix_length = route.to.length();
    message.header.protocol = RouteProtocol::from(route.protocol);
    message.header.scope = RouteScope::Universe;
    message.header.kind = match route.action {
        RouteAction::Device(_) => RouteType::Unicast,
        RouteAction::Blackhole => RouteType::BlackHole,
        RouteAction::Unreachable => RouteType::Unreachable,
        RouteAction::Other(number) => RouteType::from(number),
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Table(TABLE));
    attributes.push(RouteAttribute::Priority(route.metric));
    if route.to.length() > 0 {
        attributes.push(RouteAttribute::Destination(match route.to.address() {
            IpAddr::V4(v4) => RouteAddress::Inet(v4),
            IpAddr::V6(v6) => RouteAddress::Inet6(v6),
        }));
    }
    if let RouteAction::Device(index) = route.action {
        if route.to.family() == Family::V4 {
            message.header.scope = RouteScope::Link;
        }
        attributes.push(RouteAttribute::Oif(index));
    }
    message
}

/// Adds a route to our table.
///
/// # Errors
/// For people: the route, and what the kernel says.
pub async fn add_route(handle: &Handle, route: &Route) -> Result<(), String> {
    let message = RouteNetlinkMessage::NewRoute(route_message(route));
    request(handle, &route.text(&[]), message, ADD, &ALREADY).await
}

/// Takes one away.
///
/// # Errors
/// As those of [`add_route`].
pub async fn delete_route(handle: &Handle, route: &Route) -> Result<(), String> {
    let mut message = route_message(route);
    // Nowhere: any scope (fib_table_delete()).
    message.header.scope = RouteScope::NoWhere;
    let message = RouteNetlinkMessage::DelRoute(message);
    request(handle, &route.text(&[]), message, CHANGE, &GONE).await
}

/// Puts an interface into the group of the tunnels.
///
/// # Errors
/// For people: the interface, and what the kernel says.
pub async fn group(handle: &Handle, link: &Link) -> Result<(), String> {
    set_link(handle, link.index, &link.name, LinkAttribute::Group(GROUP)).await
}

async fn set_link(
    handle: &Handle,
    index: u32,
    name: &str,
    attribute: LinkAttribute,
) -> Result<(), String> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(attribute);
    request(handle, name, RouteNetlinkMessage::SetLink(message), CHANGE, &GONE).await
}

/// Makes a WireGuard interface, in the group of the tunnels from its first moment.
///
/// # Errors
/// `Ok(false)`: this kernel has no WireGuard. For people: what else it says.
pub async fn add_wireguard(handle: &Handle, name: &str) -> Result<bool, String> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.push(LinkAttribute::Group(GROUP));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Wireguard)]));
    match request(handle, name, RouteNetlinkMessage::NewLink(message), ADD, &ALREADY).await {
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
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    request(handle, &link.name, RouteNetlinkMessage::DelLink(message), CHANGE, &GONE).await
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
        set_link(handle, link.index, &link.name, LinkAttribute::Mtu(mtu)).await?;
    }
    if !link.up {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        let message = RouteNetlinkMessage::SetLink(message);
        request(handle, &link.name, message, CHANGE, &GONE).await?;
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
    request(handle, &what, RouteNetlinkMessage::NewAddress(message), ADD, &ALREADY).await
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
    request(handle, &what, RouteNetlinkMessage::DelAddress(message), CHANGE, &GONE).await
}
