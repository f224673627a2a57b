//! Ways to make a box eternal, or to stop it under somebody's hands, that once worked here.

use std::time::Duration;

use super::world::{HOUR, MINUTE, World, known, usec};
use crate::config::{Config, Mode};
use crate::decide::{Action, Input, Phase, Stage, decide};
use crate::sense::Reading;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_key_that_a_tick_sees_while_the_hooks_run_is_not_lost() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    while !world.is_warned() {
        world.wait(SECOND);
    }
    let Phase::Warned { stop_at, .. } = *world.state.phase() else { panic!() };
    world.wait(world.now.until(stop_at).checked_sub(Duration::from_millis(1)).unwrap());
    let look = |state, world: &World, now| {
        decide(state, Input::Evidence(&world.evidence, now), &world.config, now)
    };
    let (state, actions) = look(world.state.clone(), &world, stop_at);
    assert!(actions.contains(&Action::RunHooks));
    world.press_key();
    let (state, actions) = look(state, &world, stop_at + 20 * SECOND);
    assert!(actions.is_empty(), "{actions:?}");
    let ended = Input::HooksEnded(&world.evidence);
    let (_, actions) = decide(state, ended, &world.config, stop_at + 40 * SECOND);
    assert!(!actions.contains(&Action::PowerOff), "{actions:?}");
}

#[test]
fn a_hook_that_moves_bytes_does_not_shield_a_lock_held_for_ever() {
    let mut world = World::settled();
    world.lock("shutdown", "block");
    world.power_off = Err("AccessDenied".to_owned());
    world.during_hooks = |world| world.transfer("eth0", 1 << 30);
    world.wait(world.config.inhibit_at_most + 24 * HOUR);
    assert!(world.stopped.is_some());
}

#[test]
fn a_box_that_only_observed_stops_once_it_may() {
    let mut world = World::with(Config::default());
    world.wait(2 * HOUR);
    assert!(matches!(world.state.phase(), Phase::Stopping { stage: Stage::Observed, .. }));
    world.config.mode = Mode::Stop;
    let begin = world.now;
    world.wait(HOUR);
    assert!(world.stopped.unwrap() >= begin + world.config.warning);
}

#[test]
fn a_box_that_said_that_it_would_stop_warns_again_once_it_may() {
    let mut world = World::with(Config::default());
    while !world.is_warned() {
        world.wait(SECOND);
    }
    world.wait(MINUTE);
    world.config.mode = Mode::Stop;
    world.wait(HOUR);
    assert!(world.was_fairly_warned(world.config.warning));
}

#[test]
fn a_box_told_to_observe_while_it_stops_stays_up() {
    let mut world = World::settled();
    world.power_off = Err("no".to_owned());
    world.force = Err("no".to_owned());
    world.wait(33 * MINUTE);
    world.config.mode = Mode::Observe;
    world.power_off = Ok(());
    world.force = Ok(());
    world.wait(HOUR);
    assert!(world.stopped.is_none());
}

#[test]
fn without_a_bus_or_polkit_the_box_stops_by_the_last_resort() {
    let mut world = World::settled();
    world.power_off = Err("no bus".to_owned());
    world.force = Err("no bus".to_owned());
    world.wait(HOUR);
    assert!(world.stopped.is_some());
    let orders: Vec<&Action> = world
        .actions
        .iter()
        .map(|(_, action)| action)
        .filter(|action| {
            matches!(action, Action::PowerOff | Action::ForcePowerOff | Action::LastResort)
        })
        .collect();
    // The polite ways first; this one passes every lock there is.
    let (polite, force) = (&Action::PowerOff, &Action::ForcePowerOff);
    assert_eq!(orders, [polite, polite, force, &Action::LastResort]);
}

#[test]
fn the_last_resort_does_not_displace_the_others() {
    let mut world = World::settled();
    world.power_off = Err("no".to_owned());
    world.force = Err("no".to_owned());
    world.last_resort = Err("nobody watches".to_owned());
    world.wait(6 * HOUR);
    assert!(world.count(|action| *action == Action::LastResort) > 5);
    world.force = Ok(());
    world.wait(25 * MINUTE);
    assert!(world.stopped.is_some());
}

#[test]
fn a_box_that_only_observes_never_comes_to_the_last_resort() {
    let mut world = World::with(Config::default());
    world.power_off = Err("no".to_owned());
    world.force = Err("no".to_owned());
    for _ in 0..3 {
        world.wait(12 * HOUR);
        world.restart();
    }
    assert_eq!(world.count(|action| *action == Action::LastResort), 0);
    // Nor one that is told to observe just before it.
    world.config.mode = Mode::Stop;
    while world.count(|action| *action == Action::ForcePowerOff) == 0 {
        world.wait(SECOND);
    }
    world.config.mode = Mode::Observe;
    world.wait(12 * HOUR);
    assert_eq!(world.count(|action| *action == Action::LastResort), 0);
    assert!(world.stopped.is_none());
}

#[test]
fn no_lock_younger_than_its_time_is_passed_by_the_last_resort() {
    let mut world = World::settled();
    world.power_off = Err("no".to_owned());
    world.force = Err("no".to_owned());
    while world.count(|action| *action == Action::ForcePowerOff) == 0 {
        world.wait(SECOND);
    }
    world.lock("shutdown", "block");
    let taken = world.now;
    world.wait(world.config.inhibit_at_most + 2 * HOUR);
    assert!(world.stopped.unwrap().since(taken) >= world.config.inhibit_at_most);
}

#[test]
fn a_failing_sensor_and_a_crash_loop_together_make_no_eternal_box() {
    let mut world = World::settled();
    world.evidence.builds = Reading::Unknown("EIO".to_owned());
    for _ in 0..20 {
        world.wait(24 * MINUTE);
        world.restart();
    }
    assert!(world.stopped.is_some());
}

#[test]
fn machines_cron_jobs_and_session_manager_are_not_the_box_s_own_daemons() {
    for unit in [
        "machine.slice/systemd-nspawn@ci.service",
        "system.slice/cron.service",
        "system.slice/amazon-ssm-agent.service",
    ] {
        let mut world = World::settled();
        world.pass(2 * HOUR, |world, span| world.burn(unit, usec(1.0, span)));
        assert!(world.stopped.is_none(), "{unit}");
    }
}

#[test]
fn a_program_that_opens_terminals_is_nobody_who_logs_in() {
    for what in ["console", "a terminal of healthcheck", "tmux"] {
        let mut world = World::settled();
        let mut leader = 100;
        world.pass(3 * HOUR, |world, _| {
            leader += 1;
            known(&mut world.evidence.terminals).clear();
            if leader % 40 == 0 {
                world.open_terminal("pts/9", leader, what);
            }
        });
        assert!(world.stopped.is_some(), "{what}");
    }
}

#[test]
fn a_connection_that_is_answered_again_has_not_moved_all_its_bytes_at_once() {
    let mut world = World::settled();
    world.connect(1, 22);
    world.flow(1 << 30, 1 << 30);
    let mut look = 0;
    world.pass(3 * HOUR, |world, _| {
        look += 1;
        let lost = look % 60 < 3;
        for socket in known(&mut world.evidence.sockets) {
            (socket.unacked, socket.backoff, socket.last_ack_ms) =
                if lost { (3, 5, 30_001) } else { (0, 0, 0) };
        }
    });
    assert!(world.stopped.is_some());
}

#[test]
fn a_raised_idle_time_calls_off_the_warning_in_force() {
    let mut world = World::settled();
    while !world.is_warned() {
        world.wait(SECOND);
    }
    world.config.idle_after = 4 * HOUR;
    world.wait(HOUR);
    assert!(world.stopped.is_none());
}

#[test]
fn a_reading_that_takes_long_is_no_gap() {
    let mut world = World::settled();
    world.config.tick = 3 * SECOND;
    let mut state = world.state.clone();
    let mut now = world.now;
    let mut stopped = false;
    for _ in 0..2_000 {
        let began = now + 3 * SECOND;
        now = began + 11 * SECOND;
        let input = Input::Evidence(&world.evidence, began);
        let (next, actions) = decide(state, input, &world.config, now);
        state = next;
        stopped |= actions.contains(&Action::RunHooks);
    }
    assert!(stopped);
}
