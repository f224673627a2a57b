//! Any trace whatever: never a stop within idle_after of known activity, always one within a
//! bounded time of the last.

use std::time::Duration;

use proptest::prelude::*;
use service::clock::Boottime;

use super::world::{HOUR, MINUTE, World, quiet, usec};
use crate::sense::{Reading, Said};

/// One stretch of a box's life.
#[derive(Clone, Debug)]
enum Stretch {
    Quiet(u64),
    Keys(u64),
    Compile(u64),
    Download(u64),
    Command(u64),
    Hold(u64),
    Broken(u64),
    Check(u64),
    Gap(u64),
    Restart,
}

fn stretch() -> impl Strategy<Value = Stretch> {
    let seconds = 1_u64..4_000;
    prop_oneof![
        4 => seconds.clone().prop_map(Stretch::Quiet),
        2 => seconds.clone().prop_map(Stretch::Keys),
        1 => seconds.clone().prop_map(Stretch::Compile),
        1 => seconds.clone().prop_map(Stretch::Download),
        1 => seconds.clone().prop_map(Stretch::Command),
        1 => seconds.clone().prop_map(Stretch::Hold),
        1 => seconds.clone().prop_map(Stretch::Broken),
        1 => seconds.clone().prop_map(Stretch::Check),
        1 => seconds.prop_map(Stretch::Gap),
        1 => Just(Stretch::Restart),
    ]
}

/// Lives through a stretch; returns when it was last known to be active, if it was: what came and
/// went between two looks, nobody knows of.
fn live(world: &mut World, stretch: &Stretch) -> Option<Boottime> {
    let before = world.looked;
    let mut worked = None;
    let span = |seconds| Duration::from_secs(seconds);
    let is_presence = match *stretch {
        Stretch::Quiet(seconds) => {
            world.wait(span(seconds));
            false
        }
        Stretch::Keys(seconds) => {
            world.pass(span(seconds), |world, _| world.press_key());
            true
        }
        Stretch::Compile(seconds) => {
            world.pass(span(seconds), |world, span| {
                world.burn("user.slice/user-1000.slice/session-1.scope", usec(1.5, span));
                // Known only once it is no spike any more.
                if span >= Duration::from_secs(10) {
                    worked = Some(world.now);
                }
            });
            false
        }
        Stretch::Download(seconds) => {
            world.pass(span(seconds), |world, span| {
                world.transfer("eth0", span.as_secs() * 1_000_000);
            });
            false
        }
        Stretch::Command(seconds) => {
            world.command("make", false);
            world.wait(span(seconds));
            world.evidence.commands = quiet().commands;
            true
        }
        Stretch::Hold(seconds) => {
            world.hold(span(seconds));
            world.wait(span(seconds));
            world.evidence.holds = quiet().holds;
            true
        }
        Stretch::Broken(seconds) => {
            world.evidence.builds = Reading::Unknown("EIO".to_owned());
            world.wait(span(seconds));
            world.evidence.builds = quiet().builds;
            false
        }
        Stretch::Check(seconds) => {
            world.check(Said::Active);
            world.wait(span(seconds));
            world.check(Said::Quiet);
            true
        }
        Stretch::Gap(seconds) => {
            world.now = world.now + span(seconds);
            false
        }
        Stretch::Restart => {
            world.restart();
            false
        }
    };
    if is_presence && world.looked != before { world.looked } else { worked }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 200 } else { 2_000 }))]

    #[test]
    fn never_within_idle_time_of_known_activity(stretches in prop::collection::vec(stretch(), 1..40)) {
        let mut world = World::new();
        world.open_terminal("pts/0", 9, "ssh alice");
        let mut last = Boottime::from_millis(0);
        for stretch in &stretches {
            last = live(&mut world, stretch).unwrap_or(last);
            if let Some(stopped) = world.stopped {
                prop_assert!(
                    stopped.since(last) >= world.config.idle_after,
                    "stopped at {stopped}, active at {last}"
                );
                break;
            }
        }
    }

    #[test]
    fn always_within_bounded_time_of_the_last(
        stretches in prop::collection::vec(stretch(), 0..40),
        fails in any::<[bool; 4]>(),
    ) {
        let mut world = World::new();
        world.open_terminal("pts/0", 9, "ssh alice");
        for stretch in &stretches {
            live(&mut world, stretch);
        }
        if world.stopped.is_some() {
            return Ok(());
        }
        // From here on nothing happens, and some sensors fail for ever.
        let [cpu, builds, commands, checks] = fails;
        let broken = || "EIO".to_owned();
        if cpu { world.evidence.cpu = Reading::Unknown(broken()); }
        if builds { world.evidence.builds = Reading::Unknown(broken()); }
        if commands { world.evidence.commands = Reading::Unknown(broken()); }
        if checks { world.evidence.checks = Reading::Unknown(broken()); }
        let last = world.now;
        world.wait(48 * HOUR);
        let config = &world.config;
        let bound = config.grace + config.unknown_at_most + config.window
            + config.idle_after + config.warning + 2 * config.tick + MINUTE;
        let stopped = world.stopped;
        prop_assert!(stopped.is_some_and(|at| at.since(last) <= bound), "{stopped:?} after {last}");
    }
}
