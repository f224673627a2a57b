//! Agents that cannot start or go on: each costs no more starts than it must, and says why.

use serde_json::{Value, json};

use crate::world::{World, number, text, until};

/// A session whose scripted agent is given these commands at each of its starts.
fn declare(world: &World, name: &str, commands: &str) {
    world.declare(name, |intent| {
        intent.env.insert("SCRIPTED".to_owned(), commands.to_owned());
    });
}

/// Waits until everything that was due has been done: a session that is declared now is up.
fn let_pass(world: &World, name: &str) {
    declare(world, name, "");
    world.until_state(name, "idle");
}

#[test]
fn a_used_up_account_waits_for_its_reset_or_a_person() {
    let world = World::scripted();
    world.trust();
    declare(&world, "shop/limit", "/limit 3600");
    let parked = world.until_state("shop/limit", "parked");
    let why = text(&parked, "why");
    assert!(why.contains("usage limit") && why.contains("guppy start shop/limit"), "{why}");
    let_pass(&world, "shop/other");
    assert_eq!(number(&world.session("shop/limit"), "starts"), 1);
    // A person may try; it is one start, and no crash.
    world.call("Start", json!({"name": "shop/limit"})).unwrap();
    until("a second start", || number(&world.session("shop/limit"), "starts") == 2);
    world.until_state("shop/limit", "parked");

    // One that has its reset soon is back by itself.
    declare(&world, "shop/soon", "/limit 1");
    until("more starts", || number(&world.session("shop/soon"), "starts") >= 2);
    assert_eq!(number(&world.session("shop/limit"), "starts"), 2);
}

#[test]
fn an_agent_that_is_not_logged_in_waits_for_a_person() {
    let world = World::scripted();
    world.trust();
    declare(&world, "shop/login", "!logout");
    let parked = world.until_state("shop/login", "parked");
    let why = text(&parked, "why");
    assert!(why.contains("not logged in") && why.contains("guppy start shop/login"), "{why}");
    let_pass(&world, "shop/other");
    assert_eq!(number(&world.session("shop/login"), "starts"), 1);
}

#[test]
fn an_agent_that_lives_and_is_refused_by_its_provider_says_so() {
    let world = World::scripted();
    world.trust();
    declare(&world, "shop/fix", "");
    world.until_state("shop/fix", "idle");
    world.say("shop/fix", "/fail authentication_failed");
    let waiting = world.until_state("shop/fix", "waiting");
    assert!(text(&waiting, "why").contains("authentication_failed"), "{waiting}");
    world.say("shop/fix", "your word is alder");
    let idle = world.until_state("shop/fix", "idle");
    assert_eq!((text(&idle, "why"), number(&idle, "starts")), ("", 1));
}

#[test]
fn a_dialog_is_shown_and_never_typed_into() {
    let world = World::scripted();
    world.declare("shop/fix", |intent| intent.prompt = Some("your word is aspen".to_owned()));
    let waiting = world.until_state("shop/fix", "waiting");
    assert!(text(&waiting, "why").contains("trust the folder"), "{waiting}");
    let refused = world.call("Send", json!({"name": "shop/fix", "text": "1"})).unwrap_err();
    assert!(refused.contains("NotReady") && refused.contains("guppy attach shop/fix"), "{refused}");
    let pane = text(&waiting, "pane").to_owned();
    let screen = || {
        let shown = world.tmux(&["capture-pane", "-p", "-t", &pane]).stdout;
        String::from_utf8(shown).unwrap()
    };
    assert!(screen().trim_end().ends_with("2. No, exit"), "{}", screen());
    assert_eq!(number(&waiting, "starts"), 1);
    // A person answers; now the first prompt is sent, once.
    assert!(world.tmux(&["send-keys", "-t", &pane, "Enter"]).status.success());
    until("the answer to the prompt", || screen().contains("Noted: aspen. turns=1"));
    // So is it after a crash: not again.
    world.trust();
    world.say("shop/fix", "/end 3");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    world.until_state("shop/fix", "idle");
    world.say("shop/fix", "what was your word?");
    until("the answer", || screen().contains("The word is aspen. turns=2"));
}

#[test]
fn a_permission_that_is_asked_for_is_shown() {
    let world = World::scripted();
    world.trust();
    declare(&world, "shop/fix", "");
    let idle = world.until_state("shop/fix", "idle");
    world.say("shop/fix", "/ask");
    let waiting = world.until_state("shop/fix", "waiting");
    assert!(text(&waiting, "why").contains("permission"), "{waiting}");
    let pane = text(&idle, "pane");
    assert!(world.tmux(&["send-keys", "-t", pane, "Escape"]).status.success());
    world.until_state("shop/fix", "idle");
}

#[test]
fn an_agent_that_was_killed_has_said_no_last_words() {
    let world = World::scripted();
    world.trust();
    declare(&world, "shop/fix", "");
    let before = world.until_state("shop/fix", "idle");
    let pane = text(&before, "pane");
    world.say("shop/fix", "what is a rate limit reached, and what is Please run /login?");
    until("the answer", || {
        let shown = world.tmux(&["capture-pane", "-p", "-t", pane]).stdout;
        String::from_utf8_lossy(&shown).contains("Done. turns=1")
    });
    world.say("shop/fix", "/signal KILL");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    world.until_state("shop/fix", "idle");
}

#[test]
fn all_sessions_together_keep_to_the_machines_budget() {
    let world = World::configured(
        "tick = \"2s\"\n[starts]\nstagger = \"0s\"\nper_hour = 6\n\
         [crash]\nbackoff = \"1s\"\nbackoff_at_most = \"1s\"\npark_at = 100\n",
    );
    std::fs::write(world.at("home/crash"), "").unwrap();
    let names = ["a/one", "b/two", "c/three"];
    for name in names {
        world.declare(name, |_| {});
    }
    let of = |name: &str| world.session(name);
    until("the end of the budget", || {
        names.iter().all(|name| text(&of(name), "why").contains("starts.per_hour"))
    });
    let sum = || names.iter().map(|name| number(&of(name), "starts")).sum::<u64>();
    assert_eq!(sum(), 6);
    // Nor does a new session get one; it says why, and what runs is left alone.
    std::fs::remove_file(world.at("home/crash")).unwrap();
    world.declare("d/four", |_| {});
    let due = world.until_state("d/four", "due");
    assert!(text(&due, "why").contains("6 starts in the last hour"), "{due}");
    assert_eq!((sum(), due.get("pid")), (6, Some(&Value::Null)));
}

#[test]
fn keepers_of_all_users_share_the_machines_budget_and_nobody_takes_another_users_share() {
    let world = World::configured("tick = \"2s\"\n[starts]\nstagger = \"0s\"\nper_hour = 4\n");
    let starts = world.at("starts");
    std::fs::create_dir(&starts).unwrap();
    // One that says it has started all of it, this very moment.
    let claim = |number: usize| {
        let now = service::clock::Clock::Kernel.now().as_millis();
        let boot = service::clock::boot_id().unwrap();
        let claim = json!({"boot": boot, "wanted": now, "starts": vec![now; number]});
        let file = starts.join("4242");
        std::fs::write(&file, claim.to_string()).unwrap();
        std::os::unix::fs::chown(&file, Some(4242), None).unwrap();
    };
    claim(4);
    for name in ["a/one", "b/two", "c/three"] {
        world.declare(name, |_| {});
    }
    world.until_state("a/one", "idle");
    world.until_state("b/two", "idle");
    let shared = "2 starts and 4 of other users in the last hour";
    until("the reason", || text(&world.session("c/three"), "why").contains(shared));
    // And it says itself what it has started.
    let own: Value =
        serde_json::from_str(&std::fs::read_to_string(starts.join("0")).unwrap()).unwrap();
    assert_eq!(own.get("starts").and_then(Value::as_array).unwrap().len(), 2, "{own}");
    claim(1);
    world.until_state("c/three", "idle");
}
