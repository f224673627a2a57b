//! One control group: an agent and all that it starts.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};

use crate::launch::Limits;
use crate::process::timespec;

/// A group, whether or not it exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    folder: PathBuf,
}

/// What memory.events has counted since the group was made (cgroup-v2.rst, "memory.events").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryEvents {
    /// How often it was slowed down at memory.high.
    pub high: u64,
    /// How often it was about to exceed memory.max.
    pub max: u64,
    /// How often memory.max could not be kept by reclaim.
    pub oom: u64,
    /// Processes of the group that any OOM killer ended.
    pub oom_kill: u64,
}

impl Group {
    pub(super) fn at(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// The file that a process writes "0" into to enter.
    pub fn door(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }

    /// Makes it if it is not there, and sets its limits. Returns those that could not be set, with
    /// the reason: machines without the controllers still run agents, and say so.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn create(&self, limits: &Limits) -> io::Result<Vec<String>> {
        self.make()?;
        let mut unset = Vec::new();
        // One hog of the agent's dies alone, and the agent sees a command that failed.
        let group = self.set("memory.oom.group", "0");
        for (file, limit) in [
            ("memory.high", limits.memory_high),
            ("memory.max", limits.memory_max),
            ("pids.max", limits.pids_max),
        ] {
            let value = limit.map_or_else(|| "max".to_owned(), |limit| limit.to_string());
            // What nobody asked for may be missing: a group is new, or had another limit before.
            if let (Err(error), Some(_)) = (self.set(file, &value), limit) {
                unset.push(format!("{file}: {error}"));
            }
        }
        if let (Err(error), Some(_)) = (group, limits.memory_max) {
            unset.push(format!("memory.oom.group: {error}"));
        }
        Ok(unset)
    }

    pub(super) fn make(&self) -> io::Result<()> {
        match fs::create_dir(&self.folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    fn set(&self, file: &str, value: &str) -> io::Result<()> {
        // Never O_CREAT: without the controller there is no such file.
        let mut file = fs::OpenOptions::new().write(true).open(self.folder.join(file))?;
        io::Write::write_all(&mut file, value.as_bytes())
    }

    /// Moves this process in; what it starts from now on is in there too.
    ///
    /// # Errors
    /// Those of the kernel: the groups that it leaves and enters must be of one tree that this
    /// user may divide.
    pub fn enter(&self) -> io::Result<()> {
        self.set("cgroup.procs", "0")
    }

    /// Whether a process is in it or below. A group that is not there has none.
    ///
    /// # Errors
    /// Those of reading cgroup.events.
    pub fn populated(&self) -> io::Result<bool> {
        match fs::read_to_string(self.folder.join("cgroup.events")) {
            Ok(events) => populated(&events),
            Err(error) if is_gone(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Kills all that is in it and below, and waits until the last has gone: SIGKILL to all at
    /// once, so that nothing forks its way out (cgroup.kill, since Linux 5.14).
    ///
    /// # Errors
    /// `TimedOut` with the processes that the kernel cannot end; those of the kernel.
    pub fn kill(&self, within: Duration) -> io::Result<()> {
        let events = match File::open(self.folder.join("cgroup.events")) {
            Ok(events) => events,
            Err(error) if is_gone(&error) => return Ok(()),
            Err(error) => return Err(error),
        };
        match self.set("cgroup.kill", "1") {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
        if wait_until_empty(events, within)? {
            return Ok(());
        }
        let left: Vec<_> = self.pids()?.iter().map(u32::to_string).collect();
        let what = format!("SIGKILL does not end {} in {}", left.join(" "), self.folder.display());
        Err(io::Error::new(io::ErrorKind::TimedOut, what))
    }

    /// What memory.events has counted.
    ///
    /// # Errors
    /// Those of reading it: `NotFound` without the group or its memory controller.
    pub fn memory_events(&self) -> io::Result<MemoryEvents> {
        let text = fs::read_to_string(self.folder.join("memory.events"))?;
        let count = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(name, _)| *name == key).and_then(|(_, count)| count.parse().ok())
        };
        let known = |key: &str| {
            let what = || format!("memory.events has no {key}");
            count(key).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, what()))
        };
        Ok(MemoryEvents {
            high: known("high")?,
            max: known("max")?,
            oom: known("oom")?,
            oom_kill: known("oom_kill")?,
        })
    }

    /// The processes in it and below; empty when it is not there.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn pids(&self) -> io::Result<Vec<u32>> {
        let mut pids = Vec::new();
        for folder in self.below()? {
            match fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(text) => pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok())),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(pids)
    }

    /// Removes it and the groups that the agent has made below, if nothing runs there.
    ///
    /// # Errors
    /// `ResourceBusy` while something runs there.
    pub fn remove(&self) -> io::Result<()> {
        for folder in self.below()?.iter().rev() {
            match fs::remove_dir(folder) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Its folder and all below, each before those that it holds.
    fn below(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = vec![self.folder.clone()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            next += 1;
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if is_gone(&error) => continue,
                Err(error) => return Err(error),
            };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    folders.push(entry.path());
                }
            }
        }
        Ok(folders)
    }
}

/// The folder is not there, or went while its file was open.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(rustix::io::Errno::NODEV.raw_os_error())
}

fn populated(events: &str) -> io::Result<bool> {
    match events.lines().find_map(|line| line.strip_prefix("populated ")) {
        Some("0") => Ok(false),
        Some("1") => Ok(true),
        _ => {
            let what = "cgroup.events does not say whether the group is populated";
            Err(io::Error::new(io::ErrorKind::InvalidData, what))
        }
    }
}

/// The kernel wakes a poll of cgroup.events for POLLPRI when it changes (cgroups(7)).
fn wait_until_empty(mut events: File, within: Duration) -> io::Result<bool> {
    let end = Instant::now() + within;
    loop {
        let mut text = String::new();
        events.seek(SeekFrom::Start(0))?;
        match events.read_to_string(&mut text) {
            Ok(_) if !populated(&text)? => return Ok(true),
            Err(error) if is_gone(&error) => return Ok(true),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        let mut changed = [PollFd::new(&events, PollFlags::PRI)];
        match poll(&mut changed, Some(&timespec(left))) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
