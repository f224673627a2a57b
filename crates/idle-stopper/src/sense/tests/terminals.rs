//! Terminals: which, whose, and their stamps.

use std::fs::{self, File, FileTimes};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime};

use super::super::Sensors;
use super::super::Terminal;
use super::super::logins::{Sshd, parse_title};
use super::super::terminals::name;
use super::{Certain, Fake, Tree, only, read, without};

/// tty_nr of pts/N.
const PTS: u32 = 136 << 8;
/// Of ttyS0 and tty1.
const TTY_S0: u32 = 4 << 8 | 64;
const TTY1: u32 = 4 << 8 | 1;

async fn terminals(sensors: &mut Sensors) -> Vec<Terminal> {
    read(sensors, &only(|on| on.terminals = true)).await.terminals.known()
}

fn whats(terminals: &[Terminal]) -> Vec<(&str, u32, &str)> {
    terminals.iter().map(|one| (one.name.as_str(), one.leader, one.what.as_str())).collect()
}

/// What Debian 12 was measured to show: sshd, Tailscale SSH, tmux, a getty, and a detached pane.
#[tokio::test]
async fn every_kind_of_seat_on_debian_12() {
    let tree = Tree::new();
    for device in ["pts/0", "pts/1", "pts/2", "pts/3", "ttyS0", "pts/ptmx"] {
        tree.file(&format!("dev/{device}"), "");
    }
    let fakes = [
        Fake {
            pid: 500,
            comm: "sshd",
            words: &["sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups"],
            ..Fake::default()
        },
        Fake {
            pid: 700,
            parent: 500,
            comm: "sshd",
            words: &["sshd: alice [priv]"],
            ..Fake::default()
        },
        Fake {
            pid: 707,
            parent: 700,
            comm: "sshd",
            words: &["sshd: alice@pts/0"],
            ..Fake::default()
        },
        Fake {
            pid: 708,
            parent: 707,
            comm: "bash",
            words: &["-bash"],
            terminal: PTS,
            start: 900,
            ..Fake::default()
        },
        Fake { pid: 600, comm: "tailscaled", words: &["/usr/sbin/tailscaled"], ..Fake::default() },
        Fake {
            pid: 610,
            parent: 600,
            comm: "login",
            words: &["login", "-f", "-h", "100.64.0.2", "-p", "bob"],
            ..Fake::default()
        },
        Fake {
            pid: 611,
            parent: 610,
            comm: "bash",
            words: &["-bash"],
            terminal: PTS + 1,
            ..Fake::default()
        },
        Fake { pid: 650, comm: "tmux: server", words: &["tmux"], ..Fake::default() },
        Fake { pid: 651, parent: 650, comm: "bash", terminal: PTS + 2, ..Fake::default() },
        Fake {
            pid: 400,
            comm: "agetty",
            words: &["/sbin/agetty"],
            terminal: TTY_S0,
            ..Fake::default()
        },
    ];
    fakes.into_iter().for_each(|fake| tree.process(fake));
    let terminals = terminals(&mut tree.sensors()).await;
    assert_eq!(
        whats(&terminals),
        [
            ("pts/0", 708, "ssh alice"),
            ("pts/1", 611, "Tailscale SSH bob from 100.64.0.2"),
            ("pts/2", 651, "tmux"),
            ("ttyS0", 400, "console"),
            ("pts/3", 0, "a terminal without a session"),
        ]
    );
    assert_eq!(terminals[0].leader_start, 900);
}

/// Debian 13: sshd's session process has a name of its own, and sudo puts a pty between.
#[tokio::test]
async fn ssh_on_debian_13_and_a_sudo_in_it() {
    let tree = Tree::new();
    tree.file("dev/pts/0", "");
    tree.file("dev/pts/1", "");
    let fakes = [
        Fake {
            pid: 700,
            comm: "sshd-session",
            words: &["sshd-session: alice [priv]"],
            ..Fake::default()
        },
        Fake {
            pid: 707,
            parent: 700,
            comm: "sshd-session",
            words: &["sshd-session: alice@pts/0"],
            ..Fake::default()
        },
        Fake { pid: 708, parent: 707, comm: "bash", terminal: PTS, ..Fake::default() },
        Fake { pid: 720, parent: 708, comm: "sudo", ..Fake::default() },
        Fake { pid: 721, parent: 720, comm: "bash", terminal: PTS + 1, ..Fake::default() },
    ];
    fakes.into_iter().for_each(|fake| tree.process(fake));
    let terminals = terminals(&mut tree.sensors()).await;
    assert_eq!(whats(&terminals), [("pts/0", 708, "ssh alice"), ("pts/1", 721, "ssh alice")]);
}

/// A container counts its terminals from 0 too, in a /dev/pts of its own.
#[tokio::test]
async fn a_containers_terminal_is_not_taken_for_the_boxs() {
    let tree = Tree::new();
    tree.file("dev/pts/0", "");
    let fakes = [
        Fake { pid: 800, comm: "containerd-shim", ..Fake::default() },
        Fake { pid: 801, parent: 800, comm: "sh", terminal: PTS, ..Fake::default() },
        Fake { pid: 802, parent: 800, comm: "sh", terminal: PTS + 7, ..Fake::default() },
        Fake { pid: 900, comm: "bash", terminal: PTS, ..Fake::default() },
    ];
    fakes.into_iter().for_each(|fake| tree.process(fake));
    let terminals = terminals(&mut tree.sensors()).await;
    assert_eq!(whats(&terminals), [("pts/0", 900, "a terminal of systemd")]);
}

/// Only the stamp of reading moves: it is the file's atime, to the nanosecond.
#[tokio::test]
async fn the_stamp_is_the_atime_and_moves_with_it() {
    let tree = Tree::new();
    tree.file("dev/pts/4", "");
    tree.process(Fake { pid: 90, comm: "bash", terminal: PTS + 4, ..Fake::default() });
    let device = File::open(tree.path("dev/pts/4")).unwrap();
    let mut sensors = tree.sensors();
    let mut stamps = Vec::new();
    for seconds in [1_000_000_000, 1_000_000_008, 10] {
        let stamp = SystemTime::UNIX_EPOCH + Duration::new(seconds, 123);
        device.set_times(FileTimes::new().set_accessed(stamp)).unwrap();
        stamps.push(terminals(&mut sensors).await[0].atime);
    }
    assert_eq!(stamps, [1_000_000_000_000_000_123, 1_000_000_008_000_000_123, 10_000_000_123]);
    let before = device.metadata().unwrap().atime();
    assert_eq!(terminals(&mut sensors).await[0].atime, i128::from(before) * 1_000_000_000 + 123);
}

/// What the unit's PrivateDevices= does: the session is there, its device is not.
#[tokio::test]
async fn a_console_without_its_device_is_unknown_with_the_remedy() {
    let tree = Tree::new();
    tree.process(Fake { pid: 400, comm: "bash", terminal: TTY1, ..Fake::default() });
    let config = only(|on| on.terminals = true);
    let why = read(&mut tree.sensors(), &config).await.terminals.unknown();
    assert_eq!(
        without(tree.folder.path(), &why),
        "/dev/tty1 is missing though a session is on it: is PrivateDevices= set in the unit?"
    );
}

/// A pts that ended between the scan and the stat is simply gone.
#[tokio::test]
async fn a_pts_without_its_device_is_left_out() {
    let tree = Tree::new();
    tree.process(Fake { pid: 90, comm: "bash", terminal: PTS + 4, ..Fake::default() });
    assert!(terminals(&mut tree.sensors()).await.is_empty());
    fs::remove_dir(tree.path("dev/pts")).unwrap();
    assert!(terminals(&mut tree.sensors()).await.is_empty());
}

#[test]
fn devices_are_named_by_their_numbers() {
    let of =
        |major: u32, minor: u32| name(major << 8 | (minor & 0xff) | (minor & 0x000f_ff00) << 12);
    for (major, minor, expected) in [
        (136, 0, Some("pts/0")),
        (136, 300, Some("pts/300")),
        (137, 3, Some("pts/259")),
        (136, 0xf_ffff, Some("pts/1048575")),
        (4, 1, Some("tty1")),
        (4, 63, Some("tty63")),
        (4, 64, Some("ttyS0")),
        (204, 64, Some("ttyAMA0")),
        (229, 0, Some("hvc0")),
        (4, 0, None),
        (0, 0, None),
        (188, 0, None),
    ] {
        assert_eq!(of(major, minor).as_deref(), expected, "{major}:{minor}");
    }
}

#[test]
fn titles_of_sshd() {
    let session = |user: &str| Sshd::Session { user: user.to_owned() };
    for (title, expected) in [
        ("sshd: alice@pts/0", session("alice")),
        ("sshd: alice@notty", session("alice")),
        ("sshd-session: alice@notty", session("alice")),
        ("sshd: alice@pts/0,pts/3", session("alice")),
        ("sshd: alice", session("alice")),
        ("sshd-session: alice", session("alice")),
        ("sshd: alice@corp.example@notty", session("alice@corp.example")),
        ("sshd: alice@corp.example", session("alice@corp.example")),
        ("sshd: alice@internal-sftp", Sshd::InternalSftp { user: "alice".to_owned() }),
        ("sshd: alice [priv]", Sshd::Other),
        ("sshd-session: alice [priv]", Sshd::Other),
        ("sshd: alice [net]", Sshd::Other),
        ("sshd: [accepted]", Sshd::Other),
        ("sshd: unknown [preauth]", Sshd::Other),
        ("sshd: /usr/sbin/sshd -D [listener] 1 of 10-100 startups", Sshd::Listener),
        ("/usr/sbin/sshd -D", Sshd::Other),
        ("", Sshd::Other),
        ("sshd: ", Sshd::Other),
    ] {
        assert_eq!(parse_title(title.as_bytes()), expected, "{title}");
    }
}
