//! What a person wants counts, whatever has become of the session meanwhile.

use std::time::Duration;

use super::policy::running;
use crate::decide::State;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_agent_whose_file_was_spoiled_goes_on_until_a_person_wants_its_end() {
    let mut world = running();
    world.refused = Some("line 1 is wrong".to_owned());
    world.pass(HOUR);
    assert_eq!((world.state("a/0"), world.starts_of("a/0")), (State::Blocked, 1));
    assert!(world.process("a/0").is_some() && world.why("a/0").contains("guppy stop a/0"));
    let now = world.moment();
    world.place("a/0").learned.ask_stop(now);
    world.pass(MINUTE);
    assert!(world.process("a/0").is_none());
    assert_eq!(world.state("a/0"), State::Stopped);
    assert!(world.why("a/0").contains("line 1 is wrong"), "{}", world.why("a/0"));
    // Mended, it stays as the person wanted it.
    world.refused = None;
    world.pass(HOUR);
    assert_eq!((world.state("a/0"), world.starts_of("a/0")), (State::Stopped, 1));
}

#[test]
fn a_person_who_says_stop_means_what_an_agent_has_left_too() {
    let mut world = running();
    world.server_ends(false, true);
    world.server_starts();
    assert_eq!(world.processes.len(), 1);
    let now = world.moment();
    world.place("a/0").learned.ask_stop(now);
    world.pass(MINUTE);
    assert_eq!((world.processes.len(), world.state("a/0")), (0, State::Stopped));
}
