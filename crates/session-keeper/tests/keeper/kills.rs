//! The keeper is killed at every step of a start: agents that run are left alone, and the one that
//! was being started comes up, once.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

use crate::tracer::Tracer;
use crate::world::{World, is_alive, number, text, until};

/// Worlds that wait beside each other: an order that left no trace rests for ten seconds.
const AT_ONCE: usize = 4;

/// How often each kind of start is cut off.
fn kills() -> u64 {
    if std::env::var_os("GUPPY_FULL").is_some() { 70 } else { 8 }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Begin {
    New,
    Restart,
    Crash,
}

const SUBJECT: &str = "b/subject";
const BYSTANDER: &str = "a/bystander";

#[test]
fn a_first_start_is_cut_off_at_any_step() {
    at_every_step(Begin::New);
}

#[test]
fn a_restart_is_cut_off_at_any_step() {
    at_every_step(Begin::Restart);
}

#[test]
fn a_start_after_a_crash_is_cut_off_at_any_step() {
    at_every_step(Begin::Crash);
}

/// Counts the steps of one start, then kills as many keepers, spread evenly over them.
fn at_every_step(begin: Begin) {
    let steps = cut_off(begin, None);
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let kill = next.fetch_add(1, Ordering::SeqCst);
                    if kill >= kills() {
                        return;
                    }
                    // In the middle of its share.
                    cut_off(begin, Some(((2 * kill + 1) * steps / (2 * kills())).max(1)));
                }
            });
        }
    });
}

/// One start whose keeper is killed at a step, or when all is done; returns how many there were.
fn cut_off(begin: Begin, at: Option<u64>) -> u64 {
    let context = format!("{begin:?} cut off at step {at:?}");
    let mut world = World::started();
    world.told(BYSTANDER, "kelp");
    let bystander = world.session(BYSTANDER);
    if begin != Begin::New {
        world.told(SUBJECT, "reef");
    }
    let before = world.session(SUBJECT);
    let births = world.births(SUBJECT).len();

    let keeper = world.keeper.as_ref().unwrap().id();
    let tracer = Tracer::of(keeper, at.unwrap_or(u64::MAX));
    let asked = match begin {
        Begin::New => {
            world.declare(SUBJECT, |_| {});
            true
        }
        // A keeper that is killed first gives no answer.
        Begin::Restart => world.call("Restart", json!({"name": SUBJECT})).is_ok(),
        Begin::Crash => {
            world.say_to(text(&before, "pane"), "exit 3");
            until("its crash", || !is_alive(number(&before, "pid")));
            true
        }
    };
    let shown = ["display-message", "-p", "-t", &format!("={SUBJECT}:"), "#{@guppy_state}"];
    until("the start, or the keeper's end", || {
        let up = world.births(SUBJECT).len() > births;
        tracer.has_ended() || up && world.tmux(&shown).stdout == b"idle\n"
    });
    let steps = tracer.steps();
    world.kill_keeper_of(tracer);

    world.start_keeper();
    let session = world.until_state(SUBJECT, "idle");
    let born = world.births(SUBJECT);
    let starts = number(&session, "starts");
    assert!(starts <= number(&before, "starts") + 2, "{context}: {session}");
    assert!(born.len() > births || !asked, "{context}: {born:?}");
    // Each order is an agent at most, all in one conversation, and the last of them lives.
    assert!(born.len() as u64 <= starts, "{context}: {born:?}, {session}");
    let id = text(&session, "conversation");
    assert!(born.iter().all(|(conversation, _)| conversation == id), "{context}: {born:?}");
    let alive: Vec<u64> = born.iter().map(|(_, pid)| *pid).filter(|pid| is_alive(*pid)).collect();
    assert_eq!(alive, [number(&session, "pid")], "{context}: {born:?}");
    let panes = world.tmux(&["list-panes", "-a", "-F", "#{session_name} #{pane_dead}"]);
    let panes = String::from_utf8(panes.stdout).unwrap();
    assert_eq!(panes, format!("{BYSTANDER} 0\n{SUBJECT} 0\n"), "{context}");
    world.say(SUBJECT, "after");
    world.until_noted(id, "after");
    let said = if begin == Begin::New { "after\n" } else { "reef\nafter\n" };
    assert_eq!(world.transcript(id), said, "{context}");

    let now = world.session(BYSTANDER);
    let same = |key: &str| assert_eq!(now.get(key), bystander.get(key), "{context}: {now}");
    ["pid", "starts", "pane", "conversation", "state"].into_iter().for_each(same);
    steps
}
