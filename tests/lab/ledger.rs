//! What this test process has made on the machine, written down so that a later run can clean up
//! after one that was killed.
//!
//! Each process has a folder `guppy-lab/PID-STARTTIME` with a file `ledger`, one line a thing.
//! A thing is undone only by what the line says: a process by its id and start time, a network
//! namespace, mount or control group by its name. Nothing is ever searched for by a pattern.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process_group};

static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// The folder of this process; the first call cleans up after dead ones.
fn folder() -> Result<&'static Path> {
    let folder = FOLDER.get_or_init(|| {
        let make = || -> Result<PathBuf> {
            crate::require_privilege()?;
            let base = std::env::temp_dir().join("guppy-lab");
            fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
            clean_up_after_the_dead(&base)?;
            let pid = std::process::id();
            let started = started(pid).ok_or_else(|| anyhow!("no start time of myself"))?;
            let folder = base.join(format!("{pid}-{started}"));
            fs::create_dir_all(&folder)?;
            Ok(folder)
        };
        make().map_err(|error| format!("{error:#}"))
    });
    folder.as_deref().map_err(|error| anyhow!("{error}"))
}

/// A new empty folder for one machine or host, and a name unique on this machine
/// (at most 14 characters: it also has to do as the name of a network interface).
pub fn place(kind: &str) -> Result<(PathBuf, String)> {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let name = format!("{kind}{}.{number}", std::process::id());
    let path = folder()?.join(&name);
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok((path, name))
}

/// Removes a folder made by [`place`].
pub fn leave(place: &Path) {
    let _ = fs::remove_dir_all(place);
}

/// Notes a process. It must be the leader of its own group.
pub fn note_process(pid: u32) -> Result<()> {
    // Gone already: nothing to undo.
    started(pid).map_or(Ok(()), |started| note(&format!("process {pid} {started}")))
}

/// Notes a network namespace.
pub fn note_namespace(name: &str) -> Result<()> {
    note(&format!("netns {name}"))
}

/// Notes a mount point.
pub fn note_mount(path: &Path) -> Result<()> {
    note(&format!("mount {}", path.display()))
}

/// Notes a control group's folder.
pub fn note_cgroup(path: &Path) -> Result<()> {
    note(&format!("cgroup {}", path.display()))
}

/// Notes that something failed and is kept up on purpose, until the next `tests/run`.
pub fn note_kept() -> Result<()> {
    note("kept")
}

fn note(line: &str) -> Result<()> {
    let path = folder()?.join("ledger");
    let mut file = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    file.write_all(format!("{line}\n").as_bytes()).context("cannot write the ledger")
}

/// Start time of a process in clock ticks since boot: with the id, it names one process for ever.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19)?.parse().ok()
}

fn clean_up_after_the_dead(base: &Path) -> Result<()> {
    let lock = File::create(base.join("lock"))?;
    lock.lock().context("cannot lock the ledgers")?;
    for entry in fs::read_dir(base)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let Some((pid, start)) = name.as_deref().and_then(|name| name.split_once('-')) else {
            continue;
        };
        let alive = pid.parse().ok().and_then(started).is_some_and(|now| now.to_string() == start);
        if !alive {
            undo(&path);
        }
    }
    Ok(())
}

fn undo(folder: &Path) {
    let ledger = fs::read_to_string(folder.join("ledger")).unwrap_or_default();
    let new_run = std::env::var_os("GUPPY_NEW_RUN").is_some();
    if ledger.lines().any(|line| line == "kept") && !new_run {
        return;
    }
    let lines: Vec<&str> = ledger.lines().rev().collect();
    let things = |kind: &'static str| {
        lines
            .iter()
            .filter_map(move |line| line.split_once(' '))
            .filter_map(move |(what, rest)| (what == kind).then_some(rest))
    };
    for process in things("process") {
        let Some((pid, start)) = process.split_once(' ') else {
            continue;
        };
        let Ok(pid) = pid.parse::<u32>() else {
            continue;
        };
        if started(pid).is_some_and(|now| now.to_string() == start)
            && let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
    for name in things("netns") {
        let _ = crate::process::quietly("ip", &["netns", "delete", name]);
    }
    for path in things("mount") {
        let _ = crate::process::quietly("umount", &["--lazy", path]);
    }
    for path in things("cgroup") {
        remove_cgroup(Path::new(path));
    }
    let _ = fs::remove_dir_all(folder);
}

/// Kills what is left in a control group and removes it with all below.
pub fn remove_cgroup(path: &Path) {
    let _ = fs::write(path.join("cgroup.kill"), "1");
    if let Ok(entries) = fs::read_dir(path) {
        for child in entries.flatten().filter(|entry| entry.path().is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    // The kernel lets go a moment after the last process ended.
    let _ = crate::wait::until_true(
        "an empty control group",
        std::time::Duration::from_secs(2),
        || Ok(fs::remove_dir(path).is_ok() || !path.exists()),
    );
}
