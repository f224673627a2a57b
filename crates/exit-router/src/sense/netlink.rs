//! Links, addresses, rules, routes and filters, read anew each time: what netlink says of changes is
//! incomplete (a link that goes down takes its IPv4 routes with it without a word).

use std::io;
use std::net::IpAddr;

use futures_util::StreamExt;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteNextHop, RouteType,
};
use netlink_packet_route::rule::{RuleAction as Act, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::tc::{TcAttribute, TcFilterU32Option, TcHandle, TcMessage, TcOption};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::Handle;

use super::Network;
use crate::kernel::{
    Address, DROP_PREF, Filter, Link, MAIN, PASS_PREF, Route, RouteAction, Rule, RuleAction, TABLE,
};
use crate::prefix::{Family, Prefix};

/// A connection to the kernel; its other end is a task of the runtime.
///
/// # Errors
/// Those of socket(2).
pub fn connect() -> io::Result<Handle> {
    // Strict: the kernel then filters a dump by table by itself, so that 10,000 routes of main's are
    // not copied to be thrown away (rtnetlink(7), NETLINK_GET_STRICT_CHK).
    let (connection, handle, _) = rtnetlink::new_connection_with_strict_check()?;
    tokio::spawn(connection);
    Ok(handle)
}

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
        network.routes.extend(own.iter().map(|message| route(family, message)));
        for message in routes(handle, family, MAIN).await? {
            main_route(&mut network, family, &message);
        }
    }
    network.uplinks.sort_unstable();
    network.uplinks.dedup();
    for uplink in network.uplinks.clone() {
        network.filters.extend(filters(handle, uplink).await?);
    }
    Ok(network)
}

async fn dump(
    handle: &Handle,
    what: &str,
    request: RouteNetlinkMessage,
) -> Result<Vec<RouteNetlinkMessage>, String> {
    let mut message = NetlinkMessage::from(request);
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let failed = |why: String| format!("{what}: {why}");
    let answers = handle.clone().request(message).map_err(|error| failed(error.to_string()))?;
    let mut answers = std::pin::pin!(answers);
    let mut messages = Vec::new();
    while let Some(answer) = answers.next().await {
        match answer.payload {
            NetlinkPayload::InnerMessage(message) => messages.push(message),
            NetlinkPayload::Error(error) => return Err(failed(error.to_io().to_string())),
            NetlinkPayload::Overrun(_) => return Err(failed("the kernel lost a part".to_owned())),
            _ => {}
        }
    }
    Ok(messages)
}

async fn links(handle: &Handle) -> Result<Vec<Link>, String> {
    let answers =
        dump(handle, "links", RouteNetlinkMessage::GetLink(LinkMessage::default())).await?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(message) => Some(link(&message)),
            _ => None,
        })
        .collect())
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: message.header.flags.contains(LinkFlags::Up),
        mtu: 0,
        group: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Group(group) => link.group = *group,
            _ => {}
        }
    }
    link
}

async fn addresses(handle: &Handle) -> Result<Vec<Address>, String> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answers = dump(handle, "addresses", request).await?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => address(&message),
            _ => None,
        })
        .collect())
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
    let answers = dump(handle, "rules", RouteNetlinkMessage::GetRule(request)).await?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(message) => Some(rule(family, &message)),
            _ => None,
        })
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

async fn routes(handle: &Handle, family: Family, table: u32) -> Result<Vec<RouteMessage>, String> {
    let mut request = RouteMessage::default();
    request.header.address_family = number(family);
    request.attributes.push(RouteAttribute::Table(table));
    let answers = match dump(handle, "routes", RouteNetlinkMessage::GetRoute(request)).await {
        Ok(answers) => answers,
        // A table that nothing was ever put into (inet_dump_fib(), inet6_dump_fib()).
        Err(why) if why.contains("os error 2") => Vec::new(),
        Err(why) => return Err(why),
    };
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(message) if table_of(&message) == table => Some(message),
            _ => None,
        })
        .collect())
}

fn table_of(message: &RouteMessage) -> u32 {
    let said = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    said.unwrap_or_else(|| u32::from(message.header.table))
}

fn route(family: Family, message: &RouteMessage) -> Route {
    let (mut device, mut metric, mut gateway) = (None, 0, false);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_) => {
                gateway = true;
            }
            _ => {}
        }
    }
    let action = match (message.header.kind, device) {
        (RouteType::Unicast, Some(index)) if !gateway => RouteAction::Device(index),
        (RouteType::BlackHole, _) => RouteAction::Blackhole,
        (RouteType::Unreachable, _) => RouteAction::Unreachable,
        (other, _) => RouteAction::Other(u8::from(other)),
    };
    Route {
        to: destination(family, message),
        metric,
        action,
        protocol: u8::from(message.header.protocol),
    }
}

fn destination(family: Family, message: &RouteMessage) -> Prefix {
    let length = message.header.destination_prefix_length;
    let found = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(v4)) => Some(IpAddr::from(*v4)),
        RouteAttribute::Destination(RouteAddress::Inet6(v6)) => Some(IpAddr::from(*v6)),
        _ => None,
    });
    found.map_or_else(|| Prefix::all(family), |address| Prefix::around(address, length))
}

fn main_route(network: &mut Network, family: Family, message: &RouteMessage) {
    if message.header.kind != RouteType::Unicast {
        return;
    }
    let mut devices = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => devices.push(*index),
            RouteAttribute::MultiPath(hops) => {
                devices.extend(hops.iter().map(|hop: &RouteNextHop| hop.interface_index));
            }
            _ => {}
        }
    }
    let to = destination(family, message);
    // A half of everything is a default route in two parts (OpenVPN's def1).
    if to.length() <= 1 {
        network.uplinks.extend(devices);
    } else {
        network.networks.extend(devices.into_iter().map(|device| (to, device)));
    }
}

async fn filters(handle: &Handle, uplink: u32) -> Result<Vec<Filter>, String> {
    let mut request = TcMessage::default();
    request.header.index = i32::try_from(uplink).unwrap_or(0);
    request.header.parent = TcHandle { major: 0xffff, minor: TcHandle::MIN_EGRESS };
    let answers = dump(handle, "filters", RouteNetlinkMessage::GetTrafficFilter(request)).await?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(message) => filter(uplink, &message),
            _ => None,
        })
        .collect())
}

/// One of ours, by its preference. u32's hash tables are listed as filters too, without a selector.
fn filter(uplink: u32, message: &TcMessage) -> Option<Filter> {
    let preference = message.header.info >> 16;
    let options = message.attributes.iter().find_map(|attribute| match attribute {
        TcAttribute::Options(options) => Some(options),
        _ => None,
    })?;
    let (mut indev, mut selector) = (None, None);
    for option in options {
        match option {
            TcOption::U32(TcFilterU32Option::Indev(name)) => {
                let name = String::from_utf8_lossy(name);
                indev = Some(name.trim_end_matches('\0').to_owned());
            }
            TcOption::U32(TcFilterU32Option::Selector(found)) => selector = Some(found),
            _ => {}
        }
    }
    let selector = selector?;
    let family = match preference {
        DROP_PREF => return Some(Filter { uplink, indev, pass: None }),
        PASS_PREF => Family::V4,
        _ if preference == PASS_PREF + 1 => Family::V6,
        _ => return None,
    };
    // Keys are 32 bits each, from the header's destination on.
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
    let pass = Some(Prefix::around(address, u8::try_from(length).ok()?));
    Some(Filter { uplink, indev, pass })
}
