//! Links, addresses, rules, routes and filters, read anew each time: what netlink says of changes is
//! incomplete (a link that goes down takes its IPv4 routes with it without a word).

use std::net::IpAddr;

use netlink_packet_core::Parseable;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkHeader};
use netlink_packet_route::route::{RouteHeader, RouteType};
use netlink_packet_route::rule::{RuleAction as Act, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::tc::{TcHandle, TcHeader, TcU32Selector};

use super::Network;
use crate::kernel::{
    Address, EXEMPT_PREF, EXEMPT6_PREF, FROM_PREF, FROM6_PREF, Filter, IN_PREF, Link, MAIN, Route,
    RouteAction, Rule, RuleAction, TABLE, Taken,
};
use crate::prefix::{Family, Prefix};
use crate::rtnl::{self, Handle, Message, kind};

/// Bytes of the headers that attributes stand behind (linux/rtnetlink.h).
const LINK_HEADER: usize = 16;
const ROUTE_HEADER: usize = 12;
const FILTER_HEADER: usize = 20;

/// Everything, at about one moment.
///
/// # Errors
/// For people: which reading failed, and why.
pub async fn read(handle: &Handle) -> Result<Network, String> {
    let mut network = Network {
        links: links(handle).await?,
        addresses: addresses(handle).await?,
        ..Network::default()
    };
    for family in Family::ALL {
        network.rules.extend(rules(handle, family).await?);
        let own = routes(handle, family, TABLE).await?;
        network.routes.extend(own.iter().map(route));
        for told in routes(handle, family, MAIN).await? {
            main_route(&mut network, &told);
        }
    }
    network.uplinks.sort_unstable();
    network.uplinks.dedup();
    for uplink in network.uplinks.clone() {
        network.filters.extend(filters(handle, uplink).await?);
    }
    Ok(network)
}

async fn links(handle: &Handle) -> Result<Vec<Link>, String> {
    let request = Message::new(kind::GETLINK, &LinkHeader::default());
    let answers = handle.dump("links", request).await?;
    Ok(answers.iter().filter(|answer| answer.kind == kind::NEWLINK).filter_map(link).collect())
}

fn link(message: &Message) -> Option<Link> {
    let header = LinkHeader::parse(&message.body).ok()?;
    let up = header.flags.contains(LinkFlags::Up);
    let mut link = Link { index: header.index, name: String::new(), up, mtu: 0, group: 0 };
    for (attribute, value) in message.attributes(LINK_HEADER) {
        match attribute {
            rtnl::link::IFNAME => link.name = rtnl::text(value),
            rtnl::link::MTU => link.mtu = rtnl::number(value),
            rtnl::link::GROUP => link.group = rtnl::number(value),
            _ => {}
        }
    }
    Some(link)
}

async fn addresses(handle: &Handle) -> Result<Vec<Address>, String> {
    let request = Message::new(kind::GETADDR, &AddressMessage::default());
    let answers = handle.dump("addresses", request).await?;
    let answers = answers.iter().filter(|answer| answer.kind == kind::NEWADDR);
    Ok(answers.filter_map(|answer| address(&AddressMessage::parse(&answer.body).ok()?)).collect())
}

fn address(message: &AddressMessage) -> Option<Address> {
    let (mut own, mut peer, mut flags) = (None, None, AddressFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            // On a point-to-point link the one is this end and the other the far one (rtnetlink(7)).
            AddressAttribute::Local(address) => own = Some(*address),
            AddressAttribute::Address(address) => peer = Some(*address),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let address = own.or(peer)?;
    let unready = AddressFlags::Tentative | AddressFlags::Dadfailed;
    Some(Address {
        index: message.header.index,
        address,
        network: Prefix::around(peer.unwrap_or(address), message.header.prefix_len),
        usable: message.header.scope == AddressScope::Universe && !flags.intersects(unready),
    })
}

async fn rules(handle: &Handle, family: Family) -> Result<Vec<Rule>, String> {
    let mut request = RuleMessage::default();
    request.header.family = number(family);
    let answers = handle.dump("rules", Message::new(kind::GETRULE, &request)).await?;
    let answers = answers.iter().filter(|answer| answer.kind == kind::NEWRULE);
    Ok(answers
        .filter_map(|answer| Some(rule(family, &RuleMessage::parse(&answer.body).ok()?)))
        .collect())
}

const fn number(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn rule(family: Family, message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut rule = Rule::new(family, 0, RuleAction::Lookup(u32::from(header.table)));
    rule.protocol = 0;
    rule.more = header.flags.contains(RuleFlags::Invert) || header.tos != 0;
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Source(address) => {
                rule.from = Some(Prefix::around(*address, header.src_len));
            }
            RuleAttribute::Destination(address) => {
                rule.to = Some(Prefix::around(*address, header.dst_len));
            }
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.oif = Some(name.clone()),
            RuleAttribute::Table(table) => rule.action = RuleAction::Lookup(*table),
            RuleAttribute::Protocol(protocol) => rule.protocol = u8::from(*protocol),
            RuleAttribute::SuppressPrefixLen(length) if *length == u32::MAX => {}
            // The mask of a mark comes with the mark.
            RuleAttribute::FwMask(_) => {}
            RuleAttribute::FwMark(_)
            | RuleAttribute::SuppressPrefixLen(_)
            | RuleAttribute::SuppressIfGroup(_)
            | RuleAttribute::TunId(_)
            | RuleAttribute::L3MDev(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_) => rule.more = true,
            _ => {}
        }
    }
    match header.action {
        Act::ToTable => {}
        Act::Blackhole => rule.action = RuleAction::Blackhole,
        other => rule.action = RuleAction::Other(u8::from(other)),
    }
    rule
}

/// A route as the kernel tells of it.
struct Told {
    to: Prefix,
    table: u32,
    route_type: RouteType,
    protocol: u8,
    metric: u32,
    /// One, or those of its hops.
    devices: Vec<u32>,
    by_gateway: bool,
}

async fn routes(handle: &Handle, family: Family, table: u32) -> Result<Vec<Told>, String> {
    let header = RouteHeader { address_family: number(family), ..RouteHeader::default() };
    let request =
        Message::new(kind::GETROUTE, &header).with(rtnl::route::TABLE, &table.to_ne_bytes());
    let answers = match handle.dump("routes", request).await {
        Ok(answers) => answers,
        // A table that nothing was ever put into (inet_dump_fib(), inet6_dump_fib()).
        Err(why) if why.contains("os error 2") => Vec::new(),
        Err(why) => return Err(why),
    };
    let answers = answers.iter().filter(|answer| answer.kind == kind::NEWROUTE);
    Ok(answers
        .filter_map(|answer| told(family, answer))
        .filter(|told| told.table == table)
        .collect())
}

fn told(family: Family, message: &Message) -> Option<Told> {
    let header = RouteHeader::parse(&message.body).ok()?;
    let mut told = Told {
        to: Prefix::all(family),
        table: u32::from(header.table),
        route_type: header.kind,
        protocol: u8::from(header.protocol),
        metric: 0,
        devices: Vec::new(),
        by_gateway: false,
    };
    for (attribute, value) in message.attributes(ROUTE_HEADER) {
        match attribute {
            rtnl::route::DST => {
                told.to = Prefix::around(address_of(value)?, header.destination_prefix_length);
            }
            rtnl::route::TABLE => told.table = rtnl::number(value),
            rtnl::route::PRIORITY => told.metric = rtnl::number(value),
            rtnl::route::OIF => told.devices.push(rtnl::number(value)),
            rtnl::route::GATEWAY | rtnl::route::VIA => told.by_gateway = true,
            rtnl::route::MULTIPATH => {
                told.by_gateway = true;
                told.devices.extend(hops(value));
            }
            _ => {}
        }
    }
    Some(told)
}

fn address_of(value: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(value).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()
}

/// The interfaces of a route with several: each hop begins with its length in 2 bytes, flags and
/// weight in one each, and the index in 4 (struct rtnexthop).
fn hops(mut value: &[u8]) -> Vec<u32> {
    let mut devices = Vec::new();
    while let Some(([low, high, _, _], rest)) = value.split_first_chunk() {
        devices.extend(rest.first_chunk().map(|index: &[u8; 4]| u32::from_ne_bytes(*index)));
        let length = usize::from(u16::from_ne_bytes([*low, *high])).next_multiple_of(4);
        value = value.get(length.max(8)..).unwrap_or_default();
    }
    devices
}

fn route(told: &Told) -> Route {
    let action = match (told.route_type, told.devices.as_slice()) {
        (RouteType::Unicast, [index]) if !told.by_gateway => RouteAction::Device(*index),
        (RouteType::BlackHole, _) => RouteAction::Blackhole,
        (RouteType::Unreachable, _) => RouteAction::Unreachable,
        (other, _) => RouteAction::Other(u8::from(other)),
    };
    Route { to: told.to, metric: told.metric, action, protocol: told.protocol }
}

fn main_route(network: &mut Network, told: &Told) {
    if told.route_type != RouteType::Unicast {
        return;
    }
    // A half of everything is a default route in two parts (OpenVPN's def1).
    if told.to.length() <= 1 {
        network.uplinks.extend(&told.devices);
    } else {
        network.networks.extend(told.devices.iter().map(|device| (told.to, *device)));
    }
}

async fn filters(handle: &Handle, uplink: u32) -> Result<Vec<Filter>, String> {
    let header = TcHeader {
        index: i32::try_from(uplink).unwrap_or(0),
        parent: TcHandle { major: 0xffff, minor: TcHandle::MIN_EGRESS },
        ..TcHeader::default()
    };
    let request = Message::new(kind::GETTFILTER, &header);
    let answers = handle.dump("filters", request).await?;
    let answers = answers.iter().filter(|answer| answer.kind == kind::NEWTFILTER);
    Ok(answers.filter_map(|answer| filter(uplink, answer)).collect())
}

/// One of ours, by its preference. u32's hash tables are listed as filters too, without a selector.
fn filter(uplink: u32, message: &Message) -> Option<Filter> {
    let preference = TcHeader::parse(&message.body).ok()?.info >> 16;
    let mut attributes = message.attributes(FILTER_HEADER);
    let (_, options) = attributes.find(|(attribute, _)| *attribute == rtnl::filter::OPTIONS)?;
    let (mut indev, mut selector) = (None, None);
    for (option, value) in rtnl::attributes(options) {
        match option {
            rtnl::filter::U32_INDEV => indev = Some(rtnl::text(value)),
            rtnl::filter::U32_SELECTOR => selector = TcU32Selector::parse(value).ok(),
            _ => {}
        }
    }
    let selector = selector?;
    let family = match preference {
        IN_PREF => return Some(Filter { uplink, taken: Taken::In(indev) }),
        FROM_PREF | EXEMPT_PREF => Family::V4,
        FROM6_PREF | EXEMPT6_PREF => Family::V6,
        _ => return None,
    };
    // Keys are 32 bits each, from the header's source or destination on.
    let (mut bits, mut length) = (0_u128, 0_u32);
    for key in &selector.keys {
        bits = bits << 32 | u128::from(key.val);
        length += key.mask.count_ones();
    }
    let address = match family {
        Family::V4 => IpAddr::from(u32::try_from(bits).ok()?.to_be_bytes()),
        Family::V6 => {
            // tc(8) leaves out the keys whose mask is empty.
            let left = 128_u32.checked_sub(32 * u32::try_from(selector.keys.len()).ok()?)?;
            IpAddr::from(bits.checked_shl(left).unwrap_or(0).to_be_bytes())
        }
    };
    let taken = match preference {
        FROM_PREF | FROM6_PREF => Taken::From(address),
        _ => Taken::Exempt(indev, Prefix::around(address, u8::try_from(length).ok()?)),
    };
    Some(Filter { uplink, taken })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// As the kernel tells of a filter of u32 with these keys (u32_dump(), struct tc_u32_sel).
    fn told(preference: u32, keys: &[(u32, u32)], indev: Option<&str>) -> Message {
        let mut selector = vec![1, 0, u8::try_from(keys.len()).unwrap(), 0];
        selector.extend([0; 12]);
        for (value, mask) in keys {
            selector.extend(mask.to_be_bytes());
            selector.extend(value.to_be_bytes());
            selector.extend([0; 8]);
        }
        let mut options = rtnl::attribute(rtnl::filter::U32_SELECTOR, &selector);
        if let Some(name) = indev {
            let name = format!("{name}\0");
            options.extend(rtnl::attribute(rtnl::filter::U32_INDEV, name.as_bytes()));
        }
        let header = TcHeader { info: preference << 16, ..TcHeader::default() };
        Message::new(kind::NEWTFILTER, &header).with(rtnl::filter::OPTIONS, &options)
    }

    #[test]
    fn what_is_read_back_is_what_was_put() {
        let indev = Some("tailscale0".to_owned());
        let to = |text: &str| Taken::Exempt(indev.clone(), text.parse().unwrap());
        let from = |text: &str| Taken::From(text.parse().unwrap());
        let all = u32::MAX;
        let six = [(0xfd08_0000, all), (0, all), (0, all), (2, all)];
        for (preference, keys, indev, taken) in [
            (FROM_PREF, &[(0x0a08_0002, all)][..], None, from("10.8.0.2")),
            (FROM6_PREF, &six, None, from("fd08::2")),
            (EXEMPT_PREF, &[(0x0a01_0000, 0xffff_0000)], Some("tailscale0"), to("10.1.0.0/16")),
            (EXEMPT6_PREF, &[(0x2001_0db8, all)], Some("tailscale0"), to("2001:db8::/32")),
            (IN_PREF, &[(0, 0)], Some("tailscale0"), Taken::In(indev.clone())),
            (IN_PREF, &[(0, 0)], None, Taken::In(None)),
        ] {
            let read = filter(2, &told(preference, keys, indev)).unwrap();
            assert_eq!((read.preference(), read.taken), (preference, taken));
        }
        assert_eq!(filter(2, &told(49_152, &[(0, 0)], None)), None);
    }
}
