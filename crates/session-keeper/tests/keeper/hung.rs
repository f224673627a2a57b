//! tmux hangs, or takes its time: systemd must hear of a keeper that gets on, and no start is lost in
//! it or doubled by it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::world::{World, number, text, until};

/// So many sessions that twenty seconds for each are more than systemd waits.
const SESSIONS: usize = 50;
/// As the unit says it: systemd ends a keeper of which it hears nothing for so long.
const WATCHDOG: Duration = Duration::from_secs(120);

/// What systemd hears.
struct Systemd(UnixDatagram);

impl Systemd {
    /// One that ends the keeper of this world when it hears nothing for so long.
    fn of(world: &mut World, watchdog: Duration) -> Self {
        let socket = world.at("notify");
        let own = UnixDatagram::bind(&socket).unwrap();
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", world.at("bin").display());
        world.start_keeper_with(|keeper| {
            keeper.env("NOTIFY_SOCKET", socket).env("PATH", path);
            keeper.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        });
        Self(own)
    }

    /// Waits for a sign of life; false: there was none in time.
    fn hears(&self) -> bool {
        self.0.set_read_timeout(Some(WATCHDOG)).unwrap();
        let mut said = [0; 4096];
        while let Ok(long) = self.0.recv(&mut said) {
            if said.get(..long).unwrap().starts_with(b"WATCHDOG=1") {
                return true;
            }
        }
        false
    }

    /// Forgets what it has heard.
    fn forget(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }
}

/// The keeper's way to tmux, with something before each call. `$*` are its words.
fn in_the_way(world: &World, script: &str) {
    let then = "PATH=/usr/local/bin:/usr/bin:/bin exec tmux \"$@\"";
    world.program("bin/tmux", &format!("#!/bin/sh\n{script}\n{then}\n"));
}

fn names() -> Vec<String> {
    (0..SESSIONS).map(|at| format!("many/s{at}")).collect()
}

/// A world without a keeper, in which many sessions are declared.
fn many() -> World {
    let mut world = World::started();
    world.kill_keeper();
    for name in names() {
        world.declare_quietly(&name, |intent| intent.agent = "shell".to_owned());
    }
    world
}

#[test]
fn a_server_that_hangs_amid_fifty_starts_does_not_have_systemd_end_the_keeper() {
    let mut world = many();
    let (hang, server) = (world.at("hang"), world.server());
    fs::write(&hang, "").unwrap();
    // It has answered that all of them are due, and then answers nothing any more.
    let stop = "case $* in *new-session*) [ ! -e \"$HOME/../hang\" ] || kill -STOP ";
    in_the_way(&world, &format!("{stop}{server} ;; esac"));
    let systemd = Systemd::of(&mut world, WATCHDOG);
    let stat = format!("/proc/{server}/stat");
    until("the server to hang", || fs::read_to_string(&stat).unwrap().contains(") T "));
    systemd.forget();
    // The look in which it came to hang, and one that found it so.
    for look in 0..2 {
        assert!(systemd.hears(), "look {look}: systemd ends the keeper\n{}", world.log());
    }
    until("the reason", || {
        text(&world.session("many/s49"), "why").contains("tmux does not answer")
    });
    fs::remove_file(&hang).unwrap();
    let go_on = Command::new("kill").args(["-CONT", &server.to_string()]).status();
    assert!(go_on.unwrap().success());
    for name in names() {
        world.until_state(&name, "idle");
    }
    let panes = world.tmux(&["list-panes", "-a", "-F", "#{session_name}"]);
    let panes = String::from_utf8(panes.stdout).unwrap();
    assert_eq!(panes.lines().count(), SESSIONS, "{panes}");
    // Only the one start was counted that nothing came of, if nothing came of it.
    let starts = names().iter().map(|name| number(&world.session(name), "starts")).sum::<u64>();
    assert!(starts <= SESSIONS as u64 + 1, "{}", world.log());
}

#[test]
fn a_tmux_that_takes_its_time_over_fifty_starts_does_not_either() {
    let mut world = many();
    // No call is long, and all of them are longer than this watchdog waits.
    in_the_way(&world, "sleep 0.3; case $* in *new-session*) echo >>\"$HOME/../starts\" ;; esac");
    let systemd = Systemd::of(&mut world, Duration::from_secs(4));
    let starts = || fs::read_to_string(world.at("starts")).unwrap_or_default().lines().count();
    until("the first start", || starts() > 0);
    systemd.forget();
    for _ in 0..3 {
        assert!(systemd.hears(), "{}", world.log());
    }
    let so_far = starts();
    assert!(so_far < SESSIONS, "it was heard of when all {so_far} were started");
    assert!(world.call("List", json!({})).is_ok());
}
