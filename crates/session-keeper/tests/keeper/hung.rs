//! tmux hangs, or takes its time: systemd must hear of a keeper that gets on, and no start is lost in
//! it or doubled by it.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;

use crate::world::{World, number, text, until};

/// So many sessions that to wait for each of them is to wait for longer than `until` does.
const SESSIONS: usize = 50;
/// What the keeper is told of systemd's patience: it waits a sixth of that for each call. The tests
/// themselves listen for longer, as `until` does: they may have to wait for a processor.
const WATCHDOG: Duration = Duration::from_secs(30);

/// What systemd hears, in a thread that always listens: a queue that is full would hold the keeper up.
struct Systemd {
    own: Arc<UnixDatagram>,
    signs: Arc<AtomicU64>,
}

impl Systemd {
    /// One of a new keeper of this world, which it would end if it heard nothing for so long.
    fn of(world: &mut World, watchdog: Duration) -> Self {
        let socket = world.at("notify");
        let own = Arc::new(UnixDatagram::bind(&socket).unwrap());
        let signs = Arc::<AtomicU64>::default();
        let (heard, counted) = (Arc::clone(&own), Arc::clone(&signs));
        std::thread::spawn(move || {
            let mut said = [0; 4096];
            while let Ok(long @ 1..) = heard.recv(&mut said) {
                if said.get(..long).unwrap().starts_with(b"WATCHDOG=1") {
                    counted.fetch_add(1, Ordering::SeqCst);
                }
            }
        });
        world.start_keeper_with(|keeper| {
            keeper.env("NOTIFY_SOCKET", socket);
            keeper.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
        });
        Self { own, signs }
    }

    /// Waits for a sign of life that is yet to come.
    fn hears(&self, what: &str) {
        let before = self.signs.load(Ordering::SeqCst);
        until(&format!("a sign of life: {what}"), || self.signs.load(Ordering::SeqCst) > before);
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        let _ = self.own.shutdown(std::net::Shutdown::Both);
    }
}

/// The server stops: what it was told is done when it goes on. First of all: the keeper may end this
/// client before it has said so.
const STOP: &str = "kill -STOP $server; mv $hang ${hang}s";
/// The client hangs, and the server never hears of it.
const CLIENT: &str = "mv $hang ${hang}s && exec sleep 3600";

/// It hangs at the first call of this kind, and at no other: a pattern of the shell's for its words.
fn hang_at(world: &World, call: &str, how: &str) {
    let (hang, server) = (world.at("hang").display().to_string(), world.server());
    fs::write(&hang, "").unwrap();
    let once = format!("hang={hang}; server={server}; if [ -e $hang ]; then {how}; fi");
    world.in_the_way(&format!("case $* in {call}) {once} ;; esac"));
}

fn until_it_hangs(world: &World, call: &str) {
    let stat = format!("/proc/{}/stat", world.server());
    until(&format!("it to hang at {call}"), || {
        world.at("hangs").exists() || fs::read_to_string(&stat).unwrap().contains(") T ")
    });
}

fn go_on(world: &World) {
    let _ = fs::remove_file(world.at("hang"));
    let go_on = Command::new("kill").args(["-CONT", &world.server().to_string()]).status();
    assert!(go_on.unwrap().success());
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
    // It has answered that all of them are due, and then answers nothing any more.
    hang_at(&world, "*new-session*", STOP);
    let systemd = Systemd::of(&mut world, WATCHDOG);
    until_it_hangs(&world, "a start");
    systemd.hears("of the look in which it came to hang");
    systemd.hears("of one that found it so");
    until("the reason", || {
        text(&world.session("many/s49"), "why").contains("tmux does not answer")
    });
    go_on(&world);
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
    world.in_the_way("sleep 0.3; case $* in *new-session*) echo >>\"$HOME/../starts\" ;; esac");
    let systemd = Systemd::of(&mut world, Duration::from_secs(6));
    let starts = || fs::read_to_string(world.at("starts")).unwrap_or_default().lines().count();
    until("the first start", || starts() > 0);
    for _ in 0..3 {
        systemd.hears(&world.log());
    }
    let so_far = starts();
    assert!(so_far < SESSIONS, "it was heard of when all {so_far} were started");
    assert!(world.call("List", json!({})).is_ok());
}

/// Worlds that wait beside each other.
const AT_ONCE: usize = 4;
/// Each kind of call that a keeper makes, as its words.
const CALLS: [&str; 7] = [
    "*list-panes*",
    "*set-hook*",
    "*new-session*",
    "*respawn-pane*",
    "*@guppy_state*",
    "*'pane_dead} ; capture-pane'*",
    "*'send-keys -t '*' -l '*",
];

#[test]
fn a_tmux_that_hangs_at_any_call_is_asked_again_and_nothing_is_lost_or_doubled() {
    let cases = CALLS.iter().flat_map(|call| [(call, STOP), (call, CLIENT)]);
    let cases = Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = cases.lock().unwrap().next();
                    let Some((call, how)) = next else { return };
                    hangs_at(call, how);
                }
            });
        }
    });
}

/// A session that is new and has a prompt, one that is to be resumed, and one that runs.
fn hangs_at(call: &str, how: &str) {
    let case = format!("{call}, {how}");
    let mut world = World::started();
    let kelp = world.told("a/runs", "kelp");
    let runs = world.session("a/runs");
    let reef = world.told("b/ended", "reef");
    let ended = world.session("b/ended");
    world.kill_keeper();
    world.say_to(text(&ended, "pane"), "exit 3");
    let of_hooks = ["set-hook", "-gu", "pane-died[8430]"];
    assert!(world.tmux(&of_hooks).status.success());
    world.declare_quietly("c/new", |intent| intent.prompt = Some("walnut".to_owned()));

    hang_at(&world, call, how);
    let systemd = Systemd::of(&mut world, WATCHDOG);
    until_it_hangs(&world, &case);
    systemd.hears(&case);
    systemd.hears(&format!("another one, {case}"));
    go_on(&world);

    for name in ["a/runs", "b/ended", "c/new"] {
        let session = world.until_state(name, "idle");
        let shown = ["display-message", "-p", "-t", &format!("={name}:"), "#{@guppy_state}"];
        until(&format!("the state in {name}'s pane, {case}"), || {
            world.tmux(&shown).stdout == b"idle\n"
        });
        // Those that hung came to nothing, or to the agent that is there.
        let starts = number(&session, "starts");
        let at_most = if name == "b/ended" { 3 } else { 2 };
        assert!(starts <= at_most, "{case}: {session}\n{}", world.log());
    }
    let same = |key: &str| assert_eq!(world.session("a/runs").get(key), runs.get(key), "{case}");
    ["pid", "starts", "pane", "conversation"].into_iter().for_each(same);
    assert_eq!(text(&world.session("b/ended"), "conversation"), reef, "{case}");
    assert_eq!((&*world.transcript(&kelp), &*world.transcript(&reef)), ("kelp\n", "reef\n"));
    let panes = world.tmux(&["list-panes", "-a", "-F", "#{session_name} #{pane_dead}"]);
    let panes = String::from_utf8(panes.stdout).unwrap();
    assert_eq!(panes, "a/runs 0\nb/ended 0\nc/new 0\n", "{case}");
    let hooks = String::from_utf8(world.tmux(&["show-hooks", "-gw"]).stdout).unwrap();
    assert!(hooks.contains("guppy-session-hook"), "{case}: {hooks}");
    let new = text(&world.session("c/new"), "conversation").to_owned();
    if call.contains("send-keys") {
        // Whether it was typed nobody could know: it is a person's then, and not sent twice.
        assert!(["", "walnut\n"].contains(&&*world.transcript(&new)), "{case}");
    } else {
        world.until_noted(&new, "walnut");
        assert_eq!(world.transcript(&new), "walnut\n", "{case}");
    }
}

#[test]
fn an_end_is_not_judged_by_a_screen_that_tmux_did_not_give() {
    let mut world = World::scripted();
    world.trust();
    world.declare("shop/limit", |_| {});
    let pane = text(&world.until_state("shop/limit", "idle"), "pane").to_owned();
    world.kill_keeper();
    world.say_to(&pane, "/limit 3600");
    let dead = ["display-message", "-p", "-t", &pane, "#{pane_dead}"];
    until("its end", || world.tmux(&dead).stdout == b"1\n");
    hang_at(&world, "*capture-pane*", CLIENT);
    let _systemd = Systemd::of(&mut world, WATCHDOG);
    until_it_hangs(&world, "the screen of a dead pane");
    let parked = world.until_state("shop/limit", "parked");
    assert!(text(&parked, "why").contains("usage limit"), "{parked}");
    assert_eq!(number(&parked, "starts"), 1, "{}", world.log());
}

#[test]
fn a_keeper_is_stopped_while_tmux_hangs() {
    let mut world = World::started();
    world.kill_keeper();
    world.declare_quietly("shop/fix", |_| {});
    hang_at(&world, "*list-panes*", STOP);
    let _systemd = Systemd::of(&mut world, Duration::from_secs(3600));
    until_it_hangs(&world, "a look");
    let keeper = world.keeper.as_mut().unwrap();
    let term = Command::new("kill").args(["-TERM", &keeper.id().to_string()]).status();
    assert!(term.unwrap().success());
    until("its end", || keeper.try_wait().unwrap().is_some());
    world.keeper = None;
    assert!(!world.log().contains("not within"), "it has waited first: {}", world.log());
    go_on(&world);
}
