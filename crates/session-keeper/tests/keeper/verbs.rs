//! What people ask of the keeper.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::world::{World, is_alive, number, text, until};

#[test]
fn a_session_is_stopped_restarted_and_told() {
    let world = World::started();
    world.declare("shop/fix", |_| {});
    let session = world.until_state("shop/fix", "idle");
    let id = text(&session, "conversation").to_owned();
    world.call("Send", json!({"name": "shop/fix", "text": "hello \u{1b}[31mthere"})).unwrap();
    world.until_noted(&id, "hello [31mthere");
    let refused = world.call("Send", json!({"name": "shop/fix", "text": "two\nlines"}));
    assert!(refused.unwrap_err().contains("InvalidArgument"));

    world.call("Restart", json!({"name": "shop/fix"})).unwrap();
    until("a second start", || world.session("shop/fix").get("starts") == Some(&json!(2)));
    let again = world.until_state("shop/fix", "idle");
    assert_eq!(text(&again, "conversation"), id);

    world.call("Stop", json!({"name": "shop/fix"})).unwrap();
    let stopped = world.until_state("shop/fix", "stopped");
    assert_eq!(stopped.get("pid"), Some(&Value::Null));
    let refused = world.call("Send", json!({"name": "shop/fix", "text": "hello"}));
    assert!(refused.unwrap_err().contains("NotReady"));
    assert!(
        world.call("Stop", json!({"name": "shop/none"})).unwrap_err().contains("NoSuchSession")
    );
}

#[test]
fn a_shell_a_broken_file_and_a_session_by_hand_are_listed() {
    let world = World::started();
    world.declare("a/shell", |intent| intent.agent = "shell".to_owned());
    std::fs::write(world.at("config/sessions.d/a+typo.toml"), "agnet = \"shell\"\n").unwrap();
    std::fs::write(world.at("config/sessions.d/stray.toml"), "").unwrap();
    world.declare("a/gone", |intent| intent.worktree = "/nowhere/at/all".into());
    assert!(world.tmux(&["new-session", "-d", "-s", "mine"]).status.success());
    world.until_state("a/shell", "idle");
    let typo = world.until_state("a/typo", "blocked");
    assert!(text(&typo, "why").contains("did you mean \"agent\""), "{typo}");
    let gone = world.until_state("a/gone", "blocked");
    assert!(text(&gone, "why").contains("mkdir -p /nowhere/at/all"), "{gone}");
    until("the session by hand", || {
        let listing = world.call("List", json!({})).unwrap();
        listing.pointer("/others/0/session") == Some(&json!("mine"))
    });
    let listing = world.call("List", json!({})).unwrap();
    assert!(listing.pointer("/problems/0").unwrap().to_string().contains("stray.toml"));
    let option = ["display-message", "-p", "-t", "=a/shell:", "#{@guppy_name} #{@guppy_state}"];
    until("the options of its pane", || world.tmux(&option).stdout == b"a/shell idle\n");
}

#[test]
fn a_long_prompt_of_many_lines_arrives_whole_and_once() {
    let world = World::scripted();
    world.trust();
    world.declare("shop/fix", |_| {});
    let session = world.until_state("shop/fix", "idle");
    let long: Vec<String> = (0..3000).map(|at| format!("line {at} of größe #{{pid}};")).collect();
    let long = long.join("\n");
    world.call("Send", json!({"name": "shop/fix", "text": long})).unwrap();
    let id = text(&session, "conversation");
    until("its answer", || world.transcript(id).contains("Done. turns=1"));
    let said: Vec<String> = world
        .transcript(id)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|entry| text(entry, "type") == "user")
        .map(|entry| text(&entry, "text").to_owned())
        .collect();
    assert_eq!(said, [long]);
}

#[test]
fn an_agent_that_draws_late_gets_enter_when_it_has_drawn() {
    let world = World::scripted();
    world.trust();
    world.declare("shop/fix", |intent| {
        intent.env.insert("SCRIPTED".to_owned(), "slow 2".to_owned());
    });
    let id = text(&world.until_state("shop/fix", "idle"), "conversation").to_owned();
    // The second one stands on the screen already.
    for turn in ["turns=1", "turns=2"] {
        // Refused with nothing typed while the turn before is not over.
        until("it to be taken", || {
            world.call("Send", json!({"name": "shop/fix", "text": "your word is brine"})).is_ok()
        });
        until("its answer", || world.transcript(&id).contains(turn));
    }
}

#[test]
fn all_agents_of_a_user_may_speak_at_once() {
    let world = World::started();
    let speaking: Vec<UnixStream> =
        (0..300).map(|_| UnixStream::connect(world.at("keeper.sock")).unwrap()).collect();
    world.told("shop/fix", "kelp");
    drop(speaking);
}

#[test]
fn an_agent_can_be_ended_also_when_its_file_has_been_spoiled() {
    let world = World::started();
    world.declare("shop/fix", |_| {});
    let agent = number(&world.until_state("shop/fix", "idle"), "pid");
    std::fs::write(world.at("config/sessions.d/shop+fix.toml"), "agnet = \"claude\"\n").unwrap();
    world.call("Look", json!({})).unwrap();
    let blocked = world.until_state("shop/fix", "blocked");
    assert!(is_alive(agent) && text(&blocked, "why").contains("guppy stop shop/fix"), "{blocked}");
    world.call("Stop", json!({"name": "shop/fix"})).unwrap();
    let stopped = world.until_state("shop/fix", "stopped");
    assert!(!is_alive(agent) && text(&stopped, "why").contains("agnet"), "{stopped}");
}

#[test]
fn nothing_is_typed_into_a_dialog_that_has_opened_since_the_last_look() {
    // No look comes by itself, and no hook tells of anything.
    let world = World::configured("tick = \"10min\"\n");
    world.declare("shop/fix", |_| {});
    until("an agent that is ready", || {
        world.call("Look", json!({})).unwrap();
        text(&world.session("shop/fix"), "state") == "idle"
    });
    let session = world.session("shop/fix");
    let id = text(&session, "conversation").to_owned();
    world.say("shop/fix", "ask");
    let registry = world.at(&format!("home/.claude/sessions/{}.json", number(&session, "pid")));
    until("the question", || std::fs::read_to_string(&registry).unwrap().contains("waiting"));
    let refused = world.call("Send", json!({"name": "shop/fix", "text": "yes"})).unwrap_err();
    assert!(refused.contains("NotReady"), "{refused}");
    world.say("shop/fix", "after");
    world.until_noted(&id, "after");
    assert_eq!(world.transcript(&id), "after\n");
}

#[test]
fn a_session_that_is_started_again_is_not_listed_as_it_was() {
    // No look comes by itself.
    let world = World::configured("tick = \"10min\"\n[crash]\npark_at = 1\n");
    std::fs::write(world.at("home/crash"), "").unwrap();
    world.declare("shop/fix", |_| {});
    world.until_state("shop/fix", "parked");
    std::fs::remove_file(world.at("home/crash")).unwrap();
    world.call("Start", json!({"name": "shop/fix"})).unwrap();
    assert_ne!(text(&world.session("shop/fix"), "state"), "parked");
    until("an agent that is ready", || {
        world.call("Look", json!({})).unwrap();
        text(&world.session("shop/fix"), "state") == "idle"
    });
}

/// Calls each of these methods, and prints each answer.
const CALLER: &str = "import json, socket, sys
for method in sys.argv[2:]:
    with socket.socket(socket.AF_UNIX) as keeper:
        keeper.connect(sys.argv[1])
        event = {'event': 'Stop', 'session': 'shop/fix', 'start': 1}
        report = {'name': 'shop/fix', 'start': 1}
        given = {'name': 'shop/fix', 'text': 'x', 'event': event, 'report': report}
        wants = {'Send': ['name', 'text'], 'Hook': ['event'], 'Report': ['report']}
        wants = wants.get(method, [] if method in ('List', 'Look') else ['name'])
        call = {'method': 'dev.guppy.SessionKeeper.' + method}
        call['parameters'] = {key: given[key] for key in wants}
        keeper.sendall(json.dumps(call).encode() + b'\\0')
        answer = b''
        while not answer.endswith(b'\\0'):
            answer += keeper.recv(4096)
        print(json.loads(answer[:-1]).get('error'))
";

#[test]
fn another_user_is_let_in_by_no_socket_and_told_nothing_where_one_does() {
    let world = World::started();
    world.told("shop/fix", "whelk");
    let before = world.session("shop/fix");
    let methods = ["List", "Look", "Start", "Stop", "Restart", "Forget", "Send", "Hook", "Report"];
    let call = || {
        let mut other = Command::new("setpriv");
        other.args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "/usr/bin/python3",
            "-c",
            CALLER,
        ]);
        other.arg(world.at("keeper.sock")).args(methods).output().unwrap()
    };
    let open = |path: &str, mode| {
        fs::set_permissions(world.at(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    // Its folder lets anybody through here; what is in it does not.
    open("", 0o755);
    let refused = call();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("PermissionError"), "{said}");
    // Whatever the file says, the kernel tells who asks.
    open("keeper.sock", 0o666);
    let answers = String::from_utf8(call().stdout).unwrap();
    assert_eq!(answers, "dev.guppy.SessionKeeper.Refused\n".repeat(methods.len()));
    let now = world.session("shop/fix");
    let same = |key: &str| assert_eq!(now.get(key), before.get(key), "{now}");
    ["pid", "starts", "state", "why"].into_iter().for_each(same);
}
