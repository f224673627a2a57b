//! What an agent finds in its environment, and what nobody else does.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};

use guppy_session_keeper::report::Phase;

use crate::world::{World, is_alive, proc_file, until};

const SECRET: &str = "hunter2-correct-horse";

#[test]
fn secrets_come_from_files_of_the_user_and_are_seen_in_the_agent_alone() {
    let world = World::started();
    // It says that it is there only after the secret was in its hands.
    let agent = world
        .agent("agent", "[ \"$KEY\" = \"$(cat ~/expected)\" ] && echo yes >~/has\nread -r line");
    world.home_file("expected", SECRET);
    let file =
        world.file(&world.paths.config.join("keys.env"), &format!("KEY='{SECRET}'\n"), 0o600);
    let mut launch = world.launch("shop/fix", &[&agent]);
    // Below the config folder.
    launch.env_files = vec!["keys.env".into()];
    world.start(&launch);
    let report = world.until_report("shop/fix", 1, Phase::Started);
    assert_eq!(world.until_line("has"), "yes");

    let agent = report.pid.unwrap();
    assert!(proc_file(agent, "environ").contains(SECRET));
    for pid in [report.shim_pid, world.server_pid()] {
        assert!(!proc_file(pid, "environ").contains(SECRET), "the environment of {pid}");
    }
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let argv = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        assert!(!String::from_utf8_lossy(&argv).contains(SECRET), "{:?}", entry.path());
    }
    for file in ["launch/shop+fix.json", "reports/shop+fix.json", "running/shop+fix.lock"] {
        let text = fs::read_to_string(world.paths.state.join(file)).unwrap();
        assert!(!text.contains(SECRET), "{file}: {text}");
    }
    let said = world.tmux(&["show-environment", "-g"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains(SECRET));

    // A pane is used again when its agent has ended.
    assert!(world.tmux(&["send-keys", "-t", "=shop/fix:", "Enter"]).status.success());
    world.until_report("shop/fix", 1, Phase::Ended);
    for (start, mode, owner, remedy) in [
        (2, 0o640, 61_234, "chmod 600"),
        (3, 0o600, 61_235, "Permission denied"),
        (4, 0o644, 61_235, "chown 61234"),
    ] {
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        chown(&file, Some(owner), Some(61_234)).unwrap();
        launch.start = start;
        world.restart(&launch);
        let why = world.until_report("shop/fix", start, Phase::Refused).refused.unwrap();
        assert!(why.contains("keys.env") && why.contains(remedy), "{mode:o}: {why}");
    }
}

#[test]
fn an_agent_that_only_the_bashrc_knows_of_is_found() {
    let world = World::started();
    let bin = world.folder.path().join("home/.nvm");
    fs::create_dir(&bin).unwrap();
    world.file(&bin.join("nvm-agent"), "#!/bin/sh\nenv >~/env\necho >~/ready\nread -r line", 0o755);
    world.home_file(
        ".bashrc",
        "case $- in *i*) ;; *) return ;; esac\necho hello from the rc file\nexport PATH=~/.nvm:$PATH RC=\"two\nlines\" TERM=dumb\nread -r typed\n",
    );
    let mut launch = world.launch("shop/fix", &["nvm-agent"]);
    launch.env.insert("FROM_LAUNCH".to_owned(), "a b".to_owned());
    world.start(&launch);
    let report = world.until_report("shop/fix", 1, Phase::Started);
    assert_eq!(report.environment, None, "{report:?}");
    world.until_line("ready");
    let env = fs::read_to_string(world.folder.path().join("home/env")).unwrap();
    let value = |name: &str| {
        let found = env.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        found.map(str::to_owned)
    };
    let home = world.folder.path().join("home");
    assert!(value("PATH").unwrap().starts_with(&format!("{}/.nvm:", home.display())));
    assert!(env.contains("RC=two\nlines\n"), "{env}");
    assert_eq!(value("FROM_LAUNCH").as_deref(), Some("a b"));
    assert_eq!(value("PWD"), home.join("work").to_str().map(str::to_owned));
    // The pane's, whatever a file says.
    assert_ne!(value("TERM").as_deref(), Some("dumb"));
    assert_eq!(value("TMUX_PANE"), Some(world.pane("shop/fix", "#{pane_id}")));
    assert_eq!(value("GUPPY_SESSION").as_deref(), Some("shop/fix"));
}

#[test]
fn a_bashrc_that_hangs_costs_a_deadline_and_leaves_nothing() {
    let mut world = World::new();
    world.variables.push(("GUPPY_LOGIN_DEADLINE_MS".to_owned(), "700".to_owned()));
    world.start_server();
    world.home_file(
        ".bashrc",
        "setsid bash -c 'trap \"\" TERM HUP; echo $$ >~/left; while :; do sleep 1000; done' &\nuntil [ -s ~/left ]; do :; done\nwhile :; do sleep 1000; done\n",
    );
    let agent = world.agent("agent", "echo \"$PATH\" >~/path\nread -r line");
    world.start(&world.launch("shop/fix", &[&agent]));
    let report = world.until_report("shop/fix", 1, Phase::Started);
    assert!(report.environment.unwrap().contains("0.7 s"));
    assert!(world.until_line("path").ends_with("/.local/bin:/usr/local/bin:/usr/bin:/bin"));
    assert!(!is_alive(world.until_line("left").parse().unwrap()), "left of the shell's files");
    assert_eq!(world.group("shop/fix").pids().unwrap(), [report.pid.unwrap()]);
    assert!(world.screen("shop/fix").contains("starting without what its files set"));
}

#[test]
fn a_shell_that_ends_early_or_is_none_does_not_keep_an_agent_from_starting() {
    let world = World::started();
    let agent = world.agent("agent", "read -r line");
    world.home_file(".bashrc", "exit 9\n");
    world.start(&world.launch("shop/exit", &[&agent]));
    let report = world.until_report("shop/exit", 1, Phase::Started);
    assert!(report.environment.as_ref().unwrap().contains("with status 9"), "{report:?}");

    world.tmux(&["set-option", "-g", "default-shell", "/usr/sbin/nologin"]);
    world.start(&world.launch("shop/nologin", &[&agent]));
    let report = world.until_report("shop/nologin", 1, Phase::Started);
    assert!(report.environment.as_ref().unwrap().contains("nologin"), "{report:?}");
}

#[test]
fn a_daemon_of_the_bashrc_is_in_the_agents_group_and_hinders_nothing() {
    let world = World::started();
    world.home_file(
        ".bashrc",
        "setsid bash -c 'echo $$ >~/daemon; while sleep 0.05; do echo still here; done' &\nuntil [ -s ~/daemon ]; do :; done\nexport DAEMON=yes\n",
    );
    let agent = world.agent("agent", "echo \"$DAEMON\" >~/has\nread -r line");
    world.start(&world.launch("shop/fix", &[&agent]));
    world.until_report("shop/fix", 1, Phase::Started);
    assert_eq!(world.until_line("has"), "yes");
    let daemon: u32 = world.until_line("daemon").parse().unwrap();
    assert!(is_alive(daemon), "it may go on, and write where it wrote");
    assert!(world.group("shop/fix").pids().unwrap().contains(&daemon));
}

#[test]
fn a_start_can_be_called_off_while_the_shell_is_asked() {
    let world = World::started();
    world.home_file(".bashrc", "echo >~/asked\nwhile :; do sleep 1000; done\n");
    world.start(&world.launch("shop/fix", &[&world.agent("agent", "read -r line")]));
    world.until_line("asked");
    assert!(world.tmux(&["send-keys", "-t", "=shop/fix:", "C-c"]).status.success());
    let report = world.until_report("shop/fix", 1, Phase::Refused);
    assert!(report.refused.as_ref().unwrap().contains("SIGINT") && report.asked, "{report:?}");
    until("an empty group", || !world.group("shop/fix").populated().unwrap());
}
