//! Agents come back in their own conversation, once, whatever ended them.

use std::process::Stdio;

use serde_json::json;

use crate::world::{World, is_alive, number, text, until};

#[test]
fn a_crashed_agent_is_back_in_its_conversation_in_its_pane() {
    let world = World::started();
    let id = world.told("shop/fix", "aquarium");
    let before = world.session("shop/fix");
    world.say("shop/fix", "exit 3");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let after = world.until_state("shop/fix", "idle");
    assert_eq!(text(&after, "conversation"), id);
    assert_eq!(text(&after, "pane"), text(&before, "pane"));
    assert_ne!(number(&after, "pid"), number(&before, "pid"));
    world.say("shop/fix", "again");
    world.until_noted(&id, "again");
    assert_eq!(world.transcript(&id), "aquarium\nagain\n");
}

#[test]
fn what_a_power_cut_has_left_of_a_transcript_is_made_whole_before_its_agent_is_back() {
    let world = World::started();
    let id = world.told("shop/fix", "aquarium");
    // As ext4 leaves a turn that was cut off; and a disk without a journal of its lengths, half of it.
    for (starts, (cut, left)) in [(2, ("\0\0\0", "")), (3, ("half of a li", "half of a li\n"))] {
        let before = world.transcript(&id);
        std::fs::write(world.transcript_path(&id), format!("{before}{cut}")).unwrap();
        world.say("shop/fix", "exit 3");
        until("another start", || number(&world.session("shop/fix"), "starts") == starts);
        world.until_state("shop/fix", "idle");
        world.say("shop/fix", "again");
        until("its turn", || world.transcript(&id) == format!("{before}{left}again\n"));
    }
}

#[test]
fn a_clean_exit_stays_stopped_until_a_person_starts_it() {
    let world = World::started();
    let id = world.told("shop/fix", "reef");
    world.say("shop/fix", "exit 0");
    let stopped = world.until_state("shop/fix", "stopped");
    assert!(text(&stopped, "why").contains("guppy start shop/fix"), "{stopped}");
    world.call("Start", json!({"name": "shop/fix"})).unwrap();
    let back = world.until_state("shop/fix", "idle");
    assert_eq!((text(&back, "conversation"), number(&back, "starts")), (id.as_str(), 2));
}

#[test]
fn a_killed_server_is_followed_by_all_agents_each_in_its_own_conversation() {
    let mut world = World::started();
    let names = ["a/one", "a/two", "b/größe.1"];
    let ids = names.map(|name| world.told(name, name));
    for how in ["KILL", "TERM"] {
        world.end_server(how);
        world.until_state("a/one", "due");
        world.start_server();
        for (name, id) in names.iter().zip(&ids) {
            let session = world.until_state(name, "idle");
            assert_eq!(text(&session, "conversation"), id, "{name}\n{}", world.log());
        }
    }
    for (name, id) in names.iter().zip(&ids) {
        assert_eq!(number(&world.session(name), "starts"), 3, "{}", world.log());
        world.say(name, "after");
        world.until_noted(id, "after");
        assert_eq!(world.transcript(id), format!("{name}\nafter\n"));
    }
}

#[test]
fn an_interruption_is_over_with_the_next_turn_however_short() {
    let mut world = World::scripted();
    world.trust();
    world.declare("shop/fix", |_| {});
    let id = text(&world.until_state("shop/fix", "idle"), "conversation").to_owned();
    world.call("Send", json!({"name": "shop/fix", "text": "/long 600 dig"})).unwrap();
    world.until_state("shop/fix", "working");
    world.end_server("KILL");
    world.start_server();
    world.until_state("shop/fix", "interrupted");
    world.call("Send", json!({"name": "shop/fix", "text": "hello"})).unwrap();
    until("its answer", || world.transcript(&id).contains("Done. turns=2"));
    world.until_state("shop/fix", "idle");
}

#[test]
fn an_interruption_is_over_with_a_turn_that_no_look_has_seen() {
    let mut world = World::scripted();
    world.trust();
    world.declare("shop/fix", |_| {});
    world.until_state("shop/fix", "idle");
    world.call("Send", json!({"name": "shop/fix", "text": "/long 600 dig"})).unwrap();
    world.until_state("shop/fix", "working");
    world.end_server("KILL");
    world.start_server();
    let session = world.until_state("shop/fix", "interrupted");
    // Its registry says idle at every look: of the turn only its hooks have told.
    for event in ["UserPromptSubmit", "Stop"] {
        let event = json!({
            "event": event,
            "session": "shop/fix",
            "start": number(&session, "starts"),
            "conversation": text(&session, "conversation"),
            "detail": null,
        });
        world.call("Hook", json!({"event": event})).unwrap();
    }
    world.until_state("shop/fix", "idle");
}

#[test]
fn a_killed_keeper_changes_nothing_for_agents() {
    let mut world = World::started();
    world.told("shop/fix", "tide");
    let before = world.session("shop/fix");
    for _ in 0..5 {
        world.kill_keeper();
        world.start_keeper();
        // From its first answer on.
        assert_eq!(text(&world.session("shop/fix"), "name"), "shop/fix");
        let after = world.until_state("shop/fix", "idle");
        assert_eq!(number(&after, "pid"), number(&before, "pid"));
        assert_eq!(number(&after, "starts"), 1);
    }
}

#[test]
fn a_crash_after_a_rotation_goes_on_with_the_new_conversation() {
    let world = World::started();
    let old = world.told("shop/fix", "old");
    let new = "0190f3c2-7a11-4000-8000-00000000000a";
    world.say("shop/fix", &format!("clear {new}"));
    until("the rotation", || text(&world.session("shop/fix"), "conversation") == new);
    let lock = world.at("state/locks/claude").join(format!("{new}.lock"));
    until("the shim's lock on it", || lock.exists());
    world.say("shop/fix", "exit 3");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let session = world.until_state("shop/fix", "idle");
    assert_eq!(text(&session, "conversation"), new);
    assert_eq!(session.pointer("/history/0"), Some(&json!(old)));
}

#[test]
fn a_rotation_while_the_keeper_is_away_is_learned_from_what_the_agent_left() {
    let mut world = World::started();
    world.told("shop/fix", "old");
    world.until_state("shop/fix", "idle");
    let pane = world.session("shop/fix");
    let pane = text(&pane, "pane").to_owned();
    world.kill_keeper();
    let new = "0190f3c2-7a11-4000-8000-00000000000b";
    for line in [&format!("clear {new}"), "exit 3"] {
        assert!(world.tmux(&["send-keys", "-t", &pane, line, "Enter"]).status.success());
    }
    until("its end", || {
        let dead = world.tmux(&["display-message", "-p", "-t", &pane, "#{pane_dead}"]);
        dead.stdout == b"1\n"
    });
    world.start_keeper();
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let session = world.until_state("shop/fix", "idle");
    assert_eq!(text(&session, "conversation"), new);
}

#[test]
fn a_pane_that_is_closed_in_tmux_counts_as_a_stop() {
    let world = World::started();
    world.told("shop/fix", "kelp");
    assert!(world.tmux(&["kill-session", "-t", "=shop/fix"]).status.success());
    let stopped = world.until_state("shop/fix", "stopped");
    assert_eq!(number(&stopped, "starts"), 1);
}

#[test]
fn a_twin_that_was_started_by_hand_is_waited_for() {
    let world = World::started();
    let id = world.told("shop/fix", "coral");
    world.say("shop/fix", "exit 0");
    world.until_state("shop/fix", "stopped");
    let mut twin = world.home_command("home/.local/bin/claude");
    let mut twin = twin.args(["--resume", &id]).stdin(Stdio::piped()).spawn().unwrap();
    let registry = world.at(&format!("home/.claude/sessions/{}.json", twin.id()));
    until("the twin", || registry.exists());
    world.call("Start", json!({"name": "shop/fix"})).unwrap();
    until("the reason", || {
        text(&world.session("shop/fix"), "why").contains(&format!("process {}", twin.id()))
    });
    assert_eq!(number(&world.session("shop/fix"), "starts"), 1);
    twin.kill().unwrap();
    twin.wait().unwrap();
    let session = world.until_state("shop/fix", "idle");
    assert_eq!((text(&session, "conversation"), number(&session, "starts")), (id.as_str(), 2));
}

#[test]
fn an_agent_that_always_crashes_is_parked_with_its_reason() {
    let world = World::started();
    std::fs::write(world.at("home/crash"), "").unwrap();
    world.declare("shop/fix", |_| {});
    let parked = world.until_state("shop/fix", "parked");
    assert!(text(&parked, "why").contains("5 crashes"), "{parked}");
    assert_eq!(number(&parked, "starts"), 5);
}

#[test]
fn an_agent_that_ends_the_server_at_each_start_is_parked_and_the_others_go_on() {
    let mut world = World::started();
    let names = ["a/one", "b/guilty", "c/two"];
    let ids = names.map(|name| world.told(name, name));
    std::fs::write(world.at("home/ends-the-server"), "b/guilty").unwrap();
    world.call("Restart", json!({"name": "b/guilty"})).unwrap();
    for _ in 0..5 {
        world.until_server_ends();
        world.start_server();
    }
    let parked = world.until_state("b/guilty", "parked");
    let why = "5 crashes within 15m; the last: the tmux server ended within 2m of its start";
    assert!(text(&parked, "why").contains(why), "{parked}");
    for (name, id) in names.iter().zip(&ids).filter(|(name, _)| **name != "b/guilty") {
        let session = world.until_state(name, "idle");
        assert_eq!(text(&session, "conversation"), id);
    }
    assert_eq!(number(&parked, "starts"), 6, "{}", world.log());
}

#[test]
fn a_child_that_outlives_its_agent_is_gone_before_the_next_start() {
    let world = World::started();
    let id = world.told("shop/fix", "lagoon");
    world.say("shop/fix", "orphan");
    let orphan = world.at("home/orphan");
    until("the orphan", || orphan.exists());
    world.until_noted(&id, "orphan");
    let orphan: u64 = std::fs::read_to_string(orphan).unwrap().trim().parse().unwrap();
    let agent = number(&world.session("shop/fix"), "pid");
    let killed = std::process::Command::new("kill").args(["-KILL", &agent.to_string()]).status();
    assert!(killed.unwrap().success());
    // It has the agent's group, and says that it is in the agent's conversation.
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let session = world.until_state("shop/fix", "idle");
    assert_eq!(text(&session, "conversation"), id);
    assert!(!is_alive(orphan));
}

#[test]
fn an_agent_that_an_agent_has_started_does_not_take_its_conversation_away() {
    let world = World::started();
    let id = world.told("shop/fix", "anemone");
    let other = "0190f3c2-7a11-4000-8000-00000000000c";
    world.say("shop/fix", &format!("nested {other}"));
    world.until_noted(&id, &format!("nested {other}"));
    // It says no more itself what conversation it was in: it has ended in good order.
    world.say("shop/fix", "clean 3");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let session = world.until_state("shop/fix", "idle");
    assert_eq!(text(&session, "conversation"), id, "{session}");
    world.say("shop/fix", "again");
    world.until_noted(&id, "again");
}

#[test]
fn an_agent_is_asked_to_end_once_and_not_at_each_look() {
    let world = World::started();
    let id = world.told("shop/fix", "urchin");
    world.say("shop/fix", "stubborn");
    world.until_noted(&id, "stubborn");
    world.call("Stop", json!({"name": "shop/fix"})).unwrap();
    // Each is a look.
    until("its end", || {
        world.call("Look", json!({})).unwrap();
        text(&world.session("shop/fix"), "state") == "stopped"
    });
    assert_eq!(std::fs::read_to_string(world.at("home/terms")).unwrap(), "\n");
}

#[test]
fn a_session_stays_also_where_its_users_own_do_not_outlive_their_clients() {
    let world = World::started();
    assert!(world.tmux(&["set-option", "-g", "destroy-unattached", "on"]).status.success());
    world.told("shop/fix", "cuttle");
    world.say("shop/fix", "exit 3");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    world.until_state("shop/fix", "idle");
}

#[test]
fn a_second_keeper_is_none() {
    let world = World::started();
    world.told("shop/fix", "squid");
    let said = world.second_keeper().unwrap();
    assert!(said.contains("another keeper has"), "{said}");
}

#[test]
fn what_an_agent_says_at_its_end_is_read_also_in_a_narrow_terminal() {
    let world = World::started();
    let id = world.told("shop/fix", "mussel");
    assert!(world.tmux(&["resize-window", "-t", "=shop/fix:", "-x", "20"]).status.success());
    std::fs::write(world.at("home/lost"), "").unwrap();
    world.say("shop/fix", "exit 3");
    until("another conversation", || {
        let session = world.session("shop/fix");
        session.pointer("/history/0") == Some(&json!(id))
    });
}
