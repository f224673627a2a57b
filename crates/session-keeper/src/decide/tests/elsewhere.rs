//! What a start waits for that is not the session's own: a twin, a mount that is late.

use std::time::Duration;

use super::world::{World, id, name};
use crate::decide::State;
use crate::intent::OnMissing;
use crate::learned::{Begun, Server};
use crate::sense::Twin;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_twin_that_no_registry_tells_of_is_waited_for_and_costs_no_start() {
    for agent in ["codex", "opencode", "aider"] {
        let mut world = World::new(agent, 1);
        world.pass(MINUTE);
        assert_eq!(world.starts_of("a/0"), 1, "{agent}");
        world.turn("a/0");
        world.pass(MINUTE);
        world.power_cut();
        world.place("a/0").twin = Some(Twin::Process(77));
        world.pass(10 * HOUR);
        let seen = (world.starts_of("a/0"), world.state("a/0"));
        assert_eq!(seen, (1, State::Due), "{agent}: {}", world.why("a/0"));
        assert!(world.why("a/0").contains("open in process 77: end that"), "{agent}");
        // One that cannot be looked at may be one; it is looked at again at the next tick.
        world.place("a/0").twin = Some(Twin::Hidden("its memory is locked".to_owned()));
        assert_eq!(world.look(usize::MAX), None);
        world.pass(HOUR);
        assert_eq!((world.starts_of("a/0"), world.state("a/0")), (1, State::Unknown));
        world.place("a/0").twin = None;
        world.pass(MINUTE);
        assert_eq!(world.starts_of("a/0"), 2, "{agent}: {}", world.why("a/0"));
    }
}

#[test]
fn an_agent_that_says_its_conversation_is_open_elsewhere_is_parked() {
    let mut world = World::new("codex", 1);
    world.pass(MINUTE);
    world.place("a/0").screen = "Error: this thread already has an active writer\n".to_owned();
    world.agent_ends(&name("a/0"), Some(1), false);
    world.pass(10 * HOUR);
    assert_eq!((world.starts_of("a/0"), world.state("a/0")), (1, State::Parked));
    let why = world.why("a/0");
    assert!(why.contains("open elsewhere") && why.contains("guppy start a/0"), "{why}");
}

#[test]
fn a_worktree_beneath_a_mount_that_is_late_is_never_made_again() {
    for on_missing in [OnMissing::Recreate, OnMissing::Block] {
        let mut world = World::new("claude", 1);
        world.intend(|intent| {
            intent.on_missing = on_missing;
            intent.repository = Some("/home/alice/repository".into());
        });
        world.pass(MINUTE);
        world.power_cut();
        let place = world.place("a/0");
        place.worktree = false;
        place.unmounted = Some("/home/alice".into());
        world.pass(HOUR);
        assert_eq!(world.state("a/0"), State::Due, "{}", world.why("a/0"));
        assert!(world.why("a/0").contains("waits for /home/alice to be mounted"));
        assert!(!world.place("a/0").worktree, "it was made again");
        let place = world.place("a/0");
        place.worktree = true;
        place.unmounted = None;
        world.pass(MINUTE);
        assert_eq!((world.starts_of("a/0"), world.state("a/0")), (2, State::Idle));
    }
}

#[test]
fn one_for_which_something_is_being_done_counts_and_is_not_judged() {
    let mut world = World::new("claude", 2);
    let shared = id(7);
    for at in ["a/0", "a/1"] {
        world.place(at).learned.conversation = Some(shared.clone());
    }
    // As it will be known: its start has been ordered, and its pane is not there to be seen yet.
    let (began, server) = (world.moment(), Server { pid: 1, started: 1, boot: world.now().0 });
    let learned = &mut world.place("a/0").learned;
    learned.start = 1;
    learned.begun = Some(Begun { at: began.clone(), server, resumed: false });
    learned.starts.push(began);
    world.under_way.insert(name("a/0"));
    world.pass(HOUR);
    assert!(!world.standings.contains_key(&name("a/0")));
    assert_eq!((world.starts_of("a/0"), world.starts_of("a/1")), (0, 0));
    assert!(world.why("a/1").contains("is that of session a/0"), "{}", world.why("a/1"));

    // Another conversation may begin, when its turn has come.
    world.place("a/1").learned.conversation = None;
    let stagger = world.config.starts.stagger;
    let now = world.moment();
    world.place("a/0").learned.starts.push(now);
    world.pass(stagger / 2);
    assert_eq!(world.starts_of("a/1"), 0);
    world.pass(stagger);
    assert_eq!(world.starts_of("a/1"), 1, "{}", world.why("a/1"));
}
