//! Room three: does. One [`Action`](crate::decide::Action) enters, what came of it leaves. Each may
//! be done twice without harm, and each may be cut off at any instruction: the next look sees what
//! is there.

mod mend;
mod send;
mod start;
mod sync;
mod worktree;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustix::process::{Signal, pidfd_send_signal};

pub use mend::{Mended, mend};
pub use send::{SendError, send};
pub use start::{Starter, install_hooks, show};
pub use sync::{Stamp, save_turn, stamp, sync_in_background};
pub use worktree::{add, git, recreate};

use crate::beside::{CGROUPS, STATE};
use crate::cgroup::Group;
use crate::conversation::Conversation;
use crate::process::Identity;

/// What is left of an agent is gone within this, or the next look tries again.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// Kills all processes of an agent's cgroup.
///
/// # Errors
/// In words for the journal.
pub async fn clear(group: Group) -> Result<(), String> {
    CGROUPS.run(move || group.kill(KILLED_WITHIN).map_err(|error| error.to_string())).await
}

/// Asks a shim to end its agent: SIGTERM.
///
/// # Errors
/// In words for the journal. A shim that is gone is none.
pub fn end(shim: Identity) -> Result<(), String> {
    signal(shim, Signal::TERM).map_err(|error| format!("its shim {}: {error}", shim.pid))
}

/// Tells a shim that its agent is in another conversation: it takes the lock on that one, and lets
/// the old one go.
///
/// # Errors
/// In words for the journal.
pub async fn rotate(
    path: PathBuf,
    conversation: &Conversation,
    shim: Identity,
) -> Result<(), String> {
    let conversation = conversation.clone();
    let write = move || {
        let written = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| service::state::write_durably(&path, conversation.as_str().as_bytes()));
        written.map_err(|error| format!("{}: {error}", path.display()))
    };
    STATE.run(write).await?;
    signal(shim, Signal::USR1).map_err(|error| format!("its shim {}: {error}", shim.pid))
}

fn signal(process: Identity, signal: Signal) -> io::Result<()> {
    let Some(handle) = process.open()? else { return Ok(()) };
    match pidfd_send_signal(&handle, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
