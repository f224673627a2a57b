//! logind over a real bus: its locks, and the hosts of sessions.

use std::fs;
use std::time::Duration;

use service::clock::{Boottime, Clock};

use super::super::logind::{Logind, parse_host};
use super::super::{Inhibitor, Roots, Sensors};
use super::bus::{Bus, Lock};
use super::{Certain, Fake, Tree, only, read};

fn lock(what: &str, mode: &str, pid: u32) -> Lock {
    let text = |text: &str| text.to_owned();
    (text(what), text("tester"), text("keep on"), text(mode), 0, pid)
}

async fn inhibitors(sensors: &mut Sensors) -> Vec<Inhibitor> {
    read(sensors, &only(|on| on.inhibitors = true)).await.inhibitors.known()
}

fn calls(bus: &Bus) -> Vec<String> {
    std::mem::take(&mut bus.known.lock().unwrap().calls)
}

#[tokio::test]
async fn locks_are_listed_again_only_when_their_files_change() {
    let tree = Tree::new();
    let bus = Bus::start(tree.folder.path()).await;
    let mut sensors = tree.sensors().with_logind(Logind::at(bus.address.clone()));

    // The first tick asks, to know that logind is there at all.
    assert!(inhibitors(&mut sensors).await.is_empty());
    assert_eq!(calls(&bus), ["ListInhibitors"]);
    assert!(inhibitors(&mut sensors).await.is_empty());
    assert!(calls(&bus).is_empty());

    bus.known.lock().unwrap().locks =
        vec![lock("shutdown", "block", 4063), lock("sleep", "delay", 7)];
    tree.file("run/systemd/inhibit/1", "");
    tree.file("run/systemd/inhibit/1.ref", "");
    let locks = inhibitors(&mut sensors).await;
    let expected = Inhibitor {
        what: "shutdown".to_owned(),
        who: "tester".to_owned(),
        why: "keep on".to_owned(),
        mode: "block".to_owned(),
        pid: 4063,
    };
    assert_eq!(locks[0], expected);
    assert_eq!(locks[1].mode, "delay", "which modes count is decided elsewhere");
    assert_eq!(calls(&bus), ["ListInhibitors"]);
    assert_eq!(inhibitors(&mut sensors).await, locks);
    assert!(calls(&bus).is_empty());

    // logind restarted and gave the number again: the file is another one.
    bus.known.lock().unwrap().locks = vec![lock("idle", "block", 9)];
    tree.file("run/systemd/inhibit/new", "");
    fs::rename(tree.path("run/systemd/inhibit/new"), tree.path("run/systemd/inhibit/1")).unwrap();
    assert_eq!(inhibitors(&mut sensors).await[0].pid, 9);
    assert_eq!(calls(&bus), ["ListInhibitors"]);
}

#[tokio::test]
async fn without_the_folder_every_tick_asks_and_a_failure_is_not_remembered_as_a_list() {
    let tree = Tree::new();
    fs::remove_dir(tree.path("run/systemd/inhibit")).unwrap();
    let bus = Bus::start(tree.folder.path()).await;
    let mut sensors = tree.sensors().with_logind(Logind::at(bus.address.clone()));
    inhibitors(&mut sensors).await;
    inhibitors(&mut sensors).await;
    assert_eq!(calls(&bus), ["ListInhibitors", "ListInhibitors"]);
    fs::create_dir(tree.path("run/systemd/inhibit")).unwrap();
    inhibitors(&mut sensors).await;
    drop(bus);
    let config = only(|on| on.inhibitors = true);
    assert!(read(&mut sensors, &config).await.inhibitors.known().is_empty(), "no file changed");
    tree.file("run/systemd/inhibit/1", "");
    for _ in 0..2 {
        read(&mut sensors, &config).await.inhibitors.unknown();
    }
}

#[tokio::test]
async fn a_logind_that_hangs_is_unknown_after_the_deadline() {
    let tree = Tree::new();
    let bus = Bus::start(tree.folder.path()).await;
    bus.known.lock().unwrap().hangs = true;
    let logind = Logind::at(bus.address.clone()).within(Duration::from_millis(300));
    let config = only(|on| on.inhibitors = true);
    let why = read(&mut tree.sensors().with_logind(logind), &config).await.inhibitors.unknown();
    assert_eq!(why, "logind did not answer within 300ms");
}

/// Any user may take thousands of locks that delay, and logind lists them in no order.
#[tokio::test]
async fn a_lock_that_blocks_is_seen_behind_thousands_that_only_delay() {
    let tree = Tree::new();
    let bus = Bus::start(tree.folder.path()).await;
    let mut sensors = tree.sensors().with_logind(Logind::at(bus.address.clone()));
    let mut locks: Vec<Lock> = (1..=2000).map(|pid| lock("shutdown", "delay", pid)).collect();
    locks.push(lock("shutdown", "block", 4063));
    bus.known.lock().unwrap().locks = locks;
    let seen = inhibitors(&mut sensors).await;
    assert_eq!((seen.len(), seen[0].mode.as_str(), seen[0].pid), (1024, "block", 4063));

    // More that block than are kept: what the others say is not known.
    bus.known.lock().unwrap().locks = (1..=1025).map(|pid| lock("idle", "block", pid)).collect();
    tree.file("run/systemd/inhibit/1", "");
    let config = only(|on| on.inhibitors = true);
    let why = read(&mut sensors, &config).await.inhibitors.unknown();
    assert!(why.contains("more than 1024 block locks"), "{why}");
    bus.known.lock().unwrap().locks.pop();
    assert_eq!(inhibitors(&mut sensors).await.len(), 1024);
}

/// The host of a session is asked for once, and so is that a session has none.
#[tokio::test]
async fn hosts_of_ssh_come_from_logind_and_are_remembered() {
    let tree = Tree::new();
    let bus = Bus::start(tree.folder.path()).await;
    bus.known.lock().unwrap().hosts.insert("3".to_owned(), "::ffff:100.64.0.2".to_owned());
    tree.file("dev/pts/0", "");
    let scope = "/user.slice/user-1000.slice/session-3.scope";
    let fakes = [
        Fake { pid: 707, comm: "sshd", words: &["sshd: alice@pts/0"], ..Fake::default() },
        Fake {
            pid: 708,
            parent: 707,
            comm: "bash",
            terminal: 34816,
            cgroup: scope,
            ..Fake::default()
        },
        Fake {
            pid: 709,
            parent: 707,
            comm: "make",
            words: &["make"],
            cgroup: scope,
            ..Fake::default()
        },
        Fake { pid: 800, comm: "sshd", words: &["sshd: bob@notty"], ..Fake::default() },
        Fake {
            pid: 801,
            parent: 800,
            comm: "cat",
            words: &["cat"],
            cgroup: "/user.slice/user-1001.slice/session-4.scope",
            ..Fake::default()
        },
    ];
    fakes.into_iter().for_each(|fake| tree.process(fake));
    let mut sensors = tree.sensors().with_logind(Logind::at(bus.address.clone()));
    let config = only(|on| (on.terminals, on.commands) = (true, true));
    for expected in [vec!["GetSession", "Get", "GetSession"], vec![], vec![]] {
        let evidence = read(&mut sensors, &config).await;
        assert_eq!(evidence.terminals.known()[0].what, "ssh alice from 100.64.0.2");
        let commands = evidence.commands.known();
        let whats: Vec<_> = commands.iter().map(|one| one.what.as_str()).collect();
        assert_eq!(whats, ["make (alice, ssh from 100.64.0.2)", "cat (bob, ssh)"]);
        assert_eq!(commands[0].host, "100.64.0.2".parse().ok());
        assert_eq!(calls(&bus), expected);
    }
}

/// After a failure names of hosts wait a minute; nothing else does.
#[tokio::test]
async fn a_host_that_could_not_be_asked_for_is_asked_for_again() {
    let tree = Tree::new();
    let bus = Bus::start(tree.folder.path()).await;
    bus.known.lock().unwrap().hangs = true;
    bus.known.lock().unwrap().hosts.insert("3".to_owned(), "100.64.0.2".to_owned());
    tree.file("dev/pts/0", "");
    let scope = "/user.slice/user-1000.slice/session-3.scope";
    tree.process(Fake { pid: 707, comm: "sshd", words: &["sshd: alice@pts/0"], ..Fake::default() });
    tree.process(Fake {
        pid: 708,
        parent: 707,
        comm: "bash",
        terminal: 34816,
        cgroup: scope,
        ..Fake::default()
    });
    let clock = Clock::driven(Boottime::from_millis(600_000));
    let logind = Logind::at(bus.address.clone()).within(Duration::from_secs(3));
    let mut sensors =
        Sensors::at(Roots::below(tree.folder.path()), clock.clone()).with_logind(logind);
    let config = only(|on| on.terminals = true);
    let mut what = async || read(&mut sensors, &config).await.terminals.known()[0].what.clone();
    assert_eq!(what().await, "ssh alice");
    bus.known.lock().unwrap().hangs = false;
    clock.advance(Duration::from_secs(59));
    assert_eq!(what().await, "ssh alice");
    clock.advance(Duration::from_secs(1));
    assert_eq!(what().await, "ssh alice from 100.64.0.2");
}

#[test]
fn hosts_as_pam_gives_them() {
    assert_eq!(parse_host("100.64.0.2"), "100.64.0.2".parse().ok());
    assert_eq!(parse_host("::ffff:10.0.0.1"), "10.0.0.1".parse().ok());
    assert_eq!(parse_host("fe80::1%eth0"), "fe80::1".parse().ok());
    assert_eq!(parse_host("box.example"), None);
    assert_eq!(parse_host(""), None);
}
