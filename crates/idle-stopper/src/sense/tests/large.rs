//! Large boxes: bounded, and still right.

use std::os::unix::fs::symlink;
use std::time::Instant;

use super::{Certain, Fake, Tree, only, read};

/// 5,000 processes, of which 100 are remote commands and 100 sit at terminals.
#[tokio::test]
async fn five_thousand_processes() {
    let tree = Tree::new();
    tree.process(Fake { pid: 2, comm: "sshd", words: &["sshd: alice@notty"], ..Fake::default() });
    for number in 0..5_000_u32 {
        let (parent, terminal) = match number % 50 {
            0 => (2, 0),
            1 => (1, (136 << 8) | (number / 50)),
            _ => (1, 0),
        };
        let pid = 1000 + number;
        if terminal != 0 {
            tree.file(&format!("dev/pts/{}", number / 50), "");
        }
        tree.process(Fake {
            pid,
            parent,
            terminal,
            comm: "work",
            words: &["work"],
            ..Fake::default()
        });
    }
    let config = only(|on| (on.terminals, on.commands, on.builds) = (true, true, true));
    let mut sensors = tree.sensors();
    let began = Instant::now();
    let evidence = read(&mut sensors, &config).await;
    println!("5,000 processes: {:?}", began.elapsed());
    assert_eq!(evidence.commands.known().len(), 100);
    let terminals = evidence.terminals.known();
    assert_eq!(terminals.len(), 100);
    assert!(terminals.iter().all(|terminal| terminal.leader != 0));
}

#[tokio::test]
async fn more_processes_than_can_be_held_are_unknown_to_each_that_needs_them() {
    let tree = Tree::new();
    // Each name leads to the same process: the scan ends by number, before it can tell.
    for pid in 2..=32_769 {
        symlink("1", tree.path(&format!("proc/{pid}"))).unwrap();
    }
    let config = only(|on| (on.terminals, on.commands, on.builds) = (true, true, true));
    let evidence = read(&mut tree.sensors(), &config).await;
    let why = "there are more than 32768 processes, too many to watch";
    assert_eq!(evidence.terminals.unknown(), why);
    assert_eq!(evidence.commands.unknown(), why);
    assert_eq!(evidence.builds.unknown(), why);
}

#[tokio::test]
async fn more_cgroups_than_can_be_held_are_unknown() {
    let tree = Tree::new();
    tree.cgroup("system.slice", 1);
    for number in 0..4_097 {
        tree.cgroup(&format!("system.slice/u{number}.service"), 1);
    }
    let why = read(&mut tree.sensors(), &only(|on| on.cpu = true)).await.cpu.unknown();
    assert_eq!(why, "there are more than 4096 units, too many to watch");
}
