//! Command lines that hang. In a [`Tree`] a FIFO without a writer does: its open(2) waits.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use service::cmdline::{MOST_STUCK, Reader};

use super::super::processes::LONGEST;
use super::super::{RemoteCommand, Sensors};
use super::{Certain, Fake, Tree, only, read};

const DEADLINE: Duration = Duration::from_millis(700);

fn sensors(tree: &Tree) -> Sensors {
    tree.sensors().with_command_lines(Reader::within(LONGEST, DEADLINE))
}

/// A process whose command line nobody can read.
fn stuck(tree: &Tree, fake: Fake<'_>) {
    tree.process(fake);
    let path = tree.path(&format!("proc/{}/cmdline", fake.pid));
    fs::remove_file(&path).unwrap();
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
}

/// The lock is released: whoever waits reads this.
fn release(tree: &Tree, pid: u32, words: &str) {
    let path = tree.path(&format!("proc/{pid}/cmdline"));
    // Opens once the reader is there.
    let mut writer = OpenOptions::new().write(true).open(&path).unwrap();
    // Nobody comes to wait any more.
    fs::remove_file(&path).unwrap();
    fs::write(&path, words).unwrap();
    writer.write_all(words.as_bytes()).unwrap();
}

fn session(tree: &Tree) {
    tree.process(Fake { pid: 2, comm: "sshd", words: &["sshd: alice@notty"], ..Fake::default() });
}

async fn commands(sensors: &mut Sensors) -> Vec<RemoteCommand> {
    read(sensors, &only(|on| on.commands = true)).await.commands.known()
}

#[tokio::test]
async fn a_command_line_that_hangs_costs_one_deadline_and_only_its_own_words() {
    let tree = Tree::new();
    session(&tree);
    stuck(&tree, Fake { pid: 30, parent: 2, comm: "dd", ..Fake::default() });
    tree.process(Fake { pid: 31, parent: 2, comm: "make", words: &["make"], ..Fake::default() });
    let mut sensors = sensors(&tree);
    let begin = Instant::now();
    let found = commands(&mut sensors).await;
    let took = begin.elapsed();
    assert!(took >= DEADLINE && took < 10 * DEADLINE, "{took:?}");
    let locked = "dd (the command line of process 30 cannot be read: its memory is locked) \
                  (alice, ssh)";
    let whats: Vec<_> = found.iter().map(|one| (one.what.as_str(), one.by_bytes)).collect();
    assert_eq!(whats, [(locked, false), ("make (alice, ssh)", false)]);

    // It is not waited for again.
    let begin = Instant::now();
    assert_eq!(commands(&mut sensors).await, found);
    assert!(begin.elapsed() < DEADLINE, "{:?}", begin.elapsed());

    // And is read once it can be.
    release(&tree, 30, "dd\0if=/dev/zero\0");
    let deadline = Instant::now() + Duration::from_secs(30);
    while commands(&mut sensors).await[0].what != "dd if=/dev/zero (alice, ssh)" {
        assert!(Instant::now() < deadline, "{:?}", commands(&mut sensors).await);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_ide_below_a_process_that_hangs_is_still_found() {
    let tree = Tree::new();
    session(&tree);
    stuck(&tree, Fake { pid: 30, parent: 2, comm: "sh", ..Fake::default() });
    tree.process(Fake {
        pid: 31,
        parent: 30,
        comm: "node",
        words: &["/home/alice/.vscode-server/node"],
        ..Fake::default()
    });
    assert!(commands(&mut sensors(&tree)).await[0].by_bytes);
}

/// It may be a session, so that there are no commands cannot be said.
#[tokio::test]
async fn an_sshd_whose_title_hangs_makes_the_commands_unknown() {
    let tree = Tree::new();
    stuck(&tree, Fake { pid: 2, comm: "sshd", ..Fake::default() });
    let why = read(&mut sensors(&tree), &only(|on| on.commands = true)).await.commands.unknown();
    assert_eq!(why, "the command line of process 2 cannot be read: its memory is locked");
}

#[tokio::test]
async fn a_docker_whose_command_line_hangs_makes_the_builds_unknown() {
    let tree = Tree::new();
    stuck(&tree, Fake { pid: 30, comm: "docker", ..Fake::default() });
    let evidence = read(&mut sensors(&tree), &only(|on| on.builds = true)).await;
    let why = evidence.builds.unknown();
    assert_eq!(why, "the command line of process 30 cannot be read: its memory is locked");
}

#[tokio::test]
async fn however_many_hang_only_so_many_threads_do() {
    let tree = Tree::new();
    session(&tree);
    for pid in 0..40 {
        stuck(&tree, Fake { pid: 100 + pid, parent: 2, comm: "dd", ..Fake::default() });
    }
    let mut sensors = tree.sensors().with_command_lines(Reader::within(LONGEST, DEADLINE / 20));
    let begin = Instant::now();
    let found = commands(&mut sensors).await;
    let took = begin.elapsed();
    assert_eq!(found.len(), 40);
    let locked = found.iter().filter(|one| one.what.contains("its memory is locked")).count();
    assert_eq!(locked, MOST_STUCK);
    assert!(took < 2 * DEADLINE * u32::try_from(MOST_STUCK).unwrap(), "{took:?}");
    let begin = Instant::now();
    assert_eq!(commands(&mut sensors).await, found);
    assert!(begin.elapsed() < DEADLINE, "{:?}", begin.elapsed());
}

/// A file server of the user's own, or a disk that swaps, may answer each read just too late: then
/// no thread stays stuck, and each would cost its deadline.
#[tokio::test]
async fn however_many_are_only_slow_a_tick_waits_no_longer_for_them() {
    let tree = Tree::new();
    session(&tree);
    let pids = 100..160;
    for pid in pids.clone() {
        stuck(&tree, Fake { pid, parent: 2, comm: "dd", ..Fake::default() });
    }
    let lines: Vec<_> = pids.map(|pid| tree.path(&format!("proc/{pid}/cmdline"))).collect();
    let mut sensors = tree.sensors().with_command_lines(Reader::within(LONGEST, DEADLINE / 10));
    let to_be_freed = lines.clone();
    let server = std::thread::spawn(move || {
        let mut asked = None;
        for line in to_be_freed {
            // Opens when it is read; then the one before was given up, and is answered.
            let writer = OpenOptions::new().write(true).open(line).unwrap();
            drop(asked.replace(writer));
        }
    });
    let holding = |found: &[RemoteCommand], what: &str| {
        found.iter().filter(|one| one.what.contains(what)).count()
    };
    let found = commands(&mut sensors).await;
    let waited = holding(&found, "its memory is locked");
    assert!((1..=MOST_STUCK).contains(&waited), "{waited}");
    assert_eq!(holding(&found, "others took all the time there is"), lines.len() - waited);
    // The next tick has time of its own.
    assert_ne!(holding(&commands(&mut sensors).await, "its memory is locked"), 0);
    // Whoever opens a FIFO both ways waits for nobody, and nobody waits then.
    let open = |line| OpenOptions::new().read(true).write(true).open(line).unwrap();
    let _open: Vec<_> = lines.iter().map(open).collect();
    server.join().unwrap();
}
