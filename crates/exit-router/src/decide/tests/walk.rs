//! Random walks over the kernel's state: whatever others do to it, in whichever order, and however far
//! our own repairs have come, a peer's packet leaves by the tunnel or not at all, and this machine's own
//! leave by the uplink unless they are bound to the tunnel.

use std::net::IpAddr;

use proptest::prelude::*;

use super::kernel::{Kernel, Packet};
use super::world::{ETH0, TAILSCALE0, TUNNEL, World, address};
use crate::decide::Action;
use crate::kernel::{PROTOCOL, RouteAction, Rule};

/// Something that happens to the box.
#[derive(Clone, Debug)]
enum Step {
    FlushRules,
    DeleteRule(usize),
    FlushTable,
    DeleteRoute(usize),
    FlushNft,
    FlushFilters,
    LinkDown,
    LinkUp,
    LinkDeleted,
    LinkMade,
    AddressesFlushed,
    RenamePeers,
    RenamePeersBack,
    RenameTunnel,
    RenameTunnelBack,
    PeersRemade,
    UplinkGone,
    UplinkBack,
    ForeignRoute,
    ForeignRule,
    Down,
    Up,
    /// The daemon looks, and gets so far before it is killed.
    Look(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        Just(Step::FlushRules),
        (0..12_usize).prop_map(Step::DeleteRule),
        Just(Step::FlushTable),
        (0..8_usize).prop_map(Step::DeleteRoute),
        Just(Step::FlushNft),
        Just(Step::FlushFilters),
        Just(Step::LinkDown),
        Just(Step::LinkUp),
        Just(Step::LinkDeleted),
        Just(Step::LinkMade),
        Just(Step::AddressesFlushed),
        Just(Step::RenamePeers),
        Just(Step::RenamePeersBack),
        Just(Step::RenameTunnel),
        Just(Step::RenameTunnelBack),
        Just(Step::PeersRemade),
        Just(Step::UplinkGone),
        Just(Step::UplinkBack),
        Just(Step::ForeignRoute),
        Just(Step::ForeignRule),
        Just(Step::Down),
        Just(Step::Up),
        (0..40_usize).prop_map(Step::Look),
        Just(Step::Look(usize::MAX)),
    ]
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
                self.kernel.filtered = None;
                self.world.network.filters.clear();
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
                self.world.network.filters.iter_mut().for_each(|filter| filter.indev = None);
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
                Action::Filters { filters, .. } => {
                    self.kernel.filtered = filters.last().map(|_| self.tailscale);
                    self.world.network.filters = filters;
                }
                _ => {}
            }
        }
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
