//! A model of what the kernel does with a packet: its rules, its tables and our chains (ip-rule(8),
//! fib_rules_lookup(), nft_do_chain()). tailscaled's and others' chains accept everything here.

use std::net::IpAddr;

use crate::decide::chains::{Hook, Match, Verdict};
use crate::decide::plan::Plan;
use crate::kernel::{GROUP, Link, MAIN, Route, RouteAction, Rule, RuleAction, TABLE};
use crate::prefix::{Family, Prefix};

/// A packet on its way through.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    /// Where it came in; None: this machine sends it.
    pub(super) iif: Option<u32>,
    /// Of a connection that conntrack knows as let through.
    pub(super) is_answer: bool,
    /// The socket is bound to this interface.
    pub(super) bound: Option<u32>,
}

/// The parts of the kernel's state that decide about it.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) links: Vec<Link>,
    pub(super) rules: Vec<Rule>,
    pub(super) routes: Vec<Route>,
    /// Main's default goes here; None: there is none.
    pub(super) uplink: Option<u32>,
    /// Our table, if it is there.
    pub(super) plan: Option<Plan>,
    /// Our filters stand on the uplink for packets from this index.
    pub(super) filtered: Option<u32>,
    /// … and for packets from these addresses.
    pub(super) filtered_from: Vec<IpAddr>,
    /// Addresses by which tailscaled's table 52 knows peers.
    pub(super) peers: Vec<Prefix>,
    pub(super) tailscale: u32,
}

impl Kernel {
    fn name(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    /// By which interface it leaves, past our chains and filters; None: it does not.
    pub(super) fn leaves_by(&self, packet: &Packet) -> Option<u32> {
        let out = self.route(packet)?;
        if !self.name(out).is_some_and(|link| link.up) {
            return None;
        }
        let from = self.passes_chains(packet, out)?;
        let is_taken = self.filtered.is_some() && packet.iif == self.filtered
            || self.filtered_from.contains(&from);
        // They stand on the interface, whatever main says of it by now.
        (!is_taken || out != super::world::ETH0).then_some(out)
    }

    fn route(&self, packet: &Packet) -> Option<u32> {
        let family = Family::of(packet.to);
        let mut rules: Vec<&Rule> =
            self.rules.iter().filter(|rule| rule.family == family).collect();
        rules.sort_by_key(|rule| rule.priority);
        // tailscaled's table 52, which comes before ours, and main behind all.
        let mut asked_52 = false;
        for rule in rules {
            if rule.priority > 5270 && !asked_52 {
                asked_52 = true;
                if self.peers.iter().any(|peer| peer.contains(packet.to)) {
                    return Some(self.tailscale);
                }
            }
            if !self.matches(rule, packet) {
                continue;
            }
            match rule.action {
                RuleAction::Lookup(TABLE) => match self.lookup(packet.to) {
                    Some(RouteAction::Device(index)) => return Some(index),
                    Some(_) => return None,
                    None => {}
                },
                RuleAction::Lookup(MAIN) => {
                    if let Some(uplink) = self.uplink {
                        return Some(uplink);
                    }
                }
                RuleAction::Lookup(_) => {}
                RuleAction::Blackhole | RuleAction::Other(_) => return None,
            }
        }
        if !asked_52 && self.peers.iter().any(|peer| peer.contains(packet.to)) {
            return Some(self.tailscale);
        }
        self.uplink
    }

    fn matches(&self, rule: &Rule, packet: &Packet) -> bool {
        let name = |index: Option<u32>| match index {
            None => Some("lo".to_owned()),
            Some(index) => self.name(index).map(|link| link.name.clone()),
        };
        let bound = packet.bound.and_then(|index| self.name(index)).map(|link| link.name.clone());
        rule.iif.as_ref().is_none_or(|iif| name(packet.iif).as_ref() == Some(iif))
            && rule.oif.as_ref().is_none_or(|oif| bound.as_ref() == Some(oif))
            && rule.from.is_none_or(|from| from.contains(packet.from))
            && rule.to.is_none_or(|to| to.contains(packet.to))
    }

    fn lookup(&self, to: IpAddr) -> Option<RouteAction> {
        let usable = |route: &&Route| match route.action {
            RouteAction::Device(index) => self.name(index).is_some_and(|link| link.up),
            _ => true,
        };
        self.routes
            .iter()
            .filter(|route| route.to.contains(to))
            .filter(usable)
            .min_by_key(|route| (std::cmp::Reverse(route.to.length()), route.metric))
            .map(|route| route.action)
    }

    /// Its source address after masquerade; None: a chain drops it.
    fn passes_chains(&self, packet: &Packet, out: u32) -> Option<IpAddr> {
        let Some(plan) = &self.plan else { return Some(packet.from) };
        let mut packet = packet.clone();
        for chain in &plan.chains {
            let called = match chain.hook {
                Hook::Forward => packet.iif.is_some(),
                Hook::Clamp | Hook::Input => false,
                Hook::Nat | Hook::Leaving => true,
            };
            if !called {
                continue;
            }
            let line = chain
                .lines
                .iter()
                .find(|line| line.0.iter().all(|each| self.is(each, &packet, out)));
            match line.map(|line| line.1) {
                Some(Verdict::Blocked | Verdict::Hostile) => return None,
                Some(Verdict::Masquerade) if packet.iif.is_some() => {
                    packet.from = self.source_of(out, Family::of(packet.to))?;
                }
                _ => {}
            }
        }
        Some(packet.from)
    }

    /// The tunnel's own address, which the walk gives it.
    fn source_of(&self, out: u32, family: Family) -> Option<IpAddr> {
        let plan = self.plan.as_ref()?;
        let own = plan.rules.iter().find(|rule| {
            rule.family == family && rule.priority == crate::decide::plan::priority::OWN
        });
        let _ = out;
        own.and_then(|rule| rule.from).map(Prefix::address)
    }

    fn is(&self, each: &Match, packet: &Packet, out: u32) -> bool {
        let fits = |pattern: &str, index: Option<u32>| {
            let Some(name) = index.and_then(|index| self.name(index)) else { return false };
            match pattern.strip_suffix('*') {
                Some(begin) => name.name.starts_with(begin),
                None => name.name == pattern,
            }
        };
        let grouped = |index: Option<u32>| {
            index.and_then(|index| self.name(index)).is_some_and(|link| link.group == GROUP)
        };
        match each {
            Match::In(name) => fits(name, packet.iif),
            Match::InGroup => grouped(packet.iif),
            Match::Out(name) => fits(name, Some(out)),
            Match::OutGroup => grouped(Some(out)),
            Match::NotOut(names) => !names.iter().any(|name| fits(name, Some(out))),
            Match::Family(family) => Family::of(packet.to) == *family,
            Match::To(to) => to.contains(packet.to),
            Match::From(address) => packet.from == *address,
            Match::Answer => packet.is_answer,
            Match::BegunFrom(_) | Match::Invalid | Match::Syn => false,
        }
    }
}
