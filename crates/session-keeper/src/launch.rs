//! What the keeper tells the shim: one file a session, `STATE/launch/NAME.json`, written durably
//! before the pane is started. No secret stands in it: those are in the environment files that it
//! names.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The version of this file. A shim that finds another one refuses to start, and says to upgrade.
pub const VERSION: u32 = 1;

/// No honest file is longer.
pub const AT_MOST: usize = 1 << 20;

/// One start of an agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launch {
    /// [`VERSION`].
    pub version: u32,
    /// The session, `PROJECT/BRANCH`.
    pub name: String,
    /// The agent: `claude`.
    pub agent: String,
    /// The conversation to lock; None: the agent makes one that is not known yet.
    pub conversation: Option<String>,
    /// The agent's command. The first word is looked up in the PATH of a login and interactive
    /// shell.
    pub argv: Vec<String>,
    /// Where the program itself may be, below a `node_modules`, where that word is npm's launcher.
    #[serde(default)]
    pub native: Vec<String>,
    /// Where it starts; it must be there.
    pub cwd: PathBuf,
    /// Files of `KEY=value` lines, mode 0600, this user's own.
    pub env_files: Vec<PathBuf>,
    /// Variables that are no secrets.
    pub env: BTreeMap<String, String>,
    /// The caps of its cgroup.
    pub limits: Limits,
    /// The number of this start: it grows by one with each start of the session, for ever.
    pub start: u64,
}

/// Caps of the agent's cgroup (cgroup-v2.rst); None: `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// memory.high, bytes.
    pub memory_high: Option<u64>,
    /// memory.max, bytes.
    pub memory_max: Option<u64>,
    /// pids.max, tasks.
    pub pids_max: Option<u64>,
}

impl Launch {
    /// Writes it so that it outlives a power cut.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::other)?;
        service::state::write_durably(path, &text)
    }

    /// Reads it; None: there is none.
    ///
    /// # Errors
    /// Those of the file system; `InvalidData` where it is no launch of this version.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let Some(text) = service::state::read(path, AT_MOST)? else { return Ok(None) };
        let launch: Self =
            serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
        match launch.version {
            VERSION => Ok(Some(launch)),
            other => Err(invalid(format!("version {other}, not {VERSION}"))),
        }
    }
}
