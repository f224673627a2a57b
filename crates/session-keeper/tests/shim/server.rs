//! The start of the tmux server.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::Stdio;

use guppy_session_keeper::report::Phase;

use crate::world::{World, is_alive, proc_file, until};

#[test]
fn the_server_is_in_a_leaf_of_its_own_and_gets_no_bus() {
    let mut world = World::new();
    world.variables.push(("XDG_RUNTIME_DIR".to_owned(), "/run/user/61234".to_owned()));
    world.variables.push(("INVOCATION_ID".to_owned(), "0".to_owned()));
    // As a stop that was cut off leaves it.
    world.tree.mark_stopping().unwrap();
    world.start_server();
    assert!(proc_file(world.server_pid(), "cgroup").ends_with("/server\n"));
    assert_eq!(proc_file(world.server_pid(), "comm").trim(), "tmux: server");
    assert!(!world.tree.is_stopping());
    let environment = proc_file(world.server_pid(), "environ");
    for name in ["XDG_RUNTIME_DIR", "INVOCATION_ID"] {
        assert!(!environment.contains(name), "{environment}");
    }
    // It stays without sessions.
    let agent = world.agent("agent", "exit 0");
    world.start(&world.launch("shop/fix", &[&agent]));
    world.until_report("shop/fix", 1, Phase::Ended);
    assert!(world.tmux(&["kill-session", "-t", "=shop/fix"]).status.success());
    assert!(world.tmux(&["show-options", "-s", "exit-empty"]).status.success());
    assert!(is_alive(world.server_pid()));
}

#[test]
fn a_server_that_was_started_by_hand_is_waited_for_and_not_touched() {
    let mut world = World::new();
    let shim = world.program("guppy-session-shim").display().to_string();
    world.write(&world.launch("shop/fix", &["/bin/true"]));
    let said = world.run(&["tmux", "new-session", "-d", "-s", "mine", "sleep 1000"]);
    assert!(said.status.success(), "{said:?}");
    world.spawn_server();
    until("it to say so", || world.server_says().contains("tmux kill-server"));
    let hand = world.pane("mine", "#{pid}");
    assert!(world.server_says().contains(&format!("pid {hand}")), "{}", world.server_says());
    assert_ne!(hand, world.server_pid().to_string());

    // A shim in that server starts nothing.
    world.tmux(&["set-option", "-g", "remain-on-exit", "on"]);
    assert!(
        world.tmux(&["new-session", "-d", "-s", "shop/fix", &shim, "shop+fix"]).status.success()
    );
    let why = world.until_report("shop/fix", 1, Phase::Refused).refused.unwrap();
    assert!(why.contains("started by hand") && why.contains("tmux kill-server"), "{why}");

    assert!(is_alive(hand.parse().unwrap()));
    assert!(world.tmux(&["kill-server"]).status.success());
    world.until_server();
    let name = proc_file(world.server_pid(), "comm");
    assert_eq!(name.trim(), "tmux: server");
}

#[test]
fn a_socket_that_another_user_has_put_there_is_told_and_not_waited_for() {
    let mut world = World::new();
    let folder = world.folder.path().join("tmux/tmux-61234");
    std::fs::create_dir(&folder).unwrap();
    let open = std::fs::Permissions::from_mode(0o777);
    std::fs::set_permissions(&folder, open.clone()).unwrap();
    let _listener = UnixListener::bind(folder.join("default")).unwrap();
    std::fs::set_permissions(folder.join("default"), open).unwrap();
    world.spawn_server();
    until("its end", || world.server.as_mut().unwrap().try_wait().unwrap().is_some());
    let said = world.server_says();
    assert!(said.contains("is a socket of uid 0") && !said.contains("kill-server"), "{said}");
}

#[test]
fn its_end_is_marked_by_what_systemd_runs_first() {
    let mut world = World::started();
    // In a leaf beside the others, as systemd runs it.
    let control = world.tree.path().join(".control");
    std::fs::create_dir(&control).unwrap();
    let enter = format!("echo 0 >{}/cgroup.procs && exec \"$@\"", control.display());
    let marked = std::process::Command::new("sh")
        .args([
            "-c",
            &enter,
            "sh",
            "setpriv",
            "--reuid",
            "61234",
            "--regid",
            "61234",
            "--clear-groups",
        ])
        .arg(world.program("guppy-tmux-server"))
        .arg("--stopping")
        .stdin(Stdio::null())
        .status()
        .unwrap();
    assert!(marked.success());
    assert!(world.tree.is_stopping());
    // It is over with the next start.
    world.tmux(&["kill-server"]);
    world.server.take().unwrap().wait().unwrap();
    world.start_server();
    assert!(!world.tree.is_stopping());
}
