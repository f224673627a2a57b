//! Tests of this room. A [`Tree`] is a machine as a folder of files: what the kernel of a Debian 12
//! or 13 was measured to show, with the sensors set on it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test that panics has failed")]

pub(crate) mod bus;
mod cgroups;
mod checks;
mod cmdline;
mod commands;
mod files;
mod inhibitors;
mod large;
mod parsers;
mod processes;
mod tailscale;
mod tcp;
mod terminals;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use service::clock::{Boottime, Clock};
use tempfile::TempDir;

use super::logind::Logind;
use super::{Evidence, Reading, Roots, Sensors};
use crate::config::{Config, Kinds};

/// A process of a [`Tree`].
#[derive(Clone, Copy)]
struct Fake<'a> {
    pid: u32,
    parent: u32,
    comm: &'a str,
    /// Words of the command line.
    words: &'a [&'a str],
    /// A session leader's terminal.
    terminal: u32,
    start: u64,
    cgroup: &'a str,
    state: char,
    flags: u64,
    threads: u32,
}

impl Default for Fake<'_> {
    fn default() -> Self {
        Self {
            pid: 0,
            parent: 1,
            comm: "",
            words: &[],
            terminal: 0,
            start: 100,
            cgroup: "/system.slice/other.service",
            state: 'S',
            flags: 0x0040_0000,
            threads: 1,
        }
    }
}

impl Fake<'_> {
    /// The line of /proc/PID/stat, as kernel 6.12 writes it.
    fn line(&self) -> String {
        let Self { pid, parent, comm, terminal, start, state, flags, threads, .. } = self;
        format!(
            "{pid} ({comm}) {state} {parent} {pid} {pid} {terminal} -1 {flags} 1534 40211 3 97 12 \
             8 51 23 20 0 {threads} 0 {start} 8409088 1261 18446744073709551615 1 1 0 0 0 0 65536 \
             3686404 1266761467 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
        )
    }
}

/// A machine as a folder of files.
struct Tree {
    folder: TempDir,
}

impl Tree {
    /// An idle box with PID 1 and nothing else that counts.
    fn new() -> Self {
        let tree = Self { folder: tempfile::tempdir().unwrap() };
        tree.process(Fake {
            pid: 1,
            parent: 0,
            comm: "systemd",
            words: &["/sbin/init"],
            ..Fake::default()
        });
        tree.file("proc/stat", "cpu  10 0 20 3000 5 0 1 42 0 0\ncpu0 10 0 20 3000 5 0 1 42 0 0\n");
        tree.file("proc/diskstats", "");
        tree.file("proc/locks", "");
        tree.file("proc/net/dev", "Inter-|   Receive\n face |bytes\n");
        tree.file("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
        for folder in ["sys/block", "sys/class/net", "dev/pts", "run/systemd/inhibit"] {
            fs::create_dir_all(tree.path(folder)).unwrap();
        }
        tree
    }

    fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join(below)
    }

    fn file(&self, below: &str, text: impl AsRef<[u8]>) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn process(&self, fake: Fake<'_>) {
        let folder = format!("proc/{}", fake.pid);
        let mut words = String::new();
        for word in fake.words {
            write!(words, "{word}\0").unwrap();
        }
        self.file(&format!("{folder}/stat"), fake.line());
        self.file(&format!("{folder}/cmdline"), words);
        self.file(&format!("{folder}/cgroup"), format!("0::{}\n", fake.cgroup));
    }

    fn end(&self, pid: u32) {
        fs::remove_dir_all(self.path(&format!("proc/{pid}"))).unwrap();
    }

    fn cgroup(&self, path: &str, usage: u64) {
        self.file(
            &format!("sys/fs/cgroup/{path}/cpu.stat"),
            format!("usage_usec {usage}\nuser_usec 1\nsystem_usec 2\nnr_periods 0\n"),
        );
        self.populated(path, true);
    }

    /// Whether there are processes in a cgroup, as kernel 6.12 writes it.
    fn populated(&self, path: &str, populated: bool) {
        self.file(
            &format!("sys/fs/cgroup/{path}/cgroup.events"),
            format!("populated {}\nfrozen 0\n", u8::from(populated)),
        );
    }

    /// Sensors for it, ten minutes after boot, with a logind that cannot be reached.
    fn sensors(&self) -> Sensors {
        let clock = Clock::driven(Boottime::from_millis(600_000));
        let nobody = format!("unix:path={}", self.path("run/no-bus").display());
        Sensors::at(Roots::below(self.folder.path()), clock).with_logind(Logind::at(nobody))
    }
}

/// Sensors of a box with nothing on it, which ask the logind on this bus and wait for it an hour.
pub(crate) fn patient(root: &Path, address: String) -> Sensors {
    let logind = Logind::at(address).within(Duration::from_secs(3600));
    Sensors::at(Roots::below(root), Clock::Kernel).with_logind(logind)
}

/// Sensors with only one kind switched on, so that a test cannot pass by another.
fn only(kind: impl FnOnce(&mut Kinds)) -> Config {
    let mut evidence = Kinds {
        terminals: false,
        commands: false,
        tcp: false,
        cpu: false,
        disk: false,
        network: false,
        builds: false,
        inhibitors: false,
        packages: false,
        holds: false,
        checks: false,
    };
    kind(&mut evidence);
    Config { tick: Duration::from_secs(20), evidence, ..Config::default() }
}

async fn read(sensors: &mut Sensors, config: &Config) -> Evidence {
    sensors.read(config, Vec::new()).await
}

trait Certain<T> {
    fn known(self) -> T;
    fn unknown(self) -> String;
}

impl<T: std::fmt::Debug> Certain<T> for Reading<T> {
    #[track_caller]
    fn known(self) -> T {
        match self {
            Reading::Known(value) => value,
            Reading::Unknown(why) => panic!("unknown: {why}"),
        }
    }

    #[track_caller]
    fn unknown(self) -> String {
        match self {
            Reading::Known(value) => panic!("known: {value:?}"),
            Reading::Unknown(why) => why,
        }
    }
}

/// A temporary folder's path differs from run to run; a message about it should not.
fn without(folder: &Path, text: &str) -> String {
    text.replace(&folder.display().to_string(), "")
}

/// All kinds at once, on a box with nothing on it and with no logind.
#[tokio::test]
async fn an_idle_box_is_known_and_empty_but_for_logind() {
    let tree = Tree::new();
    fs::remove_dir(tree.path("run/systemd/inhibit")).unwrap();
    let evidence = read(&mut tree.sensors(), &Config::default()).await;
    assert!(evidence.terminals.known().is_empty());
    assert!(evidence.commands.known().is_empty());
    assert!(evidence.builds.known().is_empty());
    assert!(evidence.network.known().is_empty());
    assert!(evidence.packages.known().is_empty());
    assert!(evidence.holds.known().is_empty());
    assert!(evidence.checks.known().is_empty());
    assert_eq!(evidence.cpu.known().steal, 420_000);
    assert_eq!(evidence.disk.known().bytes, 0);
    let why = evidence.inhibitors.unknown();
    assert!(why.starts_with("logind cannot be asked over D-Bus: "), "{why}");
}

/// What is switched off is not read: a box where nothing can be read has no unknowns then.
#[tokio::test]
async fn what_is_switched_off_is_known_and_empty() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensors = Sensors::at(Roots::below(folder.path()), Clock::Kernel);
    let evidence = read(&mut sensors, &only(|_| {})).await;
    assert!(evidence.terminals.known().is_empty());
    assert!(evidence.sockets.known().is_empty());
    assert!(evidence.cpu.known().units.is_empty());
    assert!(evidence.inhibitors.known().is_empty());
}

/// And what is switched on there is Unknown, each with the path that failed.
#[tokio::test]
async fn what_cannot_be_read_is_unknown_and_says_which_path() {
    let folder = tempfile::tempdir().unwrap();
    let mut sensors = Sensors::at(Roots::below(folder.path()), Clock::Kernel);
    let config = only(|on| {
        (on.terminals, on.commands, on.cpu, on.disk, on.network, on.builds) =
            (true, true, true, true, true, true);
    });
    let evidence = read(&mut sensors, &config).await;
    let proc = "cannot read /proc: No such file or directory (os error 2)";
    for why in [
        evidence.terminals.unknown(),
        evidence.commands.unknown(),
        evidence.cpu.unknown(),
        evidence.disk.unknown(),
        evidence.network.unknown(),
        evidence.builds.unknown(),
    ] {
        assert_eq!(without(folder.path(), &why), proc);
    }
}
