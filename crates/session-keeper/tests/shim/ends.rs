//! Whose wish an agent's end was, and that it comes.

use std::time::Duration;

use guppy_session_keeper::report::Phase;
use rustix::process::Signal;

use crate::world::{World, is_alive, signal, until};

/// Deaf to all that may be ignored, with a child that is too.
const DEAF: &str = "trap '' HUP TERM INT\nsetsid bash -c 'trap \"\" HUP TERM; echo $$ >~/child; while :; do sleep 1000; done' &\n\
    until [ -s ~/child ]; do :; done\necho >~/ready\nwhile :; do sleep 1000; done";

#[test]
fn a_deaf_agent_ends_with_its_pane_and_nothing_of_it_stays() {
    let world = World::started();
    // The server must not end with its last session.
    world.start(&world.launch("shop/other", &[&world.agent("other", "sleep 1000")]));
    world.start(&world.launch("shop/deaf", &[&world.agent("deaf", DEAF)]));
    let agent = world.until_report("shop/deaf", 1, Phase::Started).pid.unwrap();
    world.until_line("ready");
    assert!(world.tmux(&["kill-pane", "-t", "=shop/deaf:"]).status.success());
    let report = world.until_report("shop/deaf", 1, Phase::Ended);
    assert_eq!(report.signal, Some(9), "{report:?}");
    assert!(report.pane_closed && !report.unit_stopping, "{report:?}");
    let child: u32 = world.until_line("child").parse().unwrap();
    assert!(!is_alive(agent) && !is_alive(child));
    assert!(is_alive(world.until_report("shop/other", 1, Phase::Started).pid.unwrap()));
}

#[test]
fn an_end_of_the_server_is_no_clean_exit_of_its_agents() {
    let mut world = World::started();
    // One that ends by itself, and well, when its terminal goes; and one that is deaf.
    let polite =
        world.agent("polite", "trap 'exit 0' HUP\necho >~/polite-ready\nread -r line\nexit 0");
    world.start(&world.launch("shop/polite", &[&polite]));
    world.start(&world.launch("shop/deaf", &[&world.agent("deaf", DEAF)]));
    world.until_line("polite-ready");
    world.until_line("ready");
    signal(world.server_pid(), Signal::KILL);
    world.server.as_mut().unwrap().wait().unwrap();
    for name in ["shop/polite", "shop/deaf"] {
        let report = world.until_report(name, 1, Phase::Ended);
        assert!(report.unit_stopping && !report.pane_closed, "{name}: {report:?}");
        assert!(report.server_gone, "{name}: {report:?}");
        assert!(!is_alive(report.pid.unwrap()), "{name}");
    }
    assert_eq!(world.report("shop/polite").unwrap().exit_code, Some(0));
}

#[test]
fn a_server_that_takes_its_time_to_end_has_closed_no_pane() {
    let mut world = World::started();
    world.start(&world.launch("shop/other", &[&world.agent("other", "sleep 1000")]));
    let polite =
        world.agent("polite", "trap 'exit 0' HUP\necho >~/polite-ready\nread -r line\nexit 0");
    world.start(&world.launch("shop/polite", &[&polite]));
    world.until_line("polite-ready");
    let agent = world.until_report("shop/polite", 1, Phase::Started).pid.unwrap();
    // The server closes its panes at once, and stays until the last of its clients has heard of it.
    let mut client = world.client(&["-C", "attach-session", "-t", "=shop/other"]);
    until("the client", || world.pane("shop/other", "#{session_attached}") == "1");
    signal(client.id(), Signal::STOP);
    signal(world.server_pid(), Signal::TERM);
    until("the agent to end", || !is_alive(agent));
    // Long enough for whoever would go by the time.
    std::thread::sleep(Duration::from_secs(2));
    assert!(is_alive(world.server_pid()), "{}", world.server_says());
    assert_eq!(world.report("shop/polite").unwrap().phase, Phase::Started);
    signal(client.id(), Signal::CONT);
    let report = world.until_report("shop/polite", 1, Phase::Ended);
    assert!(report.server_gone && report.unit_stopping && !report.pane_closed, "{report:?}");
    assert_eq!(report.exit_code, Some(0));
    world.server.take().unwrap().wait().unwrap();
    client.wait().unwrap();
}

#[test]
fn a_pane_is_seen_to_be_closed_before_the_signal_says_so() {
    let world = World::started();
    world.start(&world.launch("shop/other", &[&world.agent("other", "sleep 1000")]));
    let polite = world.agent("polite", "echo >~/polite-ready\nread -r line\nexit 0");
    world.write(&world.launch("shop/polite", &[&polite]));
    // SIGHUP goes to the leader of the terminal's session alone: here it is not the shim.
    let shim = world.program("guppy-session-shim").display().to_string();
    let leader = format!("trap '' HUP; {shim} shop+polite; :");
    assert!(world.tmux(&["new-session", "-d", "-s", "shop/polite", &leader]).status.success());
    world.until_line("polite-ready");
    assert!(world.tmux(&["kill-pane", "-t", "=shop/polite:"]).status.success());
    let report = world.until_report("shop/polite", 1, Phase::Ended);
    assert!(report.pane_closed && !report.server_gone, "{report:?}");
}

#[test]
fn an_exit_while_the_unit_stops_is_no_clean_exit() {
    let world = World::started();
    let agent = world.agent("agent", "read -r line\nexit 0");
    world.start(&world.launch("shop/fix", &[&agent]));
    world.until_report("shop/fix", 1, Phase::Started);
    // As systemd runs ExecStop=, in the unit's group.
    world.tree.mark_stopping().unwrap();
    assert!(world.tmux(&["send-keys", "-t", "=shop/fix:", "x", "Enter"]).status.success());
    let report = world.until_report("shop/fix", 1, Phase::Ended);
    assert_eq!(report.exit_code, Some(0));
    assert!(report.unit_stopping && !report.server_gone, "{report:?}");
}

#[test]
fn somebody_asks_the_shim_to_end_its_agent() {
    let world = World::started();
    let polite = world
        .agent("polite", "trap 'exit 7' TERM\necho >~/polite-ready\nwhile :; do sleep 0.1; done");
    world.start(&world.launch("shop/polite", &[&polite]));
    world.until_line("polite-ready");
    signal(world.until_report("shop/polite", 1, Phase::Started).shim_pid, Signal::TERM);
    let report = world.until_report("shop/polite", 1, Phase::Ended);
    assert_eq!(report.exit_code, Some(7));
    assert!(report.asked && !report.unit_stopping && !report.pane_closed, "{report:?}");

    world.start(&world.launch("shop/deaf", &[&world.agent("deaf", DEAF)]));
    world.until_line("ready");
    signal(world.until_report("shop/deaf", 1, Phase::Started).shim_pid, Signal::TERM);
    let report = world.until_report("shop/deaf", 1, Phase::Ended);
    assert_eq!((report.signal, report.asked), (Some(9), true), "{report:?}");
    assert!(!is_alive(world.until_line("child").parse().unwrap()));
}

#[test]
fn the_agent_ends_with_its_shim() {
    let world = World::started();
    let agent =
        world.agent("agent", "trap '' HUP TERM\necho >~/ready\nwhile :; do sleep 1000; done");
    let mut launch = world.launch("shop/fix", &[&agent]);
    launch.conversation = Some("c1".to_owned());
    world.start(&launch);
    let report = world.until_report("shop/fix", 1, Phase::Started);
    world.until_line("ready");
    signal(report.shim_pid, Signal::KILL);
    until("the agent to end", || !is_alive(report.pid.unwrap()));
    // Nobody was left to report it, and the next start is none the worse.
    assert_eq!(world.report("shop/fix").unwrap().phase, Phase::Started);
    launch.start = 2;
    world.restart(&launch);
    let report = world.until_report("shop/fix", 2, Phase::Started);
    assert_eq!(
        world
            .group("shop/fix")
            .pids()
            .unwrap()
            .iter()
            .filter(|pid| **pid == report.pid.unwrap())
            .count(),
        1
    );
}

#[test]
fn keys_go_to_the_agent_and_none_of_them_stops_it_for_ever() {
    let world = World::started();
    let script = "trap 'echo INT >>~/heard' INT\necho >~/ready\nwhile read -r line || [ $? -gt 128 ]; do echo \"$line\" >>~/heard; done";
    world.start(&world.launch("shop/fix", &[&world.agent("agent", script)]));
    let report = world.until_report("shop/fix", 1, Phase::Started);
    world.until_line("ready");
    let heard =
        || std::fs::read_to_string(world.folder.path().join("home/heard")).unwrap_or_default();
    assert!(world.tmux(&["send-keys", "-t", "=shop/fix:", "C-c"]).status.success());
    until("Ctrl-C", || heard().contains("INT"));
    assert!(world.tmux(&["send-keys", "-t", "=shop/fix:", "C-z"]).status.success());
    // A key after Ctrl-Z is read only by an agent that goes on, in the foreground.
    assert!(world.tmux(&["send-keys", "-t", "=shop/fix:", "after", "Enter"]).status.success());
    until("a line after Ctrl-Z", || heard().contains("after"));
    assert!(is_alive(report.pid.unwrap()) && is_alive(report.shim_pid));
}

#[test]
fn a_terminal_that_a_killed_agent_left_raw_is_mended() {
    let world = World::started();
    let script = "stty raw -echo\necho >~/ready\nwhile :; do sleep 1000; done";
    world.start(&world.launch("shop/fix", &[&world.agent("agent", script)]));
    let report = world.until_report("shop/fix", 1, Phase::Started);
    world.until_line("ready");
    let tty = world.pane("shop/fix", "#{pane_tty}");
    let modes = || {
        let said = world.run(&["stty", "-a", "-F", &tty]);
        String::from_utf8(said.stdout).unwrap()
    };
    until("raw", || modes().contains("-icanon"));
    signal(report.pid.unwrap(), Signal::KILL);
    // Mended before the report.
    let report = world.until_report("shop/fix", 1, Phase::Ended);
    assert_eq!((report.signal, report.oom_killed == Some(true)), (Some(9), false));
    let line = "guppy: the agent of shop/fix was ended by signal 9";
    until("the line, from the first column", || {
        world.screen("shop/fix").lines().any(|shown| shown.starts_with(line))
    });
}
