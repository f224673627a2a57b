//! One process per conversation.

use std::fs;

use guppy_session_keeper::report::Phase;
use rustix::process::Signal;

use crate::world::{World, is_alive, signal, until};

#[test]
fn a_conversation_has_one_agent_and_a_session_one_shim() {
    let world = World::started();
    let agent = world.agent("agent", "read -r line");
    let mut first = world.launch("shop/first", &[&agent]);
    first.conversation = Some("c1".to_owned());
    world.start(&first);
    let holder = world.until_report("shop/first", 1, Phase::Started);
    assert_eq!(holder.conversation.as_deref(), Some("c1"));

    let mut twin = world.launch("shop/twin", &[&agent]);
    twin.conversation = Some("c1".to_owned());
    world.start(&twin);
    let why = world.until_report("shop/twin", 1, Phase::Refused).refused.unwrap();
    assert!(why.starts_with("locked: ") && why.contains("guppy stop shop/first"), "{why}");

    // The same session once more, in another conversation.
    first.conversation = Some("c2".to_owned());
    first.start = 2;
    world.write(&first);
    let shim = world.program("guppy-session-shim").display().to_string();
    assert!(
        world.tmux(&["new-session", "-d", "-s", "again", &shim, "shop+first"]).status.success()
    );
    let why = world.until_report("shop/first", 2, Phase::Refused).refused.unwrap();
    assert!(why.starts_with("locked: session shop/first"), "{why}");
    assert!(is_alive(holder.pid.unwrap()), "nothing of the first is touched");

    // What another agent's conversation is called is its own affair.
    twin.agent = "other".to_owned();
    twin.start = 2;
    world.restart(&twin);
    world.until_report("shop/twin", 2, Phase::Started);
}

#[test]
fn the_agent_inherits_no_lock_and_its_daemons_hold_none() {
    let world = World::started();
    let daemon = "setsid bash -c 'echo $$ >~/daemon; while :; do sleep 1000; done' &\nuntil [ -s ~/daemon ]; do :; done";
    let agent =
        world.agent("agent", &format!("{daemon}\nls -l /proc/$$/fd >~/fds; echo >>~/fds\nexit 0"));
    let mut launch = world.launch("shop/fix", &[&agent]);
    launch.conversation = Some("c1".to_owned());
    world.start(&launch);
    world.until_report("shop/fix", 1, Phase::Ended);
    let fds = world.until_line("fds");
    assert!(!fds.contains(".lock") && !fds.contains("signalfd") && !fds.contains("pidfd"), "{fds}");
    assert!(is_alive(world.until_line("daemon").parse().unwrap()));
    // Another session may have the conversation, whatever is left in the first one's group.
    let mut twin = world.launch("shop/twin", &[&world.agent("twin", "read -r line")]);
    twin.conversation = Some("c1".to_owned());
    world.start(&twin);
    world.until_report("shop/twin", 1, Phase::Started);
}

#[test]
fn an_agent_whose_shim_was_killed_is_gone_before_another_has_its_conversation() {
    let world = World::started();
    let mut first = world.launch("shop/first", &[&world.agent("agent", "read -r line")]);
    first.conversation = Some("c1".to_owned());
    world.start(&first);
    let holder = world.until_report("shop/first", 1, Phase::Started);
    // As if the kernel had not told the agent yet: a process that lives stands in the lock.
    signal(holder.shim_pid, Signal::KILL);
    until("the agent's end", || !is_alive(holder.pid.unwrap()));
    let mut lives = std::process::Command::new("setpriv")
        .args(["--reuid", "61234", "--regid", "61234", "--clear-groups", "--", "sleep", "1000"])
        .spawn()
        .unwrap();
    let path = world.paths.conversation_lock("fake", "c1");
    until("setpriv to have become sleep", || {
        fs::read_to_string(format!("/proc/{}/comm", lives.id())).unwrap() == "sleep\n"
    });
    let text = fs::read_to_string(&path).unwrap();
    let (old, new) = (holder.pid.unwrap(), lives.id());
    let start_time = guppy_session_keeper::process::Identity::of(new).unwrap().start_time;
    let text = text.replace(&format!("\"pid\":{old},"), &format!("\"pid\":{new},")).replace(
        &format!("\"start_time\":{}}}}}", holder.start_time.unwrap()),
        &format!("\"start_time\":{start_time}}}}}"),
    );
    fs::write(&path, text).unwrap();

    let mut twin = world.launch("shop/twin", &[&world.agent("twin", "read -r line")]);
    twin.conversation = Some("c1".to_owned());
    world.start(&twin);
    world.until_report("shop/twin", 1, Phase::Started);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&lives.wait().unwrap()), Some(9));
}

#[test]
fn the_lock_follows_the_agent_into_another_conversation() {
    let world = World::started();
    let agent = world.agent("agent", "read -r line");
    let start = |name: &str, conversation: &str, start: u64| {
        let mut launch = world.launch(name, &[&agent]);
        launch.conversation = Some(conversation.to_owned());
        launch.start = start;
        if start == 1 { world.start(&launch) } else { world.restart(&launch) }
    };
    start("shop/first", "c1", 1);
    let first = world.until_report("shop/first", 1, Phase::Started);
    start("shop/second", "c2", 1);
    world.until_report("shop/second", 1, Phase::Started);

    let rotate = |to: &str| {
        let folder = world.paths.state.join("rotate");
        fs::create_dir_all(&folder).unwrap();
        world.file(&folder.join("shop+first"), &format!("{to}\n"), 0o600);
        signal(first.shim_pid, Signal::USR1);
    };
    rotate("c3");
    until("the new conversation", || {
        world.report("shop/first").unwrap().conversation.as_deref() == Some("c3")
    });
    // The old one is free, the new one is not.
    start("shop/third", "c3", 1);
    let why = world.until_report("shop/third", 1, Phase::Refused).refused.unwrap();
    assert!(why.contains("shop/first"), "{why}");
    start("shop/third", "c1", 2);
    world.until_report("shop/third", 2, Phase::Started);

    // Into one that another holds: said, and the lock stays where it was.
    rotate("c2");
    until("the conflict", || world.report("shop/first").unwrap().conflict.is_some());
    let report = world.report("shop/first").unwrap();
    assert!(report.conflict.unwrap().contains("shop/second"));
    assert_eq!(report.conversation.as_deref(), Some("c3"));
    assert!(is_alive(first.pid.unwrap()));
    // What is no id is no path.
    rotate("../../../tmp/x");
    rotate("c4");
    until("the next one", || {
        world.report("shop/first").unwrap().conversation.as_deref() == Some("c4")
    });
    assert_eq!(world.report("shop/first").unwrap().conflict, None);
}
