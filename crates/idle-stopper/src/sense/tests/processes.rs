//! The scan of /proc/*/stat.

use std::fs;

use super::super::Process;
use super::super::processes::{Line, Proc, Processes, arguments, parse, session_in};
use super::{Fake, Tree, without};

fn alive(line: &str) -> super::super::processes::Entry {
    match parse(line.as_bytes()) {
        Some(Line::Alive(entry)) => entry,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_name_may_hold_anything_even_a_whole_line() {
    for comm in ["a b", ") S 1 1 1", "((", "))", "", ") Z 0 0", "\u{fffd}x"] {
        let line = Fake { pid: 42, parent: 7, comm, start: 12345, ..Fake::default() }.line();
        let entry = alive(&line);
        assert_eq!(entry.comm(), &comm.as_bytes()[..comm.len().min(15)]);
        assert_eq!((entry.pid, entry.parent, entry.start), (42, 7, 12345));
    }
}

/// A real line of Debian 12 (kernel 6.1), of a shell on pts/0.
#[test]
fn a_line_of_debian_12() {
    let entry = alive(
        "804 (bash) S 803 804 804 34816 901 4194560 1534 40211 3 97 12 8 51 23 20 0 1 0 3055 \
         8409088 1261 18446744073709551615 94 94 140 0 0 0 65536 3686404 1266761467 1 0 0 17 1 0 \
         0 0 0 0 94 94 94 140 140 140 140 0\n",
    );
    assert_eq!((entry.session, entry.terminal, entry.start), (804, 34816, 3055));
}

#[test]
fn kernel_threads_and_the_dead_do_not_count_but_a_program_whose_first_thread_ended_does() {
    let kernel =
        Fake { pid: 9, comm: "kworker/0:1H-kblockd", flags: 0x0420_8060, ..Fake::default() };
    assert_eq!(parse(kernel.line().as_bytes()), Some(Line::Kernel));
    let zombie = Fake { pid: 9, comm: "make", state: 'Z', ..Fake::default() };
    assert_eq!(parse(zombie.line().as_bytes()), Some(Line::Dead));
    let threads = Fake { pid: 9, comm: "java", state: 'Z', threads: 12, ..Fake::default() };
    assert!(matches!(parse(threads.line().as_bytes()), Some(Line::Alive(_))));
}

#[test]
fn a_session_is_told_by_its_scope_on_pure_and_hybrid_boxes() {
    let id = |text: &str| session_in(text.as_bytes());
    assert_eq!(id("0::/user.slice/user-1000.slice/session-3.scope\n").as_deref(), Some("3"));
    assert_eq!(id("0::/user.slice/user-0.slice/session-c12.scope\n").as_deref(), Some("c12"));
    let hybrid =
        "12:cpu,cpuacct:/\n1:name=systemd:/user.slice/user-1000.slice/session-7.scope\n0::/\n";
    assert_eq!(id(hybrid).as_deref(), Some("7"));
    assert_eq!(id("0::/user.slice/user-1000.slice/user@1000.service/app.slice\n"), None);
    assert_eq!(id("0::/session-../../etc.scope\n"), None);
}

#[test]
fn a_title_is_padded_with_nuls_and_no_words_come_of_them() {
    assert_eq!(arguments(b"sshd: alice@notty\0\0\0\0\0"), [b"sshd: alice@notty"]);
    assert_eq!(arguments(b"make\0-j8\0"), [b"make".as_slice(), b"-j8"]);
    assert_eq!(arguments(b"git\0commit\0-m\0\0"), [b"git".as_slice(), b"commit", b"-m"]);
    assert!(arguments(b"").is_empty());
    assert!(arguments(b"\0\0\0").is_empty());
}

#[test]
fn processes_hidden_by_the_mount_are_a_failure_with_its_remedy() {
    let tree = Tree::new();
    tree.process(Fake { pid: 900, comm: "guppy-idle-stop", ..Fake::default() });
    tree.end(1);
    let why = Processes::default().scan(&Proc::open(&tree.path("proc")).unwrap()).unwrap_err();
    assert_eq!(
        without(tree.folder.path(), &why.to_string()),
        "/proc hides the processes of other users: is it mounted with hidepid=, or is ProtectProc= \
         set in the unit?"
    );
}

#[test]
fn a_line_that_is_not_understood_is_a_failure_and_is_quoted() {
    let tree = Tree::new();
    tree.file("proc/77/stat", "77 (x) S one\n");
    let why = Processes::default().scan(&Proc::open(&tree.path("proc")).unwrap()).unwrap_err();
    let why = without(tree.folder.path(), &why.to_string());
    assert_eq!(why, r#"/proc/77/stat is not in the known form, at: "77 (x) S one""#);
}

/// A pid's folder that is there while its files are gone: it ended during the scan.
#[test]
fn a_process_that_ends_during_the_scan_is_left_out() {
    let tree = Tree::new();
    fs::create_dir(tree.path("proc/55")).unwrap();
    let mut processes = Processes::default();
    processes.scan(&Proc::open(&tree.path("proc")).unwrap()).unwrap();
    assert!(processes.find(55).is_none());
    assert!(processes.find(1).is_some());
}

/// The folder stays open from tick to tick in a daemon; here it is scanned twice as well.
#[test]
fn a_second_scan_sees_what_changed() {
    let tree = Tree::new();
    let proc = Proc::open(&tree.path("proc")).unwrap();
    let mut processes = Processes::default();
    tree.process(Fake { pid: 50, comm: "make", ..Fake::default() });
    tree.process(Fake { pid: 51, parent: 50, comm: "cc1", ..Fake::default() });
    processes.scan(&proc).unwrap();
    assert_eq!(processes.children(50).map(|child| child.pid).collect::<Vec<_>>(), [51]);
    tree.end(51);
    tree.process(Fake { pid: 52, parent: 50, comm: "ld", ..Fake::default() });
    processes.scan(&proc).unwrap();
    assert_eq!(processes.children(50).map(|child| child.pid).collect::<Vec<_>>(), [52]);
    let line: Vec<_> = processes.line(52).map(|entry| entry.pid).collect();
    assert_eq!(line, [52, 50, 1]);
}

/// Read while processes die and are born, the tree may show a ring.
#[test]
fn a_ring_of_parents_ends() {
    let tree = Tree::new();
    tree.process(Fake { pid: 60, parent: 61, ..Fake::default() });
    tree.process(Fake { pid: 61, parent: 60, ..Fake::default() });
    let mut processes = Processes::default();
    processes.scan(&Proc::open(&tree.path("proc")).unwrap()).unwrap();
    assert_eq!(processes.line(60).count(), 64);
}

#[test]
fn a_hold_follows_the_very_process() {
    let tree = Tree::new();
    tree.process(Fake { pid: 70, comm: "make", start: 500, ..Fake::default() });
    let sensors = tree.sensors();
    assert!(sensors.lives(Process { pid: 70, start: 500 }));
    assert!(!sensors.lives(Process { pid: 70, start: 499 }), "its number was given again");
    assert!(!sensors.lives(Process { pid: 71, start: 500 }));
    tree.process(Fake { pid: 70, comm: "make", start: 500, state: 'Z', ..Fake::default() });
    assert!(
        !sensors.lives(Process { pid: 70, start: 500 }),
        "it has ended and waits for its parent"
    );
    let me = std::process::id();
    let start = super::super::holds::start_of(me).unwrap();
    assert!(super::super::Sensors::new().lives(Process { pid: me, start }));
}
