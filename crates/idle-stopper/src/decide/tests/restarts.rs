//! A daemon that is killed, frozen until it is killed, or dies by itself, again and again.

use std::time::Duration;

use proptest::prelude::*;
use service::clock::Boottime;

use super::cases;
use super::world::{HOUR, MINUTE, World, usec};
use crate::config::{Config, Mode};
use crate::decide::{Action, Event, Phase, Stage};
use crate::sense::Reading;

const SECOND: Duration = Duration::from_secs(1);

/// The daemon runs for `runs`, then is gone for `gone`, until the box stops or `at_most` is over.
fn crash_loop(world: &mut World, runs: Duration, gone: Duration, at_most: Duration) {
    let end = world.now + at_most;
    while world.stopped.is_none() && world.now < end {
        world.wait(runs);
        if world.stopped.is_none() {
            world.now = world.now + gone;
            world.restart();
        }
    }
}

/// The longest from the last activity to the stop, however often the daemon dies in between: the
/// idle time, the patience with daemons that die, and a warning that binds; then each order may
/// take one daemon, and so may the hooks. A gap that looks like a suspended box may come at the very
/// end of that, once: then a grace, and all of it again.
fn bound(config: &Config, cycle: Duration) -> Duration {
    let once = config.idle_after
        + config.unknown_at_most
        + 2 * config.warning
        + config.hooks_at_most
        + config.tick
        + MINUTE
        + 10 * cycle;
    2 * once + config.grace
}

#[test]
fn a_crash_loop_faster_than_one_warning_ends_in_a_stop_all_the_same() {
    for (runs, gone) in [(SECOND, SECOND), (30 * SECOND, SECOND), (119 * SECOND, SECOND)] {
        let mut world = World::settled();
        let last = world.now;
        crash_loop(&mut world, runs, gone, 24 * HOUR);
        let stopped = world.stopped.unwrap();
        assert!(stopped.since(last) <= bound(&world.config, runs + gone), "{runs:?}: {stopped}");
        // While it may yet be an accident, nobody is cut off by a daemon that has just started.
        assert!(stopped.since(last) >= world.config.idle_after + world.config.unknown_at_most);
        assert!(world.was_fairly_warned(world.config.warning));
    }
}

#[test]
fn work_that_a_crash_loop_still_sees_keeps_the_box_up() {
    let mut world = World::settled();
    world.command("make", false);
    crash_loop(&mut world, 30 * SECOND, SECOND, 10 * HOUR);
    assert!(world.stopped.is_none());
    // Rates take two ticks.
    let mut world = World::settled();
    let end = world.now + 10 * HOUR;
    while world.now < end {
        world.pass(70 * SECOND, |world, span| {
            world.burn("user.slice/user-1000.slice/session-4.scope", usec(1.0, span));
        });
        world.restart();
    }
    assert!(world.stopped.is_none());
}

#[test]
fn a_key_calls_off_a_warning_that_no_restart_puts_off() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    // A daemon that begins in the warning of another.
    loop {
        world.wait(SECOND);
        world.restart();
        if world.is_warned() {
            break;
        }
    }
    let Phase::Warned { stop_at, .. } = *world.state.phase() else { panic!() };
    world.wait(world.now.until(stop_at).checked_sub(SECOND).unwrap());
    world.press_key();
    let pressed = world.now;
    world.restart();
    world.wait(SECOND);
    assert_eq!(world.count(|action| matches!(action, Action::Unwarn { .. })), 1);
    world.wait(2 * HOUR);
    assert!(world.stopped.unwrap() >= pressed + world.config.idle_after + world.config.warning);
}

#[test]
fn whoever_was_warned_by_the_daemon_before_is_told_that_the_box_stays() {
    let mut world = World::settled();
    while !world.is_warned() {
        world.wait(SECOND);
    }
    world.restart();
    world.command("make", false);
    world.wait(SECOND);
    assert_eq!(world.count(|action| matches!(action, Action::Unwarn { .. })), 1);
    assert_eq!(world.told(|event| matches!(event, Event::Cancelled { .. })), 1);
}

#[test]
fn a_hook_that_hangs_and_a_crash_loop_together_make_no_eternal_box() {
    for runs in [20 * SECOND, 130 * SECOND, 170 * SECOND] {
        let mut world = World::settled();
        world.hooks_take = HOUR;
        let last = world.now;
        crash_loop(&mut world, runs, SECOND, 24 * HOUR);
        let stopped = world.stopped.unwrap();
        assert!(stopped.since(last) <= bound(&world.config, runs + SECOND), "{runs:?}: {stopped}");
    }
}

#[test]
fn refusals_are_counted_across_restarts() {
    // Each run lasts for a warning and one order: only the count gets past logind.
    let mut world = World::settled();
    world.power_off = Err("no".to_owned());
    crash_loop(&mut world, 125 * SECOND, SECOND, 24 * HOUR);
    assert!(world.stopped.is_some());
    assert_eq!(world.count(|action| *action == Action::PowerOff), 2);
    assert_eq!(world.count(|action| *action == Action::ForcePowerOff), 1);
}

#[test]
fn a_reading_that_fails_and_a_crash_loop_faster_than_a_tick_make_no_eternal_box() {
    let mut world = World::settled();
    world.evidence.cpu = Reading::Unknown("EIO".to_owned());
    let last = world.now;
    crash_loop(&mut world, SECOND, SECOND, 24 * HOUR);
    let at_most = bound(&world.config, 2 * SECOND) + world.config.unknown_at_most;
    assert!(world.stopped.is_some_and(|stopped| stopped.since(last) <= at_most));
}

#[test]
fn what_only_observed_binds_nobody_once_the_role_has_come() {
    let mut world = World::with(Config::default());
    let config = &world.config;
    // Where this would have been the time for the warning that binds.
    let patience = config.grace + config.idle_after + config.unknown_at_most + MINUTE;
    crash_loop(&mut world, SECOND, SECOND, patience);
    assert!(matches!(world.state.phase(), Phase::Active { .. }));
    world.config.mode = Mode::Stop;
    let begin = world.now;
    world.wait(HOUR);
    assert!(world.stopped.unwrap() >= begin + world.config.warning);
}

#[test]
fn a_daemon_frozen_until_its_watchdog_killed_it_gives_a_new_grace() {
    let mut world = World::settled();
    while !world.is_warned() {
        world.wait(SECOND);
    }
    world.now = world.now + 3 * HOUR;
    world.restart();
    let thawed = world.now;
    world.look();
    assert!(matches!(world.state.phase(), Phase::Settling { .. }));
    assert_eq!(world.told(|event| matches!(event, Event::Gap { .. })), 1);
    assert_eq!(world.count(|action| matches!(action, Action::Unwarn { .. })), 1);
    world.wait(3 * HOUR);
    let config = &world.config;
    let earliest = thawed + config.grace + config.idle_after + config.warning;
    assert!(world.stopped.unwrap() >= earliest);
}

#[test]
fn a_grace_that_ended_while_no_daemon_ran_is_followed_by_the_whole_idle_time() {
    let mut world = World::settled();
    world.wait(29 * MINUTE);
    world.now = world.now + 3 * HOUR;
    world.restart();
    world.look();
    let Phase::Settling { until, .. } = *world.state.phase() else { panic!() };
    world.wait(world.now.until(until).checked_sub(SECOND).unwrap());
    world.now = world.now + 30 * SECOND;
    world.restart();
    world.wait(3 * HOUR);
    assert!(world.stopped.unwrap() >= until + world.config.idle_after + world.config.warning);
}

#[test]
fn a_daemon_killed_for_ever_with_long_gaps_stops_the_box_all_the_same() {
    for (runs, gone) in [(30 * SECOND, 10 * MINUTE), (25 * MINUTE, HOUR), (SECOND, 2 * HOUR)] {
        let mut world = World::settled();
        let last = world.now;
        crash_loop(&mut world, runs, gone, 72 * HOUR);
        let stopped = world.stopped.unwrap();
        assert!(stopped.since(last) <= bound(&world.config, runs + gone), "{runs:?}: {stopped}");
        assert_eq!(world.told(|event| matches!(event, Event::Gap { .. })), 1);
    }
}

#[test]
fn known_activity_earns_a_new_grace() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    for _ in 0..3 {
        world.press_key();
        world.wait(MINUTE);
        world.now = world.now + HOUR;
        world.restart();
        world.wait(MINUTE);
    }
    assert_eq!(world.told(|event| matches!(event, Event::Gap { .. })), 3);
}

#[test]
fn the_first_line_after_a_restart_says_how_long_it_was_quiet() {
    let mut world = World::settled();
    world.wait(31 * MINUTE);
    world.restart();
    world.look();
    let (idle, left) = world
        .actions
        .iter()
        .rev()
        .find_map(|(_, action)| match action {
            Action::Tell(Event::Idle { idle, left, .. }) => Some((*idle, *left)),
            _ => None,
        })
        .unwrap();
    let true_idle = world.now.since(world.state.last_activity().at);
    assert!(true_idle > 31 * MINUTE);
    assert_eq!((idle, left), (true_idle, world.config.warning));
}

#[test]
fn whoever_ends_a_long_quiet_is_told_how_long_it_was() {
    let mut world = World::with(Config::default());
    world.wait(5 * HOUR);
    assert!(matches!(world.state.phase(), Phase::Stopping { stage: Stage::Observed, .. }));
    world.command("make", false);
    world.wait(MINUTE);
    let told = |event: &Event| matches!(event, Event::Active { idle, .. } if *idle > 4 * HOUR);
    assert_eq!(world.told(told), 1);
}

proptest! {
    #![proptest_config(cases(30))]

    /// Any pattern of kills whatever, with hooks and refusals of any kind.
    #[test]
    fn a_box_stops_whatever_becomes_of_its_daemon(
        kills in prop::collection::vec((0_u64..400_000, 0_u64..200_000), 1..8),
        hurry in prop_oneof![Just(1_u64), 1_u64..100],
        hooks in 0_u64..100,
        refuses in any::<bool>(),
        locked in any::<bool>(),
    ) {
        let mut world = World::settled();
        world.hooks_take = Duration::from_secs(hooks);
        if refuses { world.power_off = Err("AccessDenied".to_owned()); }
        let last = world.state.last_activity().at;
        if locked { world.lock("shutdown", "block"); }
        let kills: Vec<(u64, u64)> =
            kills.iter().map(|(runs, gone)| (runs / hurry, gone / hurry + 1_000)).collect();
        let longest = kills.iter().map(|(runs, gone)| runs + gone).max().unwrap_or_default();
        let cycle = Duration::from_millis(longest);
        let mut at_most = bound(&world.config, cycle);
        if locked { at_most += 2 * world.config.inhibit_at_most; }
        for (runs, gone) in kills.iter().cycle() {
            world.wait(Duration::from_millis(*runs));
            if world.stopped.is_some() || world.now.since(last) > at_most {
                break;
            }
            world.now = world.now + Duration::from_millis(*gone);
            world.restart();
        }
        let stopped = world.stopped;
        prop_assert!(stopped.is_some_and(|at| at.since(last) <= at_most), "{stopped:?} after {last}");
        prop_assert!(world.was_fairly_warned(world.config.warning));
        let earliest: Boottime = last + world.config.idle_after + world.config.warning;
        prop_assert!(stopped >= Some(earliest));
    }
}
