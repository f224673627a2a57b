//! All judgement: (State, Input) -> (State, Vec<Action>). No I/O, no clock, no await, no logging.

pub mod chains;
pub mod diff;
pub mod foreign;
pub mod plan;
pub mod policy;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use service::clock::Boottime;

use crate::config::Config;
use crate::intent::Intent;
use crate::kernel::{Link, Route, Rule};
use crate::prefix::{Family, Prefix};
use crate::profile::{self, INTERFACE_PREFIX, Profile};
use crate::sense::{Evidence, Network, Unit};

use plan::Plan;
use policy::{End, Policy, Tunnel};

/// The client has parked the profile: two refusals by the customer's server.
pub const EXIT_PARKED: i32 = 77;
/// The client cannot work with the profile's config (sysexits.h, EX_CONFIG).
pub const EXIT_CONFIG: i32 = 78;

/// A unit that somebody has stopped is started again, but no sooner after the last start.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// One thing to do; each may be done twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Adds a policy rule.
    AddRule(Rule),
    /// Takes one away.
    DeleteRule(Rule),
    /// Adds a route to our table.
    AddRoute(Route),
    /// Takes one away.
    DeleteRoute(Route),
    /// Puts an interface into the group of the tunnels.
    Group(Link),
    /// Replaces our nft table by this text.
    ReplaceTable(String),
    /// Takes our nft table away.
    RemoveTable,
    /// Replaces our filters of one preference on this uplink.
    Filters {
        /// The uplink.
        uplink: Link,
        /// The preference.
        preference: u32,
        /// None: they are taken away.
        filters: Vec<crate::kernel::Filter>,
    },
    /// Starts the client of a profile.
    StartUnit(String),
    /// Ends it.
    StopUnit(String),
}

/// What must not be asked of the world again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The table that was put last: its text, and how nft(8) has listed it right after.
    pub applied: Option<(String, String)>,
    /// For which asking the client was started, and when.
    pub started: Option<(u64, Boottime)>,
}

/// What the daemon is told, besides what it reads.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    /// The config in force.
    pub config: &'a Config,
    /// What people have asked for.
    pub intent: &'a Intent,
    /// Every profile by name, or what is wrong with it.
    pub profiles: &'a BTreeMap<String, Result<Profile, String>>,
    /// A person stands behind this asking: codes can be asked for.
    pub attended: Option<u64>,
    /// What was read.
    pub evidence: &'a Evidence,
    /// The time.
    pub now: Boottime,
}

/// How the tunnel that was asked for is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// `guppy vpn disable`: nothing is blocked.
    Disabled,
    /// None is asked for any more, and a client is still there.
    Ending(String),
    /// None is asked for.
    Off,
    /// Its client is at it.
    Connecting(String),
    /// Its interface is up.
    Up,
    /// The customer's server has refused twice; only a person may try again.
    Parked(String),
    /// It will not come up by itself.
    Failed(String),
}

impl Phase {
    /// The word for it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Disabled => "disabled",
            Self::Ending(_) => "ending",
            Self::Off => "off",
            Self::Connecting(_) => "connecting",
            Self::Up => "up",
            Self::Parked(_) => "parked",
            Self::Failed(_) => "failed",
        }
    }

    /// What there is to say besides.
    pub fn detail(&self) -> &str {
        match self {
            Self::Disabled => {
                "peers' packets leave as this box's own: guppy vpn up closes that again"
            }
            Self::Off => "no tunnel is asked for: nothing of the peers' leaves",
            Self::Up => "",
            Self::Ending(why) | Self::Connecting(why) | Self::Parked(why) | Self::Failed(why) => {
                why
            }
        }
    }
}

/// What came of deciding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What to remember.
    pub state: State,
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// What must hold; None: the kernel could not be read, and nothing is changed.
    pub plan: Option<Plan>,
    /// How the tunnel is.
    pub phase: Phase,
    /// When to judge anew though nothing has changed.
    pub again: Option<Duration>,
}

/// Judges.
pub fn decide(mut state: State, input: &Input<'_>) -> Decision {
    let mut actions = Vec::new();
    let network = input.evidence.network.known();
    let phase = phase(&state, input, network);
    let plan = network.map(|network| {
        if input.intent.enabled {
            plan::plan(&policy(input, network, &phase), &network.links)
        } else {
            Plan::none()
        }
    });
    if let (Some(plan), Some(network)) = (&plan, network) {
        if let Some(table) = input.evidence.table.known() {
            actions.extend(table_action(plan, &state, table.as_deref()));
        }
        actions.extend(diff::routing(plan, network));
    }
    let mut again = None;
    if let Some(units) = input.evidence.units.known() {
        actions.extend(stops(input, units, &phase));
        match start(&mut state, input, units, &phase) {
            Start::Now(name) => actions.push(Action::StartUnit(name)),
            Start::After(rest) => again = Some(rest),
            Start::Not => {}
        }
    }
    Decision { state, actions, plan, phase, again }
}

fn table_action(plan: &Plan, state: &State, listed: Option<&str>) -> Option<Action> {
    if plan.chains.is_empty() {
        return listed.map(|_| Action::RemoveTable);
    }
    let text = plan.nft();
    // What was listed after it was put may have been put by somebody else meanwhile.
    let holds = matches!((&state.applied, listed), (Some((put, after)), Some(listed))
        if *put == text && after == listed && chains::is_listing_of(listed, &text));
    (!holds).then_some(Action::ReplaceTable(text))
}

/// The profile that is wanted, if its file is right.
fn wanted<'a>(input: &Input<'a>) -> Option<(&'a str, Result<&'a Profile, String>)> {
    let name = input.intent.profile.as_deref().filter(|_| input.intent.enabled)?;
    let profile = match input.profiles.get(name) {
        Some(Ok(profile)) => Ok(profile),
        Some(Err(why)) => Err(why.clone()),
        None => Err(format!("there is no profile {name} in {}", profile::FOLDER)),
    };
    Some((name, profile))
}

fn phase(state: &State, input: &Input<'_>, network: Option<&Network>) -> Phase {
    let Some((name, profile)) = wanted(input) else { return without_profile(input) };
    let profile = match profile {
        Ok(profile) => profile,
        Err(why) => return Phase::Failed(why),
    };
    let Some(network) = network else {
        return Phase::Connecting("the kernel cannot be read".to_owned());
    };
    if let Some(why) = overlap(profile, &profile.interface(name), network) {
        return Phase::Failed(why);
    }
    let unit = input.evidence.units.known().and_then(|units| unit_of(units, name));
    // Of what it was started for last it tells, not of what somebody has asked for since.
    let started = state.started.is_some_and(|(asked, _)| asked == input.intent.asked);
    if let Some(unit) = unit
        && unit.active == "failed"
        && started
    {
        let journal = format!("journalctl -u {}", profile::unit(name));
        match unit.exit_status {
            EXIT_PARKED => {
                let why = "the customer's server has refused the login twice: set the credentials \
                           right, then guppy vpn up";
                return Phase::Parked(format!("{why} ({journal})"));
            }
            EXIT_CONFIG => {
                let why = format!("its config is refused: {} ({journal})", unit.status);
                return Phase::Failed(why);
            }
            _ => {}
        }
    }
    let tunnel = tunnel(network, &profile.interface(name));
    if tunnel.is_some_and(|tunnel| Family::ALL.into_iter().any(|family| tunnel.carries(family))) {
        return Phase::Up;
    }
    match unit {
        Some(unit) if !unit.status.is_empty() => Phase::Connecting(unit.status.clone()),
        Some(unit) => Phase::Connecting(format!("{} is {}", profile::unit(name), unit.active)),
        None => Phase::Connecting(format!("{} is not started yet", profile::unit(name))),
    }
}

fn without_profile(input: &Input<'_>) -> Phase {
    let units = input.evidence.units.known().map(Vec::as_slice).unwrap_or_default();
    match units.iter().find(|unit| !unit.is_idle()) {
        Some(unit) => Phase::Ending(format!("{} is {}", profile::unit(&unit.profile), unit.active)),
        None if input.intent.enabled => Phase::Off,
        None => Phase::Disabled,
    }
}

fn unit_of<'a>(units: &'a [Unit], name: &str) -> Option<&'a Unit> {
    units.iter().find(|unit| unit.profile == name)
}

fn tunnel(network: &Network, interface: &str) -> Option<Tunnel> {
    let link = network.link(interface)?.clone();
    let addresses = network
        .addresses
        .iter()
        .filter(|address| address.index == link.index && address.usable)
        .map(|address| address.address)
        .collect();
    Some(Tunnel { link, addresses })
}

/// Why a customer's networks cannot be routed into the tunnel: they are this box's own.
pub fn overlap(profile: &Profile, interface: &str, network: &Network) -> Option<String> {
    let tunnel = network.link(interface).map(|link| link.index);
    let name = |index: u32| {
        let link = network.links.iter().find(|link| link.index == index);
        link.map_or_else(|| format!("if{index}"), |link| link.name.clone())
    };
    let of_addresses = network.addresses.iter().map(|address| (address.network, address.index));
    let own: Vec<(Prefix, u32)> = of_addresses
        .chain(network.networks.iter().copied())
        .filter(|(_, index)| Some(*index) != tunnel)
        .collect();
    for prefix in &profile.prefixes {
        if let Some((network, index)) = own.iter().find(|(network, _)| network.overlaps(*prefix)) {
            return Some(format!(
                "prefixes = \"{prefix}\" overlaps {network} on {}, a network of this box's own: leave \
                 it out of the profile, or move the box",
                name(*index)
            ));
        }
    }
    None
}

fn policy(input: &Input<'_>, network: &Network, phase: &Phase) -> Policy {
    let config = input.config;
    let mut hostile = BTreeSet::from([format!("{INTERFACE_PREFIX}*")]);
    for (name, profile) in input.profiles {
        if let Ok(Profile { interface: Some(_), .. }) = profile {
            hostile.extend(profile.as_ref().map(|profile| profile.interface(name)));
        }
    }
    let profile = wanted(input).and_then(|(name, profile)| Some((name, profile.ok()?)));
    let tunnel = match (phase, profile) {
        (Phase::Connecting(_) | Phase::Up, Some((name, profile))) => {
            tunnel(network, &profile.interface(name))
        }
        _ => None,
    };
    let v4 = match (phase, &tunnel) {
        (Phase::Parked(_) | Phase::Failed(_), _) => End::Unreachable,
        (Phase::Up, Some(tunnel)) if tunnel.link.up && !tunnel.carries(Family::V4) => {
            End::Unreachable
        }
        _ => End::Blackhole,
    };
    let six = profile.is_some_and(|(_, profile)| {
        let probed = Prefix::host(profile.probe.address());
        profile.prefixes.iter().chain([&probed]).any(|prefix| prefix.family() == Family::V6)
    });
    let has_six =
        tunnel.as_ref().is_some_and(|tunnel| tunnel.addresses_of(Family::V6).next().is_some());
    let v6 = match phase {
        // With a tunnel that carries it this is what holds while its link is down.
        Phase::Connecting(_) | Phase::Up if has_six || six && tunnel.is_none() => End::Blackhole,
        _ => End::Unreachable,
    };
    let uplinks = network
        .uplinks
        .iter()
        .filter_map(|uplink| network.links.iter().find(|link| link.index == *uplink))
        // A client that has put its default route into main makes its tunnel no uplink of ours.
        .filter(|link| tunnel.as_ref().is_none_or(|tunnel| tunnel.link.index != link.index))
        .cloned()
        .collect();
    Policy {
        peers: config.tailscale_interface.clone(),
        hostile,
        tunnel,
        ends: [v4, v6],
        also_forward: config.also_forward.clone(),
        uplinks,
    }
}

/// What is not wanted, or is being refused, does not go on.
fn stops(input: &Input<'_>, units: &[Unit], phase: &Phase) -> Vec<Action> {
    let wanted = wanted(input);
    units
        .iter()
        .filter(|unit| matches!(unit.active.as_str(), "active" | "activating" | "reloading"))
        .filter(|unit| match &wanted {
            // A profile that is being refused does not keep what it had.
            Some((name, Ok(_))) => unit.profile != *name || matches!(phase, Phase::Failed(_)),
            Some((name, Err(_))) => unit.profile != *name,
            None => true,
        })
        .map(|unit| Action::StopUnit(unit.profile.clone()))
        .collect()
}

/// Whether the client of the wanted profile is to be started.
enum Start {
    Now(String),
    After(Duration),
    Not,
}

fn start(state: &mut State, input: &Input<'_>, units: &[Unit], phase: &Phase) -> Start {
    let Some((name, Ok(profile))) = wanted(input) else { return Start::Not };
    let unit = unit_of(units, name);
    if matches!(phase, Phase::Failed(_)) || unit.is_some_and(|unit| !unit.is_idle()) {
        return Start::Not;
    }
    match state.started {
        Some((asked, at)) if asked == input.intent.asked => {
            // systemd itself restarts what has failed; what is inactive was stopped by somebody.
            if profile.interactive || unit.is_some_and(|unit| unit.active != "inactive") {
                return Start::Not;
            }
            let rest = RESTART_AFTER.saturating_sub(input.now.since(at));
            if !rest.is_zero() {
                return Start::After(rest);
            }
        }
        _ if profile.interactive && input.attended != Some(input.intent.asked) => {
            return Start::Not;
        }
        _ => {}
    }
    state.started = Some((input.intent.asked, input.now));
    Start::Now(name.to_owned())
}
