//! What is started and stopped when, and what is mended.

use std::time::Duration;

use super::world::{ETH0, TUNNEL, World, address, link, unit};
use crate::decide::plan::Plan;
use crate::decide::{Action, Decision, EXIT_CONFIG, EXIT_PARKED, Phase};
use crate::intent::Intent;
use crate::kernel::{
    FROM_PREF, FROM6_PREF, Filter, IN_PREF, LAST, PROTOCOL, Route, RouteAction, RuleAction, Taken,
};
use crate::prefix::{Family, Prefix};
use crate::sense::{Evidence, Reading};

fn started(decision: &Decision) -> bool {
    decision.actions.contains(&Action::StartUnit("acme".into()))
}

fn stopped(decision: &Decision) -> bool {
    decision.actions.contains(&Action::StopUnit("acme".into()))
}

/// The world after everything that was decided was done.
fn after(mut world: World, decision: &Decision) -> World {
    world.state = decision.state.clone();
    let plan = decision.plan.clone().unwrap();
    world.network.rules.retain(|rule| rule.protocol != PROTOCOL);
    world.network.rules.extend(plan.rules.clone());
    world.network.routes = plan.routes.clone();
    world.network.filters = plan.filters.clone();
    world.table = Some(listed(&plan.nft()));
    world.state.applied = Some((plan.nft(), listed(&plan.nft())));
    world
}

/// As nft(8) lists what was put as this text.
fn listed(text: &str) -> String {
    text.replace("\tiifname ", "\t\tiifname ")
}

#[test]
fn what_holds_is_left_alone() {
    let world = World::up();
    let world = after(world.clone(), &world.decide());
    assert_eq!(world.decide().actions, []);
}

#[test]
fn what_was_taken_away_comes_back_and_what_was_added_goes() {
    let world = World::up();
    let world = after(world.clone(), &world.decide());
    let plan = world.decide().plan.unwrap();
    for rule in &plan.rules {
        let mut robbed = world.clone();
        robbed.network.rules.retain(|each| each != rule);
        assert_eq!(robbed.decide().actions, [Action::AddRule(rule.clone())]);
        let mut doubled = world.clone();
        doubled.network.rules.push(rule.clone());
        assert_eq!(doubled.decide().actions, [Action::DeleteRule(rule.clone())]);
    }
    for route in &plan.routes {
        let mut robbed = world.clone();
        robbed.network.routes.retain(|each| each != route);
        assert_eq!(robbed.decide().actions, [Action::AddRoute(*route)]);
    }
    let mut foreign = world.clone();
    let mut to_uplink = plan.routes[0];
    to_uplink.action = RouteAction::Device(ETH0);
    to_uplink.protocol = 3;
    foreign.network.routes.push(to_uplink);
    assert_eq!(foreign.decide().actions, [Action::DeleteRoute(to_uplink)]);
    let mut flushed = world.clone();
    flushed.table = None;
    assert_eq!(flushed.decide().actions, [Action::ReplaceTable(plan.nft())]);
    let mut edited = world.clone();
    edited.table = Some(listed(&plan.nft()).replace("drop", "accept"));
    assert_eq!(edited.decide().actions, [Action::ReplaceTable(plan.nft())]);
    let mut renewed = world.clone();
    for filter in &mut renewed.network.filters {
        if let Taken::In(indev) = &mut filter.taken {
            *indev = None;
        }
    }
    let made = filters(&plan, IN_PREF);
    assert_eq!(renewed.decide().actions, [made]);
}

/// The filters of one preference are made anew.
fn filters(plan: &Plan, preference: u32) -> Action {
    let mut filters = plan.filters.clone();
    filters.retain(|filter| filter.preference() == preference);
    Action::Filters { uplink: link(ETH0, "eth0", 1500, 0), preference, filters }
}

#[test]
fn filters_by_the_tunnels_address_follow_it_and_the_peers_filter_stands_meanwhile() {
    let world = World::up();
    let mut world = after(world.clone(), &world.decide());
    let with = world.decide().plan.unwrap();
    let from = |address: &str| Taken::From(address.parse().unwrap());
    let taken = |plan: &Plan| -> Vec<Taken> {
        plan.filters.iter().map(|filter| filter.taken.clone()).collect()
    };
    assert_eq!(taken(&with), [from("10.8.0.2"), Taken::In(Some("tailscale0".into()))]);

    world.network.addresses.pop();
    world.network.addresses.push(address(TUNNEL, "10.8.0.3/32"));
    world.network.addresses.push(address(TUNNEL, "fd08::3/128"));
    let moved = world.decide();
    let plan = moved.plan.clone().unwrap();
    let tunnel = [from("10.8.0.3"), from("fd08::3")];
    assert_eq!(taken(&plan), [&tunnel[..], &[Taken::In(Some("tailscale0".into()))]].concat());
    let of_filters = |decision: &Decision| -> Vec<Action> {
        let mut actions = decision.actions.clone();
        actions.retain(|action| matches!(action, Action::Filters { .. }));
        actions
    };
    let both = [filters(&plan, FROM_PREF), filters(&plan, FROM6_PREF)];
    assert_eq!(of_filters(&moved), both);

    let mut world = after(world, &moved);
    assert_eq!(world.decide().actions, []);
    world.intent.profile = None;
    let ended = world.decide();
    let none = ended.plan.clone().unwrap();
    assert_eq!(of_filters(&ended), [filters(&none, FROM_PREF), filters(&none, FROM6_PREF)]);
    assert_eq!(taken(&none), [Taken::In(Some("tailscale0".into()))]);
}

#[test]
fn before_there_is_a_tailnet_the_tunnels_address_is_filtered_already() {
    let mut world = World::up();
    world.network.links.retain(|link| link.name != "tailscale0");
    let taken: Vec<_> = world.decide().plan.unwrap().filters;
    assert_eq!(taken.iter().map(Filter::preference).collect::<Vec<_>>(), [FROM_PREF]);
}

#[test]
fn a_table_that_another_has_put_right_after_ours_is_not_ours() {
    let world = World::up();
    let mut world = after(world.clone(), &world.decide());
    let closed = World::new().decide().plan.unwrap().nft();
    // As `guppy-exit-router-block.service` does, before ours was listed.
    world.table = Some(listed(&closed));
    let ours = world.decide().plan.unwrap().nft();
    world.state.applied = Some((ours.clone(), listed(&closed)));
    assert_eq!(world.decide().actions, [Action::ReplaceTable(ours)]);
}

#[test]
fn what_others_have_made_is_not_ours_to_delete() {
    let world = World::up();
    let mut world = after(world.clone(), &world.decide());
    let mut rule = crate::kernel::Rule::new(Family::V4, 5310, RuleAction::Lookup(52));
    rule.protocol = 0;
    world.network.rules.push(rule);
    assert_eq!(world.decide().actions, []);
}

#[test]
fn unknown_changes_nothing() {
    let world = World::up();
    let unknown = || Reading::Unknown("no buffer".to_owned());
    let evidence = Evidence {
        network: Reading::Unknown("no buffer".to_owned()),
        table: unknown_table(),
        units: Reading::Unknown("no bus".to_owned()),
    };
    let decision = world.decide_on(&evidence);
    assert_eq!((decision.actions, decision.plan), (Vec::new(), None));
    let evidence = Evidence {
        network: Reading::Known(world.network.clone()),
        table: unknown(),
        units: Reading::Unknown("no bus".to_owned()),
    };
    let kinds = world.decide_on(&evidence).actions;
    assert!(
        !kinds.iter().any(|action| matches!(action, Action::ReplaceTable(_) | Action::StopUnit(_)))
    );
}

fn unknown_table() -> Reading<Option<String>> {
    Reading::Unknown("no nft".to_owned())
}

#[test]
fn a_profile_is_started_once_for_each_asking() {
    let mut world = World::up();
    world.network.links.pop();
    world.network.addresses.pop();
    world.units.clear();
    let first = world.decide();
    assert!(started(&first));
    world.state = first.state;
    assert!(!started(&world.decide()));
    // Somebody has stopped it: only guppy vpn down ends a tunnel.
    world.units = vec![unit("inactive", 0)];
    let early = world.decide();
    assert!(!started(&early));
    // Nothing tells that the time has come.
    assert_eq!(early.again, Some(Duration::from_secs(5)));
    world.now = world.now + Duration::from_secs(5);
    let due = world.decide();
    assert!(started(&due) && due.again.is_none());
    // What has failed systemd restarts; what is parked nobody but a person.
    for status in [1, EXIT_PARKED, EXIT_CONFIG] {
        world.units = vec![unit("failed", status)];
        assert!(!started(&world.decide()), "{status}");
    }
    world.intent.asked += 1;
    for status in [EXIT_PARKED, EXIT_CONFIG] {
        world.units = vec![unit("failed", status)];
        assert!(started(&world.decide()), "{status}");
    }
}

#[test]
fn one_that_asks_for_codes_is_started_for_a_person_only() {
    let mut world = World::up();
    world.units.clear();
    if let Some(Ok(profile)) = world.profiles.get_mut("acme") {
        profile.interactive = true;
    }
    assert!(!started(&world.decide()));
    world.attended = Some(1);
    assert!(started(&world.decide()));
}

#[test]
fn what_is_not_wanted_is_stopped() {
    let mut world = World::up();
    assert!(!stopped(&world.decide()));
    world.intent.profile = None;
    assert!(stopped(&world.decide()));
    world.intent.profile = Some("other".into());
    assert!(stopped(&world.decide()));
    let mut disabled = World::up();
    disabled.intent.enabled = false;
    assert!(stopped(&disabled.decide()));
}

#[test]
fn a_tunnel_has_ended_when_its_client_has() {
    for (enabled, ended) in [(true, Phase::Off), (false, Phase::Disabled)] {
        let mut world = World::up();
        world.intent = Intent { enabled, profile: None, ..world.intent };
        for active in ["active", "deactivating", "activating"] {
            world.units = vec![unit(active, 0)];
            let why = format!("guppy-vpn@acme.service is {active}");
            assert_eq!(world.decide().phase, Phase::Ending(why));
        }
        for active in ["inactive", "failed"] {
            world.units = vec![unit(active, 0)];
            assert_eq!(world.decide().phase, ended);
        }
    }
}

#[test]
fn what_has_the_place_of_a_route_goes_before_it_comes() {
    let world = World::up();
    let mut world = after(world.clone(), &world.decide());
    world.network.addresses.push(address(TUNNEL, "fd08::2/128"));
    let actions = world.decide().actions;
    let at = |wanted: &Action| actions.iter().position(|action| action == wanted).unwrap();
    let end =
        |action| Route { to: Prefix::all(Family::V6), metric: LAST, action, protocol: PROTOCOL };
    let old = at(&Action::DeleteRoute(end(RouteAction::Unreachable)));
    assert!(old < at(&Action::AddRoute(end(RouteAction::Blackhole))), "{actions:?}");
}

#[test]
fn networks_of_this_box_are_not_a_customers() {
    let mut world = World::up();
    if let Some(Ok(profile)) = world.profiles.get_mut("acme") {
        profile.prefixes = vec!["198.51.0.0/16".parse().unwrap()];
    }
    let decision = world.decide();
    let Phase::Failed(why) = &decision.phase else { panic!("{:?}", decision.phase) };
    assert!(why.contains("\"198.51.0.0/16\" overlaps 198.51.100.0/24 on eth0"), "{why}");
    assert!(stopped(&decision));
    assert!(
        !decision
            .plan
            .unwrap()
            .routes
            .iter()
            .any(|route| matches!(route.action, RouteAction::Device(_)))
    );
}

#[test]
fn a_profile_whose_file_went_wrong_fails_and_says_why() {
    let mut world = World::up();
    world.profiles.insert("acme".into(), Err("acme.toml:2:1: unknown key".into()));
    let decision = world.decide();
    assert_eq!(decision.phase, Phase::Failed("acme.toml:2:1: unknown key".into()));
    assert!(!started(&decision));
}
