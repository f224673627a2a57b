//! Random walks over the kernel's state: whatever others do to it, in whichever order, and however far
//! our own repairs have come, a peer's packet leaves by the tunnel or not at all, and this machine's own
//! leave by the uplink unless they are bound to the tunnel.

use std::net::IpAddr;

use proptest::prelude::*;

use super::kernel::{Kernel, Packet};
use super::steps::{Step, step};
use super::world::{ETH0, TAILSCALE0, TUNNEL, World, address};
use crate::decide::Action;
use crate::decide::chains::{Line, Match, Verdict};
use crate::kernel::{LAST, PROTOCOL, Route, RouteAction, Rule, Taken};
use crate::prefix::{Family, Prefix};

/// The tunnel's own addresses.
const OWN: [&str; 2] = ["10.8.0.2", "fd08::2"];

/// What this machine says to an answer out of the tunnel that no socket of its own has asked for.
fn refusal(own: &str) -> Packet {
    let from: IpAddr = own.parse().unwrap();
    let to = if from.is_ipv4() { "203.0.113.80" } else { "2001:db8:80::1" };
    Packet { from, to: to.parse().unwrap(), iif: None, is_answer: false, bound: None }
}

/// The world that the daemon sees, and the kernel as it is.
struct Walk {
    world: World,
    kernel: Kernel,
    tailscale: u32,
    next: u32,
}

impl Walk {
    fn new() -> Self {
        let mut world = World::up();
        world.network.addresses.push(address(TUNNEL, "fd08::2/128"));
        let kernel = Kernel {
            links: world.network.links.clone(),
            rules: Vec::new(),
            routes: Vec::new(),
            uplink: Some(ETH0),
            plan: None,
            filtered: None,
            filtered_from: Vec::new(),
            peers: vec!["100.64.0.2".parse().unwrap(), "fd7a:115c:a1e0::2".parse().unwrap()],
            tailscale: TAILSCALE0,
        };
        let mut walk = Self { world, kernel, tailscale: TAILSCALE0, next: 100 };
        walk.look(usize::MAX);
        walk.look(usize::MAX);
        walk
    }

    fn link(&mut self, name: &str) -> Option<&mut crate::kernel::Link> {
        self.world.network.links.iter_mut().find(|link| link.name == name)
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::FlushRules => self.kernel.rules.clear(),
            Step::DeleteRule(index) => {
                if *index < self.kernel.rules.len() {
                    self.kernel.rules.remove(*index);
                }
            }
            Step::FlushTable => self.kernel.routes.clear(),
            Step::DeleteRoute(index) => {
                if *index < self.kernel.routes.len() {
                    self.kernel.routes.remove(*index);
                }
            }
            Step::FlushNft => {
                self.kernel.plan = None;
                self.world.table = None;
            }
            Step::FlushFilters => {
                self.world.network.filters.clear();
                self.filter();
            }
            Step::LinkDown => self.set_up(false),
            Step::LinkUp => self.set_up(true),
            Step::LinkDeleted => {
                let gone: Vec<u32> = self.tunnels().map(|link| link.index).collect();
                self.world.network.links.retain(|link| !gone.contains(&link.index));
                self.world.network.addresses.retain(|address| !gone.contains(&address.index));
                self.drop_routes();
            }
            Step::LinkMade => {
                if self.tunnels().next().is_none() {
                    self.next += 1;
                    let made =
                        super::world::link(self.next, "vpn-acme", 1420, crate::kernel::GROUP);
                    self.world.network.links.push(made);
                    for text in ["10.8.0.2/32", "fd08::2/128"] {
                        self.world.network.addresses.push(address(self.next, text));
                    }
                }
            }
            Step::AddressesFlushed => {
                let tunnels: Vec<u32> = self.tunnels().map(|link| link.index).collect();
                self.world.network.addresses.retain(|address| !tunnels.contains(&address.index));
                self.kernel.routes.retain(|route| !matches!(route.action, RouteAction::Device(_)));
            }
            Step::RenamePeers => self.rename("tailscale0", "ts-old"),
            Step::RenamePeersBack => self.rename("ts-old", "tailscale0"),
            Step::RenameTunnel => self.rename("vpn-acme", "old0"),
            Step::RenameTunnelBack => self.rename("old0", "vpn-acme"),
            Step::PeersRemade => {
                self.next += 1;
                let (old, new) = (self.tailscale, self.next);
                for link in &mut self.world.network.links {
                    if link.index == old {
                        link.index = new;
                        link.name = "tailscale0".into();
                    }
                }
                self.tailscale = new;
                self.kernel.tailscale = new;
                for filter in &mut self.world.network.filters {
                    if let Taken::In(indev) | Taken::Exempt(indev, _) = &mut filter.taken {
                        *indev = None;
                    }
                }
            }
            Step::UplinkGone => self.kernel.uplink = None,
            Step::UplinkBack => self.kernel.uplink = Some(ETH0),
            Step::ForeignRoute => {
                if let Some(route) = self.kernel.routes.first().copied() {
                    let to = crate::prefix::Prefix::all(route.to.family());
                    let action = RouteAction::Device(ETH0);
                    self.kernel.routes.push(crate::kernel::Route {
                        to,
                        metric: 0,
                        action,
                        protocol: 3,
                    });
                }
            }
            Step::ForeignRule => {
                for family in crate::prefix::Family::ALL {
                    let action = crate::kernel::RuleAction::Lookup(crate::kernel::MAIN);
                    let mut rule = Rule::new(family, 5208, action);
                    rule.protocol = 3;
                    if !self.kernel.rules.contains(&rule) {
                        self.kernel.rules.push(rule);
                    }
                }
            }
            Step::Down => self.world.intent.profile = None,
            Step::Up => self.world.intent.profile = Some("acme".into()),
            Step::Look(so_far) => self.look(*so_far),
        }
        self.kernel.links.clone_from(&self.world.network.links);
    }

    fn tunnels(&self) -> impl Iterator<Item = &crate::kernel::Link> {
        self.world.network.links.iter().filter(|link| ["vpn-acme", "old0"].contains(&&*link.name))
    }

    fn set_up(&mut self, up: bool) {
        if let Some(link) = self.link("vpn-acme") {
            link.up = up;
            if !up {
                self.drop_routes();
            }
        }
    }

    fn drop_routes(&mut self) {
        self.kernel
            .routes
            .retain(|route| !matches!(route.action, RouteAction::Device(index) if index != ETH0));
    }

    fn rename(&mut self, from: &str, to: &str) {
        if let Some(link) = self.link(from) {
            link.name = to.into();
        }
    }

    /// The daemon reads the kernel, decides, and performs the first of its actions.
    fn look(&mut self, so_far: usize) {
        self.world.network.rules.clone_from(&self.kernel.rules);
        self.world.network.routes.clone_from(&self.kernel.routes);
        self.world.network.uplinks = self.kernel.uplink.into_iter().collect();
        let decision = self.world.decide();
        self.world.state = decision.state;
        let plan = decision.plan.unwrap();
        for action in decision.actions.into_iter().take(so_far) {
            match action {
                Action::AddRule(rule) => self.kernel.rules.push(rule),
                Action::DeleteRule(rule) => {
                    let at = self.kernel.rules.iter().position(|each| *each == rule);
                    self.kernel.rules.remove(at.unwrap());
                }
                Action::AddRoute(route) => self.kernel.routes.push(route),
                Action::DeleteRoute(route) => {
                    let at = self.kernel.routes.iter().position(|each| *each == route);
                    self.kernel.routes.remove(at.unwrap());
                }
                Action::ReplaceTable(text) => {
                    self.kernel.plan = Some(plan.clone());
                    self.world.table = Some(text.clone());
                    self.world.state.applied = Some((text.clone(), text));
                }
                Action::Filters { preference, filters, .. } => {
                    let stand = &mut self.world.network.filters;
                    stand.retain(|each| each.preference() != preference);
                    stand.extend(filters);
                    self.filter();
                }
                _ => {}
            }
        }
    }

    /// The kernel filters as it is told to.
    fn filter(&mut self) {
        let taken: Vec<&Taken> =
            self.world.network.filters.iter().map(|each| &each.taken).collect();
        let named = |each: &&Taken| matches!(each, Taken::In(Some(_)));
        self.kernel.filtered = taken.iter().copied().find(named).map(|_| self.tailscale);
        self.kernel.filtered_from = taken
            .iter()
            .filter_map(|each| match each {
                Taken::From(address) => Some(*address),
                _ => None,
            })
            .collect();
    }

    /// How many of the three layers keep what bears this address of the tunnel's from the uplink, now.
    fn layers_of(&self, address: IpAddr) -> usize {
        let family = Family::of(address);
        let own = Some(Prefix::host(address));
        let ends = |route: &Route| route.to.family() == family && route.metric == LAST;
        let rules = self.kernel.rules.iter().any(|rule| rule.from == own)
            && self.kernel.routes.iter().any(ends)
            && self.kernel.rules.iter().all(|rule| rule.protocol == PROTOCOL)
            && self.kernel.routes.iter().all(|route| route.protocol == PROTOCOL);
        let is_refused = |line: &Line| {
            line.0.first() == Some(&Match::From(address)) && line.1 == Verdict::Blocked
        };
        let mut chains = self.kernel.plan.iter().flat_map(|plan| &plan.chains);
        let chains = chains.any(|chain| chain.lines.iter().any(is_refused));
        let filter = self.kernel.filtered_from.contains(&address);
        [rules, chains, filter].into_iter().filter(|holds| *holds).count()
    }

    /// How many of the three layers stand as they should, now.
    fn layers(&self) -> usize {
        let named = self.world.network.link("tailscale0").map(|link| link.index);
        let rules = crate::prefix::Family::ALL.into_iter().all(|family| {
            self.kernel.rules.iter().any(|rule| {
                rule.family == family && rule.protocol == PROTOCOL && rule.priority == 5320
            })
        }) && self.kernel.rules.iter().all(|rule| rule.protocol == PROTOCOL)
            && !self.kernel.routes.iter().any(|route| route.protocol != PROTOCOL);
        let rules = rules && named == Some(self.tailscale);
        let chains = self.kernel.plan.is_some();
        let filter = self.kernel.filtered == Some(self.tailscale);
        [rules, chains, filter].into_iter().filter(|holds| *holds).count()
    }

    fn check(&self) {
        let tunnels: Vec<u32> = self.tunnels().map(|link| link.index).collect();
        for to in ["203.0.113.80", "2001:db8:80::1", "10.20.0.5"] {
            let to: IpAddr = to.parse().unwrap();
            let from = if to.is_ipv4() { "100.64.0.2" } else { "fd7a:115c:a1e0::2" };
            let peers = Packet {
                from: from.parse().unwrap(),
                to,
                iif: Some(self.tailscale),
                is_answer: false,
                bound: None,
            };
            let out = self.kernel.leaves_by(&peers);
            let leaks = out.is_some_and(|out| !tunnels.contains(&out));
            assert!(
                !leaks || self.layers() == 0,
                "a peer's packet to {to} leaves by {out:?} with {} layers: {:#?}",
                self.layers(),
                self.kernel
            );
            let own = if to.is_ipv4() { "198.51.100.10" } else { "2001:db8::10" };
            let own =
                Packet { from: own.parse().unwrap(), to, iif: None, is_answer: false, bound: None };
            assert_eq!(self.kernel.leaves_by(&own), self.kernel.uplink, "own to {to}");
        }
        for own in OWN {
            let packet = refusal(own);
            let out = self.kernel.leaves_by(&packet);
            assert!(
                out.is_none_or(|out| tunnels.contains(&out)) || self.layers_of(packet.from) == 0,
                "the box's own from {own} leaves by {out:?}: {:#?}",
                self.kernel
            );
        }
        // From the customer's network nothing comes in that nobody has asked for.
        for tunnel in tunnels {
            for to in ["100.64.0.2", "fd7a:115c:a1e0::2", "203.0.113.80"] {
                let stranger = Packet {
                    from: if to.contains(':') { "fd08::66" } else { "10.20.0.66" }.parse().unwrap(),
                    to: to.parse().unwrap(),
                    iif: Some(tunnel),
                    is_answer: false,
                    bound: None,
                };
                let out = self.kernel.leaves_by(&stranger);
                assert!(out.is_none() || self.kernel.plan.is_none(), "{to} by {out:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if std::env::var_os("GUPPY_FULL").is_some() { 20_000 } else { 1000 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_peers_packet_leaves_by_the_tunnel_or_not_at_all(
        steps in prop::collection::vec(step(), 1..40)
    ) {
        let mut walk = Walk::new();
        walk.check();
        for step in &steps {
            walk.take(step);
            walk.check();
        }
        // Whatever has happened, two looks later all of it holds.
        walk.take(&Step::RenamePeersBack);
        walk.take(&Step::RenameTunnelBack);
        walk.kernel.rules.retain(|rule| rule.protocol == PROTOCOL);
        walk.take(&Step::UplinkBack);
        walk.take(&Step::Look(usize::MAX));
        walk.take(&Step::Look(usize::MAX));
        prop_assert_eq!(walk.layers(), 3);
        prop_assert!(walk.world.decide().actions.iter().all(|action| matches!(
            action, Action::StopUnit(_) | Action::StartUnit(_) | Action::Group(_)
        )), "{:?}", walk.world.decide().actions);
    }
}

#[test]
fn with_the_tunnel_up_peers_go_into_it_and_answers_come_back() {
    let walk = Walk::new();
    for (from, to) in [("100.64.0.2", "203.0.113.80"), ("fd7a:115c:a1e0::2", "2001:db8:80::1")] {
        let packet = Packet {
            from: from.parse().unwrap(),
            to: to.parse().unwrap(),
            iif: Some(TAILSCALE0),
            is_answer: false,
            bound: None,
        };
        assert_eq!(walk.kernel.leaves_by(&packet), Some(TUNNEL));
        let answer = Packet {
            from: packet.to,
            to: packet.from,
            iif: Some(TUNNEL),
            is_answer: true,
            bound: None,
        };
        assert_eq!(walk.kernel.leaves_by(&answer), Some(TAILSCALE0));
    }
    let probe = Packet {
        from: "10.8.0.2".parse().unwrap(),
        to: "10.20.0.1".parse().unwrap(),
        iif: None,
        is_answer: false,
        bound: None,
    };
    assert_eq!(walk.kernel.leaves_by(&probe), Some(TUNNEL));
}

#[test]
fn what_this_box_refuses_out_of_the_tunnel_leaves_by_no_uplink_while_one_layer_stands() {
    let gone = [Step::FlushRules, Step::FlushNft, Step::FlushFilters];
    for own in OWN {
        for left in 0..gone.len() {
            let mut walk = Walk::new();
            let others = gone.iter().enumerate().filter(|(at, _)| *at != left);
            others.for_each(|(_, step)| walk.take(step));
            assert_ne!(walk.kernel.leaves_by(&refusal(own)), Some(ETH0), "{own}, {:?}", gone[left]);
            walk.take(&gone[left]);
            assert_eq!(walk.kernel.leaves_by(&refusal(own)), Some(ETH0), "{own}");
        }
    }
}

#[test]
fn without_any_layer_the_model_sees_the_leak() {
    let mut walk = Walk::new();
    for step in [Step::FlushRules, Step::FlushNft, Step::FlushFilters] {
        walk.take(&step);
    }
    let packet = Packet {
        from: "100.64.0.2".parse().unwrap(),
        to: "203.0.113.80".parse().unwrap(),
        iif: Some(TAILSCALE0),
        is_answer: false,
        bound: None,
    };
    assert_eq!(walk.kernel.leaves_by(&packet), Some(ETH0));
}
