//! What a start waits for that is not the session's own: a twin.

use std::time::Duration;

use super::world::{World, name};
use crate::decide::State;

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
        world.place("a/0").twin = Some(77);
        world.pass(10 * HOUR);
        let seen = (world.starts_of("a/0"), world.state("a/0"));
        assert_eq!(seen, (1, State::Due), "{agent}: {}", world.why("a/0"));
        assert!(world.why("a/0").contains("open in process 77: end that"), "{agent}");
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
