//! The control groups of one user's agents: a tree that systemd delegates to the tmux unit
//! (`Delegate=memory pids`), so that its user may divide it without asking anybody.
//!
//! ```text
//! guppy-tmux@alice.service/        root's: its memory.max caps all of them
//!   server/                        the tmux server, the shims, panes that a person opened
//!   agent-NAME/                    an agent and all that it starts
//!   stopping/                      empty: systemd is ending the unit
//! ```
//! **Architecture Invariant:** no process is in the tree's root: the kernel gives controllers only
//! to the children of a group that has none of its own (cgroups(7), "no internal processes").
//!
//! Readings are results: an error is an Unknown with its reason, never an empty tree.

mod group;
mod place;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use group::{Group, MemoryEvents};

use crate::name::SessionName;
use crate::paths;

/// The leaf of the tmux server.
const SERVER: &str = "server";
/// Its presence says that systemd is ending the unit. A control group, because it ends with the
/// unit whatever happens: a file would be there after a power cut.
const STOPPING: &str = "stopping";
/// How the group of an agent begins.
const AGENT: &str = "agent-";
/// What the tree's children are to have.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// The delegated tree of one tmux unit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    root: PathBuf,
}

/// Why there is no tree.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The tmux server is not the unit's.
    #[error(
        "this pane is in the control group {0}, not below guppy-tmux@USER.service: its tmux server was started by hand. \
         End it when you can spare it (tmux kill-server): the service takes its place"
    )]
    Foreign(String),
    /// The kernel does not say.
    #[error("cannot find the control group of this process: {0}")]
    Unknown(#[from] io::Error),
}

impl Tree {
    /// The tree of a unit, by the folder of its control group.
    pub fn of_unit(folder: &Path) -> Self {
        Self { root: folder.to_owned() }
    }

    /// The tree of a user's tmux unit, whether or not it runs.
    ///
    /// # Errors
    /// Where control groups of version 2 are mounted cannot be read.
    pub fn of_user(user: &str) -> io::Result<Self> {
        let mounted = place::mount()?;
        let unit = format!("guppy.slice/guppy-tmux@{user}.service");
        Ok(Self::of_unit(&mounted.join(unit)))
    }

    /// The tree whose server this process was started by, from /proc/self/cgroup. The environment
    /// may name another ([`paths::CGROUP`]).
    ///
    /// # Errors
    /// [`TreeError::Foreign`] when the server is in no such tree.
    pub fn of_this_pane() -> Result<Self, TreeError> {
        if let Some(given) = std::env::var_os(paths::CGROUP) {
            return Ok(Self::of_unit(Path::new(&given)));
        }
        let own = place::of_this_process()?;
        match own.parent() {
            Some(root) if own.ends_with(SERVER) => Ok(Self::of_unit(root)),
            _ => Err(TreeError::Foreign(own.display().to_string())),
        }
    }

    /// The tree of the unit that this process is the first of: its own group, or the one above
    /// where systemd has already made the leaf (`DelegateSubgroup=`, since 254).
    ///
    /// # Errors
    /// Those of reading /proc.
    pub fn of_this_unit() -> io::Result<Self> {
        if let Some(given) = std::env::var_os(paths::CGROUP) {
            return Ok(Self::of_unit(Path::new(&given)));
        }
        let own = place::of_this_process()?;
        // systemd runs ExecStop= of a delegated unit in a leaf beside the others.
        let leaf = own.ends_with(SERVER) || own.ends_with(".control");
        Ok(Self::of_unit(own.parent().filter(|_| leaf).unwrap_or(&own)))
    }

    /// The folder of the tree.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The group of a session's agent, whether or not it exists.
    pub fn agent(&self, name: &SessionName) -> Group {
        Group::at(self.root.join(name.cgroup()))
    }

    /// The names of all agents' groups, as [`SessionName::cgroup`] makes them, in order.
    ///
    /// # Errors
    /// Those of reading the folder: `NotFound` when the unit does not run.
    pub fn agents(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(AGENT) && entry.file_type()?.is_dir() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Makes the server's leaf, moves this process into it and gives the tree's children their
    /// controllers. Returns those that cannot be given, with the reason: then limits of agents are
    /// not kept, and the shims say so.
    ///
    /// # Errors
    /// The tree is not this user's to divide.
    pub fn prepare(&self) -> io::Result<Vec<String>> {
        self.clear_stopping()?;
        let server = Group::at(self.root.join(SERVER));
        server.make()?;
        server.enter()?;
        let switch = self.root.join("cgroup.subtree_control");
        let missing = CONTROLLERS.iter().filter_map(|controller| {
            let error = fs::write(&switch, format!("+{controller}")).err()?;
            Some(format!("{controller}: {error}"))
        });
        Ok(missing.collect())
    }

    /// Notes that the unit is being stopped, for shims whose agents end now.
    ///
    /// # Errors
    /// Those of mkdir(2).
    pub fn mark_stopping(&self) -> io::Result<()> {
        Group::at(self.root.join(STOPPING)).make()
    }

    /// Whether the unit is being stopped.
    pub fn is_stopping(&self) -> bool {
        self.root.join(STOPPING).exists()
    }

    fn clear_stopping(&self) -> io::Result<()> {
        match fs::remove_dir(self.root.join(STOPPING)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
