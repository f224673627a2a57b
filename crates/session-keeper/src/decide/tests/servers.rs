//! What the end of the server, or of a pane, means for its agents.

use std::time::Duration;

use super::policy::{running, starts};
use super::world::{World, name};
use crate::decide::State;
use crate::learned::Stop;
use crate::sense::Outcome;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_exit_while_the_unit_stops_is_never_clean() {
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(0), true);
    world.server_ends(true, false);
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Due);
    world.server_starts();
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Idle));
    assert!(world.place("a/0").learned.crashes.is_empty());
}

#[test]
fn nothing_is_started_on_a_server_that_is_being_stopped() {
    let mut world = running();
    world.stopping = true;
    world.agent_ends(&name("a/0"), Some(0), true);
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Due));
    world.server_ends(true, false);
    world.server_starts();
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Idle));
}

#[test]
fn a_pane_closed_while_the_server_lives_counts_as_a_stop() {
    for reported in [false, true] {
        let mut world = running();
        if reported {
            world.agent_ends(&name("a/0"), None, false);
            let Some(report) = &mut world.place("a/0").report else { panic!() };
            let Outcome::Ended { pane_closed, .. } = &mut report.outcome else { panic!() };
            *pane_closed = true;
        } else {
            world.processes.clear();
        }
        world.place("a/0").process = None;
        world.place("a/0").pane = None;
        world.pass(HOUR);
        assert_eq!((starts(&world), world.state("a/0")), (1, State::Stopped));
        assert_eq!(world.place("a/0").learned.stopped, Some(Stop::Removed));
    }
}

#[test]
fn a_pane_that_was_closed_stays_so_though_its_server_ends_before_anybody_looks() {
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(0), false);
    let Some(report) = &mut world.place("a/0").report else { panic!() };
    let Outcome::Ended { pane_closed, .. } = &mut report.outcome else { panic!() };
    *pane_closed = true;
    world.place("a/0").process = None;
    world.place("a/0").pane = None;
    world.server_ends(true, false);
    world.server_starts();
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Stopped));
    assert_eq!(world.place("a/0").learned.stopped, Some(Stop::Removed));
}

#[test]
fn a_killed_server_is_a_crash_after_which_all_comes_back() {
    let mut world = running();
    for _ in 0..3 {
        world.pass(3 * MINUTE);
        world.server_ends(true, false);
        world.server_starts();
        world.pass(20 * SECOND);
        assert_eq!(world.state("a/0"), State::Idle, "{}", world.why("a/0"));
    }
    assert_eq!((starts(&world), world.wrongs.clone()), (4, vec![]));
    assert!(world.place("a/0").learned.crashes.is_empty());
}

#[test]
fn an_agent_that_takes_the_server_along_backs_off_and_is_parked_and_the_others_come_back() {
    // Whether its shim lives long enough to say so or not.
    for reported in [true, false] {
        let mut world = World::new("claude", 3);
        world.pass(20 * SECOND);
        world.pass(10 * MINUTE);
        // It is the one that was started last, whatever its place in the list.
        let moment = world.moment();
        world.place("a/1").learned.ask_restart(moment);
        world.pass(5 * SECOND);
        let (mut spans, mut ended) = (Vec::new(), None);
        for _ in 0..5 {
            while world.process("a/1").is_none() {
                world.pass(SECOND);
            }
            let started = world.starts.last().unwrap().1;
            spans.extend(ended.map(|at| started.since(at).as_secs()));
            ended = Some(world.now);
            world.server_ends(reported, false);
            world.server_starts();
            world.pass(10 * SECOND);
            for other in ["a/0", "a/2"] {
                assert_eq!(world.state(other), State::Idle, "{}", world.why(other));
                assert!(world.place(other).learned.crashes.is_empty());
            }
        }
        assert_eq!(spans, [30, 60, 120, 240]);
        assert_eq!(world.state("a/1"), State::Parked);
        assert!(world.why("a/1").contains("the tmux server ended within 2m"));
        assert_eq!(world.wrongs, Vec::<String>::new());
    }
}

#[test]
fn a_server_that_systemd_stops_is_no_agents_doing() {
    let mut world = running();
    for _ in 0..6 {
        world.agent_ends(&name("a/0"), None, true);
        world.server_ends(true, false);
        world.server_starts();
        world.pass(10 * SECOND);
        assert_eq!(world.state("a/0"), State::Idle, "{}", world.why("a/0"));
    }
    assert!(world.place("a/0").learned.crashes.is_empty());
}
