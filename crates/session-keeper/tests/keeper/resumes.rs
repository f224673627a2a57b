//! `on_resume = "continue"`: an agent that was cut off in the middle of its turn is sent one line when
//! it is back: once, never into a dialog, and never when its end was not in a turn.

use std::fs;
use std::process::Command;

use guppy_session_keeper::intent::OnResume;
use serde_json::json;

use crate::world::{World, is_alive, number, text, until};

const NAME: &str = "shop/fix";

/// A session that is idle and would be sent this line; its conversation.
fn started(world: &World, line: &str) -> String {
    world.trust();
    world.declare(NAME, |intent| {
        intent.on_resume = OnResume::Continue;
        line.clone_into(&mut intent.continue_with);
    });
    text(&world.until_state(NAME, "idle"), "conversation").to_owned()
}

/// How often a conversation was told this.
fn told(world: &World, id: &str, what: &str) -> usize {
    let transcript = world.transcript(id);
    let by_user = |line: &&str| line.contains("\"type\": \"user\"") && line.contains(what);
    transcript.lines().filter(by_user).count()
}

/// The machine is cut off while the agent is in a long turn.
fn cut_off(world: &mut World, id: &str) {
    world.call("Send", json!({"name": NAME, "text": "/long 600 dig"})).unwrap();
    world.until_state(NAME, "working");
    until("the turn", || told(world, id, "dig") > 0);
    world.end_server("KILL");
}

fn says(world: &World, id: &str, word: &str) {
    let said = told(world, id, word);
    world.call("Send", json!({"name": NAME, "text": word})).unwrap();
    until("its turn", || told(world, id, word) > said);
    world.until_state(NAME, "idle");
}

#[test]
fn one_that_was_cut_off_is_sent_its_line_once_whatever_ends_it_then() {
    let mut world = World::scripted();
    // A turn that does not end by itself.
    let id = started(&world, "/long 600 carry on");
    cut_off(&mut world, &id);
    world.start_server();
    until("its line", || told(&world, &id, "carry on") == 1);
    world.until_state(NAME, "working");
    world.kill_keeper();
    world.start_keeper();
    world.until_state(NAME, "working");
    // Cut off in that turn too: it is a person's now.
    world.end_server("KILL");
    world.start_server();
    until("a third start", || number(&world.session(NAME), "starts") == 3);
    world.until_state(NAME, "interrupted");
    says(&world, &id, "hello");
    assert_eq!(told(&world, &id, "carry on"), 1, "{}", world.transcript(&id));
    // A later turn that is cut off is another matter.
    cut_off(&mut world, &id);
    world.start_server();
    until("its line again", || told(&world, &id, "carry on") == 2);
}

#[test]
fn the_line_is_never_typed_into_a_dialog() {
    let mut world = World::scripted();
    let id = started(&world, "carry on");
    cut_off(&mut world, &id);
    // When it is back it asks first.
    fs::write(world.at("home/.claude.json"), "{}").unwrap();
    world.start_server();
    let waiting = world.until_state(NAME, "waiting");
    // Nor by a keeper that was not there when it began.
    world.kill_keeper();
    world.start_keeper();
    world.until_state(NAME, "waiting");
    let pane = text(&waiting, "pane");
    let screen = world.tmux(&["capture-pane", "-p", "-t", pane]).stdout;
    let screen = String::from_utf8(screen).unwrap();
    assert!(screen.trim_end().ends_with("2. No, exit"), "{screen}");
    assert_eq!(told(&world, &id, "carry on"), 0);
    // A person answers.
    assert!(world.tmux(&["send-keys", "-t", pane, "Enter"]).status.success());
    until("its line", || told(&world, &id, "carry on") == 1);
    world.until_state(NAME, "idle");
    assert_eq!(number(&world.session(NAME), "starts"), 2);
}

/// An agent ends behind the back of its keeper, which has seen it in its turn, and no more of it. This
/// is its order, which it gets when its turn is over.
fn ends_between_two_turns(world: &World, order: &str) {
    world.call("Send", json!({"name": NAME, "text": "/long 600 dig"})).unwrap();
    let session = world.until_state(NAME, "working");
    let (pane, agent) = (text(&session, "pane"), number(&session, "pid"));
    let keeper = world.keeper.as_ref().unwrap().id();
    kill("STOP", keeper.into());
    assert!(world.tmux(&["send-keys", "-t", pane, "Escape"]).status.success());
    let own = world.at(&format!("home/.claude/sessions/{agent}.json"));
    until("the agent to rest", || fs::read_to_string(&own).unwrap().contains("\"idle\""));
    world.say_to(pane, order);
    until("its end", || !is_alive(agent));
    kill("CONT", keeper.into());
}

fn kill(signal: &str, pid: u64) {
    let kill = Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
    assert!(kill.unwrap().success());
}

#[test]
fn one_that_was_not_in_a_turn_is_sent_nothing() {
    let world = World::scripted();
    let id = started(&world, "carry on");
    // It tidies up behind itself, and nothing on the disk tells what it did.
    ends_between_two_turns(&world, "/exit");
    world.until_state(NAME, "stopped");
    world.call("Start", json!({"name": NAME})).unwrap();
    until("a second start", || number(&world.session(NAME), "starts") == 2);
    world.until_state(NAME, "idle");
    // Crashes, which it cannot tidy up after.
    for (starts, order) in [(3, "/signal KILL"), (4, "/end 3")] {
        ends_between_two_turns(&world, order);
        until("another start", || number(&world.session(NAME), "starts") == starts);
        world.until_state(NAME, "idle");
    }
    says(&world, &id, "hello");
    assert_eq!(told(&world, &id, "carry on"), 0, "{}", world.transcript(&id));
}
