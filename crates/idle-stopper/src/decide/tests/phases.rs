//! The way from boot to the end, and every way back.

use std::time::Duration;

use service::clock::Boottime;

use super::world::{HOUR, MINUTE, World};
use crate::config::{Config, Mode};
use crate::decide::{Action, Event, Kind, Phase, Shown};
use crate::sense::Reading;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_box_that_nobody_uses_stops_after_grace_idle_time_and_warning() {
    let mut world = World::new();
    world.wait(3 * HOUR);
    let earliest = Boottime::from_millis(0)
        + world.config.grace
        + world.config.idle_after
        + world.config.warning;
    let stopped = world.stopped.unwrap();
    assert!(stopped >= earliest && stopped <= earliest + SECOND, "{stopped}");
    assert_eq!(world.count(|action| matches!(action, Action::Warn { .. })), 1);
    assert_eq!(world.count(|action| *action == Action::RunHooks), 1);
    assert_eq!(world.told(|event| *event == Event::Taken), 1);
}

#[test]
fn the_stop_comes_within_one_tick_of_idle_time_and_warning_after_the_last_key() {
    for offset in 0..40 {
        let mut world = World::settled();
        world.open_terminal("pts/0", 9, "ssh alice");
        world.wait(MINUTE + offset * SECOND);
        world.press_key();
        let pressed = world.now;
        world.wait(2 * HOUR);
        let earliest = pressed + world.config.idle_after + world.config.warning + 8 * SECOND;
        let stopped = world.stopped.unwrap();
        assert!(stopped >= earliest, "{offset}: {stopped} is before {earliest}");
        assert!(stopped <= earliest + world.config.tick + SECOND, "{offset}: {stopped}");
    }
}

#[test]
fn nothing_is_judged_before_the_grace_is_over() {
    let mut world = World::new();
    let grace = world.config.grace;
    world.wait(grace - 20 * SECOND);
    assert!(matches!(world.state.phase(), Phase::Settling { .. }));
    world.wait(21 * SECOND);
    assert!(!matches!(world.state.phase(), Phase::Settling { .. }));
}

#[test]
fn a_key_during_the_warning_calls_it_off_and_says_so() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.pass(HOUR, |world, _| {
        if world.is_warned() {
            world.press_key();
        }
    });
    assert!(world.stopped.is_none());
    assert!(
        world.told(|event| matches!(event, Event::Cancelled { what } if what.contains("alice")))
            >= 1
    );
    assert!(world.count(|action| matches!(action, Action::Unwarn { .. })) >= 1);
}

#[test]
fn whoever_comes_back_at_the_last_instant_is_not_cut_off() {
    let mut world = World::settled();
    while !world.is_warned() {
        world.wait(SECOND);
    }
    let Phase::Warned { stop_at, .. } = *world.state.phase() else { panic!() };
    let left = world.now.until(stop_at);
    world.wait(left.checked_sub(Duration::from_millis(1)).unwrap());
    world.command("make", false);
    world.wait(HOUR);
    assert!(world.stopped.is_none());
}

#[test]
fn whoever_comes_back_while_the_hooks_run_is_not_cut_off_either() {
    let mut world = World::settled();
    world.during_hooks = |world| world.open_terminal("pts/3", 12, "ssh alice");
    world.wait(33 * MINUTE);
    assert_eq!(world.count(|action| *action == Action::RunHooks), 1);
    assert!(world.stopped.is_none());
    assert_eq!(world.told(|event| matches!(event, Event::Cancelled { .. })), 1);
}

#[test]
fn what_the_hooks_themselves_burn_does_not_call_the_stop_off() {
    let mut world = World::settled();
    world.during_hooks = |world| world.transfer("eth0", 1 << 30);
    world.wait(33 * MINUTE);
    assert!(world.stopped.is_some());
}

#[test]
fn hooks_that_never_end_are_not_waited_for() {
    let mut world = World::settled();
    while !matches!(world.state.phase(), Phase::Warned { .. }) {
        world.wait(SECOND);
    }
    // The hooks' outcome never comes: the loop's own ticks must get past them.
    let evidence = world.evidence.clone();
    let mut state = world.state.clone();
    let mut now = world.now;
    let mut ordered = false;
    for _ in 0..40 {
        now = state.next_tick(&world.config, now);
        let input = crate::decide::Input::Evidence(&evidence, now);
        let (next, actions) = crate::decide::decide(state, input, &world.config, now);
        state = next;
        ordered |= actions.contains(&Action::PowerOff);
    }
    assert!(ordered);
    assert!(now.since(world.now) < 30 * MINUTE);
}

#[test]
fn a_refusal_is_retried_with_growing_delay_and_never_given_up() {
    let mut world = World::settled();
    world.power_off = Err("ESTALE".to_owned());
    world.force = Err("no".to_owned());
    world.last_resort = Err("no".to_owned());
    world.wait(24 * HOUR);
    let waits: Vec<Duration> = world
        .actions
        .iter()
        .filter_map(|(_, action)| match action {
            Action::Tell(Event::Refused { wait, .. }) => Some(*wait),
            _ => None,
        })
        .collect();
    assert!(waits.len() > 100, "{} tries in a day", waits.len());
    assert!(waits.windows(2).all(|pair| matches!(pair, [a, b] if a <= b)));
    assert_eq!(waits.last(), Some(&(10 * MINUTE)));
    assert!(world.stopped.is_none());
    world.force = Ok(());
    world.wait(20 * MINUTE);
    assert!(world.stopped.is_some());
}

#[test]
fn activity_calls_off_a_stop_that_is_being_refused() {
    let mut world = World::settled();
    world.power_off = Err("no".to_owned());
    world.force = Err("no".to_owned());
    world.wait(33 * MINUTE);
    world.hold(HOUR);
    world.wait(5 * MINUTE);
    assert!(matches!(world.state.phase(), Phase::Active { .. }));
    assert!(world.state.refused().is_none());
}

#[test]
fn a_lock_held_for_ever_is_passed_by_force_after_one_refusal() {
    let mut world = World::settled();
    world.lock("shutdown:sleep", "block");
    world.power_off = Err("AccessDenied".to_owned());
    world.wait(world.config.inhibit_at_most + HOUR);
    assert!(world.stopped.is_some());
    assert_eq!(world.count(|action| *action == Action::PowerOff), 1);
    assert_eq!(world.count(|action| *action == Action::ForcePowerOff), 1);
}

#[test]
fn a_box_still_up_after_its_order_was_taken_is_ordered_again() {
    let mut world = World::settled();
    world.wait(33 * MINUTE);
    let taken = world.stopped.take().unwrap();
    world.wait(20 * MINUTE);
    let again = world.stopped.unwrap();
    assert!(again > taken + 5 * MINUTE);
}

#[test]
fn observing_stops_nothing_and_says_what_it_would_have_done_once() {
    let mut world = World::with(Config::default());
    assert_eq!(world.config.mode, Mode::Observe);
    world.wait(12 * HOUR);
    assert!(world.stopped.is_none());
    assert_eq!(world.count(|action| matches!(action, Action::RunHooks | Action::PowerOff)), 0);
    let would = |event: &Event| matches!(event, Event::Stopping { mode: Mode::Observe, .. });
    assert_eq!(world.told(would), 1);
    world.open_terminal("pts/0", 9, "ssh alice");
    world.wait(12 * HOUR);
    assert_eq!(world.told(would), 2);
}

#[test]
fn a_gap_starts_a_new_grace_even_at_the_last_instant() {
    let mut world = World::settled();
    while !world.is_warned() {
        world.wait(SECOND);
    }
    world.now = world.now + 3 * HOUR;
    world.look();
    assert!(matches!(world.state.phase(), Phase::Settling { .. }));
    assert_eq!(world.count(|action| matches!(action, Action::Unwarn { .. })), 1);
    let thawed = world.now;
    world.wait(3 * HOUR);
    let stopped = world.stopped.unwrap();
    assert!(stopped >= thawed + world.config.grace + world.config.idle_after);
}

#[test]
fn a_daemon_killed_again_and_again_stops_the_box_all_the_same() {
    let mut world = World::settled();
    let every = world.config.idle_after * 4 / 5;
    for _ in 0..4 {
        world.wait(every);
        world.restart();
    }
    assert!(world.stopped.is_some());
}

#[test]
fn a_restart_never_stops_sooner_than_one_warning_after_it() {
    let mut world = World::settled();
    world.wait(29 * MINUTE + 30 * SECOND);
    // No longer than three ticks: that would be a gap.
    world.now = world.now + 40 * SECOND;
    world.restart();
    let started = world.now;
    world.wait(HOUR);
    let stopped = world.stopped.unwrap();
    assert!(stopped >= started + world.config.warning);
    assert!(stopped <= started + world.config.warning + SECOND);
}

#[test]
fn a_key_pressed_while_no_daemon_ran_is_seen() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.wait(29 * MINUTE);
    world.press_key();
    world.restart();
    let pressed = world.now;
    world.wait(2 * HOUR);
    assert!(world.stopped.unwrap() >= pressed + world.config.idle_after + world.config.warning);
}

#[test]
fn a_restart_in_the_grace_period_goes_on_settling() {
    let mut world = World::new();
    world.wait(5 * MINUTE);
    world.restart();
    assert!(matches!(world.state.phase(), Phase::Settling { .. }));
    world.wait(2 * HOUR);
    assert!(world.stopped.unwrap() >= Boottime::from_millis(0) + world.config.grace + 30 * MINUTE);
}

#[test]
fn a_sensor_that_fails_for_ever_is_told_once_and_makes_no_eternal_box() {
    let mut world = World::settled();
    world.evidence.cpu = Reading::Unknown("cpu.stat: EIO".to_owned());
    let failed = world.now;
    world.wait(12 * HOUR);
    let stopped = world.stopped.unwrap();
    let config = &world.config;
    assert!(stopped >= failed + config.unknown_at_most);
    let latest = config.unknown_at_most + config.idle_after + config.warning + config.tick;
    assert!(stopped <= failed + latest + SECOND, "{stopped}");
    assert_eq!(world.told(|event| matches!(event, Event::Unreadable { .. })), 1);
    assert_eq!(world.told(|event| matches!(event, Event::Ignored { .. })), 1);
}

/// Whoever comes back every hour does not have it count anew, nor in silence.
#[test]
fn a_reading_that_is_ignored_stays_so_whatever_else_is_active() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.evidence.cpu = Reading::Unknown("cpu.stat: EIO".to_owned());
    let failed = world.now;
    for _ in 0..12 {
        world.wait(20 * MINUTE);
        world.press_key();
        let due = world.now.since(failed) >= world.config.unknown_at_most;
        world.look();
        let shown = if due { Shown::Ignored } else { Shown::Unknown };
        assert_eq!(world.state.kind(Kind::Cpu).shown, shown, "{}", world.now);
    }
    let pressed = world.now;
    world.restart();
    world.wait(2 * HOUR);
    let config = &world.config;
    let latest = config.idle_after + config.warning + config.tick + 8 * SECOND + SECOND;
    assert!(world.stopped.unwrap() <= pressed + latest);
    assert_eq!(world.told(|event| matches!(event, Event::Unreadable { .. })), 1);
    // And once by the daemon that began after it.
    assert_eq!(world.told(|event| matches!(event, Event::Ignored { .. })), 2);
    assert_eq!(world.told(|event| matches!(event, Event::Readable { .. })), 0);
}

#[test]
fn a_reading_that_was_ignored_and_can_be_read_again_may_fail_anew() {
    let mut world = World::settled();
    let failing = Reading::Unknown("EIO".to_owned());
    world.evidence.builds = failing.clone();
    world.wait(world.config.unknown_at_most + MINUTE);
    assert_eq!(world.state.kind(Kind::Builds).shown, Shown::Ignored);
    // Read, while somebody is there.
    world.open_terminal("pts/0", 9, "ssh alice");
    world.evidence.builds = Reading::Known(Vec::new());
    world.look();
    world.press_key();
    world.look();
    world.evidence.builds = failing;
    let failed = world.now;
    world.wait(12 * HOUR);
    assert!(world.stopped.unwrap() >= failed + world.config.unknown_at_most);
    assert_eq!(world.told(|event| matches!(event, Event::Unreadable { .. })), 2);
    assert_eq!(world.told(|event| matches!(event, Event::Ignored { .. })), 2);
    assert_eq!(world.told(|event| matches!(event, Event::Readable { .. })), 1);
}

#[test]
fn a_reading_that_is_given_more_time_is_told_to_count_again() {
    let mut world = World::settled();
    world.evidence.builds = Reading::Unknown("EIO".to_owned());
    world.wait(world.config.unknown_at_most + MINUTE);
    world.config.unknown_at_most = 3 * HOUR;
    world.wait(MINUTE);
    assert_eq!(world.state.kind(Kind::Builds).shown, Shown::Unknown);
    assert_eq!(world.told(|event| matches!(event, Event::Unreadable { .. })), 2);
}

#[test]
fn a_sensor_that_fails_now_and_then_makes_no_eternal_box_either() {
    let mut world = World::settled();
    let mut look = 0_u32;
    world.pass(24 * HOUR, |world, _| {
        look += 1;
        world.evidence.builds = if look.is_multiple_of(2) {
            Reading::Unknown("EINTR".to_owned())
        } else {
            Reading::Known(Vec::new())
        };
    });
    assert!(world.stopped.is_some());
}

#[test]
fn a_sensor_that_recovers_is_told_once() {
    let mut world = World::settled();
    world.evidence.builds = Reading::Unknown("EIO".to_owned());
    world.wait(10 * MINUTE);
    world.evidence.builds = Reading::Known(Vec::new());
    world.wait(10 * MINUTE);
    assert_eq!(world.told(|event| matches!(event, Event::Unreadable { .. })), 1);
    assert_eq!(world.told(|event| matches!(event, Event::Readable { .. })), 1);
    assert!(world.stopped.is_none());
}
