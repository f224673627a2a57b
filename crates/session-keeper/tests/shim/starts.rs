//! From a pane to an agent that runs where it should, and to the report of it.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::chown;
use std::os::unix::net::UnixListener;

use guppy_session_keeper::launch::Limits;
use guppy_session_keeper::report::Phase;

use crate::world::{World, is_alive, proc_file, stat, until};

#[test]
fn an_agent_runs_in_its_own_group_in_the_foreground_and_unprotected() {
    let world = World::started();
    let agent = world.agent("agent", "sleep 1000 & echo $! >~/child\nwait");
    world.start(&world.launch("shop/fix", &[&agent, "a b", "", "c\n'd\"$e"]));
    let report = world.until_report("shop/fix", 1, Phase::Started);
    let (agent, shim) = (report.pid.unwrap(), report.shim_pid);
    let child: u32 = world.until_line("child").parse().unwrap();

    assert_eq!(world.pane("shop/fix", "#{pane_pid}"), shim.to_string());
    assert_eq!(stat(agent, 4), shim.to_string(), "its parent");
    assert_eq!(stat(agent, 22), report.start_time.unwrap().to_string());
    // Field 5 is the process group, 8 the one in the terminal's foreground.
    assert_eq!((stat(agent, 5), stat(agent, 8)), (agent.to_string(), agent.to_string()));
    assert_eq!(stat(shim, 6), shim.to_string(), "the leader of the terminal's session");

    let mut pids = world.group("shop/fix").pids().unwrap();
    pids.sort_unstable();
    assert_eq!(pids, [agent, child]);
    assert_eq!(std::fs::read_dir(world.paths.state.join("launch")).unwrap().count(), 1, "no FIFO");
    assert_eq!(report.cgroup.as_deref(), world.group("shop/fix").path().to_str());
    assert!(proc_file(shim, "cgroup").contains("/server\n"), "{}", proc_file(shim, "cgroup"));
    let score = |pid| proc_file(pid, "oom_score_adj").trim().to_owned();
    assert_eq!(score(shim), score(world.server_pid()));
    assert_eq!((score(agent), score(child)), ("0".to_owned(), "0".to_owned()));
    // A mask of the shim's would make the agent deaf.
    assert!(proc_file(child, "status").contains("SigBlk:\t0000000000000000"), "blocked signals");
    assert!(proc_file(agent, "cmdline").ends_with("/home/agent\0a b\0\0c\n'd\"$e\0"));
    assert_eq!(proc_file(agent, "environ").matches("GUPPY_SESSION=shop/fix\0").count(), 1);
}

#[test]
fn how_the_agent_ended_is_on_disk_and_in_tmux() {
    let world = World::started();
    let agent = world.agent("exits", "exit 3");
    world.start(&world.launch("shop/exits", &[&agent]));
    let report = world.until_report("shop/exits", 1, Phase::Ended);
    assert_eq!((report.exit_code, report.signal), (Some(3), None));
    assert!(!report.unit_stopping && !report.pane_closed && !report.asked, "{report:?}");
    world.until_dead("shop/exits", "#{pane_dead_status}", "3");
    assert!(world.screen("shop/exits").contains("ended with status 3"));
    // Nothing is left of it: no group, no held locks.
    assert!(!world.group("shop/exits").path().exists());

    let agent = world.agent("signals", "kill -SEGV $$");
    world.start(&world.launch("shop/signals", &[&agent]));
    let report = world.until_report("shop/signals", 1, Phase::Ended);
    assert_eq!((report.exit_code, report.signal), (None, Some(11)));
    world.until_dead("shop/signals", "#{pane_dead_signal}", "11");
}

#[test]
fn the_keeper_is_told_and_need_not_be_there() {
    let world = World::started();
    let agent = world.agent("agent", "exit 0");
    // Nobody listens.
    world.start(&world.launch("shop/away", &[&agent]));
    let away = world.until_report("shop/away", 1, Phase::Ended);
    assert_eq!(away.exit_code, Some(0));

    let listener = UnixListener::bind(&world.paths.socket).unwrap();
    chown(&world.paths.socket, Some(61_234), None).unwrap();
    world.start(&world.launch("shop/there", &[&agent]));
    for phase in ["started", "ended"] {
        let call = loop {
            let mut call = String::new();
            listener.accept().unwrap().0.read_to_string(&mut call).unwrap();
            let call: serde_json::Value =
                serde_json::from_str(call.trim_end_matches('\0')).unwrap();
            // The other one's last hint may come as late as this.
            if call.pointer("/parameters/report/name").unwrap() == "shop/there" {
                break call;
            }
        };
        assert_eq!(call.pointer("/parameters/report/phase").unwrap(), phase);
        // What the hint tells of was on disk before it.
        assert!(world.report("shop/there").is_some());
    }
}

#[test]
fn what_the_last_agent_left_is_ended_before_the_next_one_starts() {
    let world = World::started();
    let left =
        "setsid bash -c 'trap \"\" TERM HUP; echo $$ >~/orphan; while :; do sleep 1000; done' &";
    let first = world.agent("first", &format!("{left}\nuntil [ -s ~/orphan ]; do :; done\nexit 1"));
    let mut launch = world.launch("shop/fix", &[&first]);
    world.start(&launch);
    let report = world.until_report("shop/fix", 1, Phase::Ended);
    let orphan: u32 = world.until_line("orphan").parse().unwrap();
    assert_eq!(report.exit_code, Some(1));
    assert!(is_alive(orphan), "an agent that ends by itself may leave something");

    // The state of its process; a zombie waits for init, and does nothing more.
    let second = "read -r _ _ state _ </proc/$(cat ~/orphan)/stat || state=gone; echo $state >~/seen; sleep 1000";
    launch.argv = vec![world.agent("second", second)];
    launch.start = 2;
    world.restart(&launch);
    world.until_report("shop/fix", 2, Phase::Started);
    let seen = world.until_line("seen");
    assert!(["gone", "Z"].contains(&seen.as_str()), "beside the new agent it was {seen}");
    assert!(!is_alive(orphan));
    assert!(world.screen("shop/fix").contains("ended 2 processes"));
}

#[test]
fn a_start_that_cannot_be_is_refused_with_what_to_do() {
    let world = World::started();
    let good = world.launch("shop/fix", &["/bin/true"]);
    let refusals = [
        (
            "shop/missing",
            "git worktree add",
            Box::new(|it: &mut guppy_session_keeper::launch::Launch| {
                it.cwd = "/nowhere/at all".into();
            }) as Box<dyn Fn(&mut _)>,
        ),
        ("shop/program", "install it", Box::new(|it: &mut _| set_argv(it, "no-such-agent"))),
        ("shop/folder", "no program", Box::new(|it: &mut _| set_argv(it, "/usr"))),
        (
            "shop/id",
            "not the id",
            Box::new(|it: &mut _| it.conversation = Some("../../x".to_owned())),
        ),
        ("shop/agent", "no agent", Box::new(|it: &mut _| it.agent = "../x".to_owned())),
        ("shop/empty", "argument list", Box::new(|it: &mut _| it.argv.clear())),
        ("shop/version", "guppy restart", Box::new(|it: &mut _| it.version = 9)),
        ("shop/script", "No such file", Box::new(|it: &mut _| set_argv(it, &bad_script(&world)))),
    ];
    for (name, wanted, spoil) in refusals {
        let mut launch = good.clone();
        launch.name = name.to_owned();
        spoil(&mut launch);
        world.start(&launch);
        let start = if name == "shop/version" { 0 } else { 1 };
        let report = world.until_report(name, start, Phase::Refused);
        let why = report.refused.unwrap();
        assert!(why.contains(wanted), "{name}: {why}");
        world.until_dead(name, "#{pane_dead_status}", "75");
        until(&format!("the reason on the screen of {name}: {}", world.screen(name)), || {
            world.screen(name).contains("is not started")
        });
    }
    // One that was written for another session.
    world.write(&good);
    let (from, to) = ("shop+fix.json", "shop+other.json");
    fs::rename(
        world.paths.state.join("launch").join(from),
        world.paths.state.join("launch").join(to),
    )
    .unwrap();
    let shim = world.program("guppy-session-shim").display().to_string();
    assert!(
        world
            .tmux(&["new-session", "-d", "-s", "shop/other", &shim, "shop+other"])
            .status
            .success()
    );
    let report = world.until_report("shop/other", 1, Phase::Refused);
    assert!(report.refused.unwrap().contains("it is for shop/fix"));
}

fn set_argv(launch: &mut guppy_session_keeper::launch::Launch, program: &str) {
    launch.argv = vec![program.to_owned()];
}

/// Executable, but for its interpreter.
fn bad_script(world: &World) -> String {
    let path = world.folder.path().join("home/script");
    world.file(&path, "#!/nowhere/interpreter\n", 0o755).display().to_string()
}

#[test]
fn names_that_are_hostile_to_tmux_to_shells_and_to_paths() {
    let world = World::started();
    let agent = world.agent("agent", "exit 4");
    for name in [
        "$(touch x)/a'b\"c",
        "#{pane_id}/x;y",
        "shop.js/v1.2/..hidden".replace("..", "").as_str(),
        "größe/🐟",
    ] {
        world.start(&world.launch(name, &[&agent]));
        let report = world.until_report(name, 1, Phase::Ended);
        assert_eq!((report.name.as_str(), report.exit_code), (name, Some(4)));
    }
    let shim = world.program("guppy-session-shim").display().to_string();
    for word in ["shop/fix", "../../etc", "", "--help", "a+../b"] {
        let said = world.run(&[&shim, word]);
        assert_eq!(said.status.code(), Some(2), "{word:?}: {said:?}");
    }
}

#[test]
fn a_limit_that_cannot_be_kept_is_said_and_one_that_can_is_set() {
    let world = World::started();
    let agent = world.agent("agent", "sleep 1000");
    let mut launch = world.launch("shop/fix", &[&agent]);
    launch.limits = Limits { memory_high: None, memory_max: Some(1 << 30), pids_max: Some(77) };
    world.start(&launch);
    let report = world.until_report("shop/fix", 1, Phase::Started);
    for (file, value) in [("memory.max", "1073741824"), ("pids.max", "77")] {
        match fs::read_to_string(world.group("shop/fix").path().join(file)) {
            Ok(set) => assert_eq!(set.trim_end(), value),
            Err(_) => {
                let said = |list: &[String]| list.iter().any(|text| text.contains(file));
                assert!(said(&report.limits_not_kept), "{report:?}");
                assert!(world.screen("shop/fix").contains(file));
            }
        }
    }
}

#[test]
fn a_report_that_a_full_disk_did_not_take_is_written_when_there_is_space() {
    let world = World::started();
    let reports = world.paths.state.join("reports");
    std::fs::create_dir(&reports).unwrap();
    let mount = |words: &[&str]| {
        assert!(
            std::process::Command::new("mount")
                .args(words)
                .arg(&reports)
                .status()
                .unwrap()
                .success()
        );
    };
    mount(&["-t", "tmpfs", "-o", "size=16k,mode=777", "tmpfs"]);
    let ballast = reports.join("ballast");
    assert!(std::fs::write(&ballast, vec![0; 1 << 20]).is_err(), "it is not full");
    world.start(&world.launch("shop/fix", &[&world.agent("agent", "echo >~/ready\nread -r line")]));
    // Its agent runs all the same, and a person sees why nobody knows of it.
    world.until_line("ready");
    until("the reason", || world.screen("shop/fix").contains("No space left"));
    assert_eq!(world.report("shop/fix"), None);
    std::fs::remove_file(&ballast).unwrap();
    world.until_report("shop/fix", 1, Phase::Started);
    assert_eq!(world.screen("shop/fix").matches("No space left").count(), 1);
    let _ = std::process::Command::new("umount").arg("--lazy").arg(&reports).status();
}
