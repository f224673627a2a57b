//! What the kernel must hold so that the policy does: one pure function from [`Policy`] to [`Plan`].
//!
//! **Architecture Invariant:** the plan without a tunnel is a part of each plan with one. So what
//! only adds, as the block before the network does, never opens anything.

use std::net::IpAddr;

use crate::kernel::{
    Filter, LAST, Link, MAIN, PROTOCOL, Route, RouteAction, Rule, RuleAction, TABLE, TUNNEL_METRIC,
    Taken,
};
use crate::prefix::{Family, Prefix, TAILNET};

use super::chains::{Chain, Hook, Line, Match, Peer, Verdict, render};
use super::policy::{End, Policy, Tunnel};

/// Priorities of our rules: after tailscaled's last (5270), whose table 52 has the peers, and outside
/// of 5200 to 5299, whose every change tailscaled answers with a repair (router_linux.go).
pub mod priority {
    /// Peers' packets to a network of also_forward.
    pub const ALSO: u32 = 5300;
    /// All else of the peers'.
    pub const PEERS: u32 = 5310;
    /// What is left of it when somebody has flushed our table.
    pub const CLOSED: u32 = 5320;
    /// What this machine sends from the tunnel's own address.
    pub const OWN: u32 = 5330;
    /// … from a socket that is bound to the tunnel.
    pub const BOUND: u32 = 5340;
}

/// What the kernel must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Policy rules, in the order in which they are to be added: the closed ones first.
    pub rules: Vec<Rule>,
    /// All routes of our table.
    pub routes: Vec<Route>,
    /// Our nft table.
    pub chains: Vec<Chain>,
    /// Filters on the uplinks, each uplink's in their order.
    pub filters: Vec<Filter>,
    /// Interfaces that belong into the group of the tunnels.
    pub grouped: Vec<Link>,
    /// Kernel settings, as sysctl(8) names them; they are shipped in sysctl.d and only looked at.
    pub sysctls: Vec<(&'static str, &'static str)>,
}

/// Renders what must hold.
pub fn plan(policy: &Policy, links: &[Link]) -> Plan {
    Plan {
        rules: Family::ALL.into_iter().flat_map(|family| rules(policy, family)).collect(),
        routes: Family::ALL.into_iter().flat_map(|family| routes(policy, family)).collect(),
        chains: chains(policy),
        filters: filters(policy, links),
        grouped: policy.tunnel.iter().map(|tunnel| tunnel.link.clone()).collect(),
        sysctls: vec![("net.ipv4.ip_forward", "1"), ("net.ipv6.conf.all.forwarding", "1")],
    }
}

fn rules(policy: &Policy, family: Family) -> Vec<Rule> {
    let peers = || Some(policy.peers.clone());
    let mut rules = vec![
        Rule { iif: peers(), ..Rule::new(family, priority::CLOSED, RuleAction::Blackhole) },
        Rule { iif: peers(), ..Rule::new(family, priority::PEERS, RuleAction::Lookup(TABLE)) },
    ];
    for also in &policy.also_forward {
        if also.to.family() == family && policy.is_for_peers(also) {
            let lookup = RuleAction::Lookup(MAIN);
            let to = Some(also.to);
            rules.push(Rule { iif: peers(), to, ..Rule::new(family, priority::ALSO, lookup) });
        }
    }
    if let Some(tunnel) = &policy.tunnel {
        let own = || Some("lo".to_owned());
        for address in tunnel.addresses_of(family) {
            let from = Some(Prefix::host(address));
            let lookup = RuleAction::Lookup(TABLE);
            rules.push(Rule { from, iif: own(), ..Rule::new(family, priority::OWN, lookup) });
        }
        let oif = Some(tunnel.link.name.clone());
        let lookup = RuleAction::Lookup(TABLE);
        rules.push(Rule { oif, iif: own(), ..Rule::new(family, priority::BOUND, lookup) });
    }
    rules
}

fn routes(policy: &Policy, family: Family) -> Vec<Route> {
    let route = |to, metric, action| Route { to, metric, action, protocol: PROTOCOL };
    // The kernel has no metric 0 for IPv6 and makes it 1024 (ip6_route_info_create()).
    let mut routes: Vec<Route> = TAILNET
        .into_iter()
        .filter(|tailnet| tailnet.family() == family)
        .map(|tailnet| route(tailnet, TUNNEL_METRIC, RouteAction::Unreachable))
        .collect();
    if let Some(tunnel) = policy.tunnel.as_ref().filter(|tunnel| tunnel.carries(family)) {
        let device = RouteAction::Device(tunnel.link.index);
        routes.push(route(Prefix::all(family), TUNNEL_METRIC, device));
    }
    let end = match policy.end(family) {
        End::Blackhole => RouteAction::Blackhole,
        End::Unreachable => RouteAction::Unreachable,
    };
    routes.push(route(Prefix::all(family), LAST, end));
    routes
}

/// By name and by group, since each may be changed under us.
fn from_tunnels(policy: &Policy) -> Vec<Match> {
    policy.hostile.iter().cloned().map(Match::In).chain([Match::InGroup]).collect()
}

fn to_tunnels(policy: &Policy) -> Vec<Match> {
    policy.hostile.iter().cloned().map(Match::Out).chain([Match::OutGroup]).collect()
}

fn chains(policy: &Policy) -> Vec<Chain> {
    vec![
        Chain { hook: Hook::Forward, lines: forward(policy) },
        Chain { hook: Hook::Clamp, lines: policy.tunnel.iter().flat_map(clamp).collect() },
        Chain { hook: Hook::Input, lines: input(policy) },
        Chain {
            hook: Hook::Nat,
            // With or without a tunnel: while no chain translates, the kernel translates no late
            // answers back either, and they come to this machine as its own.
            lines: to_tunnels(policy)
                .into_iter()
                .map(|out| Line(vec![out], Verdict::Masquerade))
                .collect(),
        },
        Chain { hook: Hook::Leaving, lines: leaving(policy) },
    ]
}

fn forward(policy: &Policy) -> Vec<Line> {
    let mut lines = Vec::new();
    let peers_in = || Match::In(policy.peers.clone());
    let peers_out = || Match::Out(policy.peers.clone());
    for tunnel in from_tunnels(policy) {
        for family in Family::ALL {
            let count = Verdict::Count(family, Peer::Destination);
            let matches = vec![tunnel.clone(), peers_out(), Match::Family(family), Match::Answer];
            lines.push(Line(matches, count));
        }
        lines.push(Line(vec![tunnel], Verdict::Hostile));
    }
    lines.push(Line(vec![peers_in(), peers_out()], Verdict::Accept));
    let (of_peers, of_others): (Vec<_>, Vec<_>) =
        policy.also_forward.iter().partition(|also| policy.is_for_peers(also));
    for also in of_peers {
        let matches = vec![peers_in(), Match::Out(also.via.clone()), Match::To(also.to)];
        lines.push(Line(matches, Verdict::Accept));
    }
    if let Some(tunnel) = &policy.tunnel {
        let out = || Match::Out(tunnel.link.name.clone());
        lines.push(Line(vec![peers_in(), out(), Match::Invalid], Verdict::Blocked));
        for tailnet in TAILNET {
            lines.push(Line(vec![peers_in(), out(), Match::To(tailnet)], Verdict::Blocked));
        }
        for family in Family::ALL.into_iter().filter(|family| tunnel.carries(*family)) {
            let count = Verdict::Count(family, Peer::Source);
            lines.push(Line(vec![peers_in(), out(), Match::Family(family)], count));
        }
    }
    lines.push(Line(vec![peers_in()], Verdict::Blocked));
    for tunnel in to_tunnels(policy) {
        lines.push(Line(vec![tunnel], Verdict::Blocked));
    }
    for also in of_others {
        let from = also.from.clone().unwrap_or_default();
        let matches = vec![Match::In(from), Match::Out(also.via.clone()), Match::To(also.to)];
        lines.push(Line(matches, Verdict::Accept));
    }
    // From an input that nobody knows, which may be the peers' under another name.
    if policy.uplinks.is_empty() {
        lines.push(Line(Vec::new(), Verdict::Blocked));
    }
    for uplink in &policy.uplinks {
        lines.push(Line(vec![Match::Out(uplink.name.clone())], Verdict::Blocked));
    }
    lines
}

/// Bytes of an IPv4 or IPv6 header and a TCP header without options.
const fn headers(family: Family) -> u32 {
    match family {
        Family::V4 => 40,
        Family::V6 => 60,
    }
}

/// Both ways: the route's MTU is right for what goes into the tunnel; for what comes out of it the
/// kernel looks the way back up without its input interface and finds the uplink.
fn clamp(tunnel: &Tunnel) -> Vec<Line> {
    let name = &tunnel.link.name;
    let mut lines = vec![Line(vec![Match::Out(name.clone()), Match::Syn], Verdict::ClampToRoute)];
    for family in Family::ALL {
        let matches = vec![Match::In(name.clone()), Match::Family(family), Match::Syn];
        let bytes = tunnel.link.mtu.saturating_sub(headers(family)).clamp(1, 65_535);
        lines.push(Line(matches, Verdict::ClampTo(bytes)));
    }
    lines
}

/// Only what a socket of this machine's own has asked for from the tunnel's address. Not all that
/// conntrack calls established: an answer to a peer that is not translated back is that too.
fn input(policy: &Policy) -> Vec<Line> {
    let addresses = policy.tunnel.iter().flat_map(|tunnel| tunnel.addresses.iter().copied());
    let addresses: Vec<_> = addresses.collect();
    let mut lines = Vec::new();
    for tunnel in from_tunnels(policy) {
        for address in &addresses {
            let matches = vec![tunnel.clone(), Match::Answer, Match::BegunFrom(*address)];
            lines.push(Line(matches, Verdict::Accept));
        }
        lines.push(Line(vec![tunnel], Verdict::Hostile));
    }
    lines
}

/// Into the tunnel only what bears its address, so no tailnet source and nothing of this machine's
/// that is not bound to it; and that address by nothing else.
fn leaving(policy: &Policy) -> Vec<Line> {
    let mut lines = Vec::new();
    if let Some(tunnel) = &policy.tunnel {
        let name = &tunnel.link.name;
        for address in &tunnel.addresses {
            let matches = vec![Match::Out(name.clone()), Match::From(*address)];
            lines.push(Line(matches, Verdict::Accept));
            let elsewhere = Match::NotOut(vec!["lo".to_owned(), name.clone()]);
            lines.push(Line(vec![Match::From(*address), elsewhere], Verdict::Blocked));
        }
    }
    for tunnel in to_tunnels(policy) {
        lines.push(Line(vec![tunnel], Verdict::Blocked));
    }
    lines
}

/// By input interface none while the peers' is not there: such a filter is bound to an index.
fn filters(policy: &Policy, links: &[Link]) -> Vec<Filter> {
    let own = policy.tunnel.iter().flat_map(|tunnel| tunnel.addresses.iter().copied());
    let own: Vec<IpAddr> = own.collect();
    let mut filters = Vec::new();
    for uplink in &policy.uplinks {
        let mut add = |taken| filters.push(Filter { uplink: uplink.index, taken });
        own.iter().for_each(|address| add(Taken::From(*address)));
        if !links.iter().any(|link| link.name == policy.peers) {
            continue;
        }
        let indev = || Some(policy.peers.clone());
        for also in policy.also_forward.iter().filter(|also| policy.is_for_peers(also)) {
            if also.via == uplink.name {
                add(Taken::Exempt(indev(), also.to));
            }
        }
        add(Taken::In(indev()));
    }
    filters
}

impl Plan {
    /// Nothing of ours.
    pub const fn none() -> Self {
        Self {
            rules: Vec::new(),
            routes: Vec::new(),
            chains: Vec::new(),
            filters: Vec::new(),
            grouped: Vec::new(),
            sysctls: Vec::new(),
        }
    }

    /// As text, one command or line of nft a line.
    pub fn text(&self, links: &[Link]) -> String {
        let mut text = String::new();
        let mut line = |what: &str| {
            text.push_str(what);
            text.push('\n');
        };
        for (name, value) in &self.sysctls {
            line(&format!("sysctl {name}={value}"));
        }
        let mut rules: Vec<&Rule> = self.rules.iter().collect();
        rules.sort();
        for rule in rules {
            line(&rule.to_string());
        }
        for route in &self.routes {
            line(&route.text(links));
        }
        for link in &self.grouped {
            line(&format!("ip link set {} group {}", link.name, crate::kernel::GROUP));
        }
        for filter in &self.filters {
            line(&format!("tc {}", filter.text(links)));
        }
        if !self.chains.is_empty() {
            text.push_str(&self.nft());
        }
        text
    }

    /// What nft(8) is given.
    pub fn nft(&self) -> String {
        render(&self.chains)
    }
}
