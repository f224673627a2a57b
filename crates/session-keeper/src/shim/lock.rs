//! Locks that the kernel holds for as long as the shim lives: one for the session, one for the
//! conversation. They are close-on-exec, so neither the agent nor the daemons that agents leave
//! behind (codex) inherit them.
//!
//! A lock is released by emptying its file and closing it. So a file that is not empty although
//! nobody holds it tells of a shim that was killed, and of an agent that may live for a moment
//! longer: the kernel drops locks before it tells a process that its parent has died.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use super::Refusal;
use crate::process::Identity;
use crate::report::LOCKED;

/// How long a killed agent may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// What a person reads in a lock, and the next shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    pub(super) session: String,
    pub(super) boot_id: String,
    pub(super) shim: Identity,
    pub(super) agent: Option<Identity>,
}

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock. An agent of a holder that was killed is killed too before this returns.
    /// `what` is locked, in words.
    pub(super) fn take(path: &Path, what: &str, holder: &Holder) -> Result<Self, Refusal> {
        let failed = |error: io::Error| Refusal(format!("cannot lock {}: {error}", path.display()));
        let folder = path.parent().unwrap_or(Path::new("/"));
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits() as i32)
            .open(path)
            .map_err(failed)?;
        let taken = flock(&file, FlockOperation::NonBlockingLockExclusive);
        let before = read(&mut file).map_err(failed)?;
        if let Err(error) = taken {
            return Err(match (error, before) {
                (rustix::io::Errno::WOULDBLOCK, Some(by)) => Refusal(format!(
                    "{LOCKED}{what} is held by session {} (shim pid {}): end that one first (guppy stop {})",
                    by.session, by.shim.pid, by.session
                )),
                (rustix::io::Errno::WOULDBLOCK, None) => Refusal(format!(
                    "{LOCKED}{what} is held by another process: see `fuser {}`",
                    path.display()
                )),
                (error, _) => failed(error.into()),
            });
        }
        let lock = Self { file, path: path.to_owned() };
        if let Some(agent) =
            before.filter(|by| by.boot_id == holder.boot_id).and_then(|by| by.agent)
        {
            agent.kill(KILLED_WITHIN).map_err(|error| {
                Refusal(format!(
                    "{what}: its last agent, pid {}, cannot be ended: {error}",
                    agent.pid
                ))
            })?;
        }
        lock.note(holder).map_err(failed)?;
        Ok(lock)
    }

    /// Writes who holds it.
    pub(super) fn note(&self, holder: &Holder) -> io::Result<()> {
        let mut text = serde_json::to_vec(holder)?;
        text.push(b'\n');
        let mut file = &self.file;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&text)
    }

    /// Releases it: its agent is known to be gone, or to be elsewhere.
    pub(super) fn release(self) {
        // A file that stays full costs the next holder a look at a process that is gone.
        let _ = self.file.set_len(0);
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// What a file says of its holder. One that nobody understands says nothing.
fn read(file: &mut File) -> io::Result<Option<Holder>> {
    let mut text = String::new();
    match file.take(4096).read_to_string(&mut text) {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(error),
        _ => {}
    }
    Ok(serde_json::from_str(&text).ok())
}

/// The folders that a shim writes into.
pub(super) fn make_folder(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) if !folder.exists() => {
            DirBuilder::new().recursive(true).mode(0o700).create(folder)
        }
        _ => Ok(()),
    }
}

/// Removes a file if it is there.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
