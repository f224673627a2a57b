//! One round of reading: what is switched on, each part of the world once.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use service::clock::Clock;
use service::cmdline::Reader;

use super::builds::Builds;
use super::cgroups::{Cgroups, Wanted};
use super::commands::Commands;
use super::file::Failure;
use super::inhibitors::Inhibitors;
use super::logind::Logind;
use super::logins::{Logins, World};
use super::processes::{LONGEST, Proc, Processes};
use super::tcp::Tcp;
use super::terminals::Terminals;
use super::{
    Evidence, Hold, Process, Reading, Terminal, checks, cpu, disk, holds, network, packages,
};
use crate::config::Config;

/// A buffer that one large file has blown up is given back.
const KEEP: usize = 64 * 1024;

/// Where the world is. A test puts a tree of files in its place.
#[derive(Clone, Debug)]
pub struct Roots {
    /// /
    pub root: PathBuf,
    /// /proc
    pub proc: PathBuf,
    /// /sys
    pub sys: PathBuf,
    /// /dev
    pub dev: PathBuf,
}

impl Roots {
    /// The tree below `root`.
    pub fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            proc: root.join("proc"),
            sys: root.join("sys"),
            dev: root.join("dev"),
        }
    }
}

/// All sensors, with what they remember from tick to tick to read less.
#[derive(Debug)]
pub struct Sensors {
    roots: Roots,
    clock: Clock,
    buffer: Vec<u8>,
    processes: Processes,
    logins: Logins,
    terminals: Terminals,
    commands: Commands,
    builds: Builds,
    command_lines: Rc<RefCell<Reader>>,
    tcp: Tcp,
    inhibitors: Inhibitors,
    logind: Logind,
}

impl Default for Sensors {
    fn default() -> Self {
        Self::new()
    }
}

impl Sensors {
    /// The sensors of this box.
    pub fn new() -> Self {
        Self::at(Roots::below(Path::new("/")), Clock::Kernel)
    }

    /// The sensors of another tree, at another time.
    pub fn at(roots: Roots, clock: Clock) -> Self {
        Self {
            roots,
            clock,
            buffer: Vec::new(),
            processes: Processes::default(),
            logins: Logins::default(),
            terminals: Terminals::default(),
            commands: Commands::default(),
            builds: Builds::default(),
            command_lines: Rc::new(RefCell::new(Reader::of(LONGEST))),
            tcp: Tcp::default(),
            inhibitors: Inhibitors::default(),
            logind: Logind::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn with_logind(mut self, logind: Logind) -> Self {
        self.logind = logind;
        self
    }

    #[cfg(test)]
    pub(super) fn with_command_lines(self, reader: Reader) -> Self {
        Self { command_lines: Rc::new(RefCell::new(reader)), ..self }
    }

    /// Whether the process lives. If nobody can tell, it does: what hangs on it ends at its time.
    pub fn lives(&self, process: Process) -> bool {
        holds::lives(&self.roots.proc, process).unwrap_or(true)
    }

    /// Reads every kind of evidence that is switched on; the others are empty. Holds are the
    /// daemon's own knowledge and go through as they come.
    pub async fn read(&mut self, config: &Config, holds: Vec<Hold>) -> Evidence {
        let on = &config.evidence;
        let now = self.clock.now();
        let Roots { root, proc, sys, dev } = &self.roots;
        let (logind, buffer) = (&mut self.logind, &mut self.buffer);

        self.command_lines.borrow_mut().begin();
        // What several kinds share, read once: a failure is the failure of each.
        let proc = Proc::open_with(proc, Rc::clone(&self.command_lines));
        let scanned = match &proc {
            Ok(proc) if on.terminals || on.commands || on.builds => {
                self.processes.scan(proc).inspect(|()| self.logins.update(proc, &self.processes))
            }
            Ok(_) => Ok(()),
            Err(why) => Err(why.clone()),
        };
        let (processes, logins) = (&self.processes, &self.logins);
        let proc = || proc.as_ref().map_err(Failure::clone);
        let world = || {
            scanned.clone()?;
            Ok(World { proc: proc()?, processes, logins })
        };
        let wanted = Wanted { cpu: on.cpu, steps: on.builds };
        let cgroups = Cgroups::walk(&sys.join("fs/cgroup"), wanted);

        let terminals = match on.terminals.then(world) {
            Some(Ok(world)) => self.terminals.read(dev, world, logind, now).await,
            Some(Err(why)) => Err(why),
            None => Ok(Vec::new()),
        };
        let marks = &config.commands.ide_servers;
        let commands = match on.commands.then(world) {
            Some(Ok(world)) => self.commands.read(world, logind, marks, now).await,
            Some(Err(why)) => Err(why),
            None => Ok(Vec::new()),
        };
        let inhibitors = match on.inhibitors {
            true => self.inhibitors.read(&root.join("run/systemd/inhibit"), logind).await,
            false => Ok(Vec::new()),
        };
        logind.hang_up();
        let builds = match (on.builds.then(world), &cgroups) {
            (Some(Ok(world)), Ok(cgroups)) => self.builds.read(world, &cgroups.steps),
            (Some(Err(why)), _) => Err(why),
            (Some(_), Err(why)) => Err(why.clone()),
            (None, _) => Ok(Vec::new()),
        };
        let folder = root.join("etc/guppy/idle-stopper.checks.d");
        let results = root.join(checks::RESULTS_FILE.trim_start_matches('/'));
        let evidence = Evidence {
            terminals: terminals.into(),
            commands: commands.into(),
            sockets: self.tcp.read(&config.watched_ports()).into(),
            cpu: when(on.cpu, || cpu::read(proc()?, cgroups?)),
            disk: when(on.disk, || disk::read(proc()?, sys, buffer)),
            network: when(on.network, || network::read(proc()?, sys, buffer)),
            builds: builds.into(),
            inhibitors: inhibitors.into(),
            packages: when(on.packages, || packages::read(proc()?, root, buffer)),
            holds: Reading::Known(if on.holds { holds } else { Vec::new() }),
            checks: when(on.checks, || checks::read(&folder, &results, config.tick, now, buffer)),
        };
        if buffer.capacity() > KEEP {
            *buffer = Vec::new();
        }
        evidence
    }
}

fn when<T: Default>(on: bool, read: impl FnOnce() -> Result<T, Failure>) -> Reading<T> {
    if on { read().into() } else { Reading::Known(T::default()) }
}

impl<T> From<Result<T, Failure>> for Reading<T> {
    fn from(read: Result<T, Failure>) -> Self {
        match read {
            Ok(value) => Self::Known(value),
            Err(why) => Self::Unknown(why.to_string()),
        }
    }
}

/// The terminals at this moment, without remote hosts: for a program that only writes to them.
pub fn terminals_now() -> Reading<Vec<Terminal>> {
    let Roots { proc, dev, .. } = Roots::below(Path::new("/"));
    let (mut processes, mut logins) = (Processes::default(), Logins::default());
    let terminals = Proc::open(&proc).and_then(|proc| {
        processes.scan(&proc)?;
        logins.update(&proc, &processes);
        let world = World { proc: &proc, processes: &processes, logins: &logins };
        Terminals::default().look(&dev, world)
    });
    terminals.map(|found| found.into_iter().map(|(terminal, _)| terminal).collect()).into()
}
