//! Room three: does. One [`Action`](crate::decide::Action) enters, what came of it leaves. Each is
//! idempotent: telling, warning and ordering twice is no worse than once.
//!
//! The daemon has no rights of its own. logind powers off for its user, systemd starts exactly the
//! units below for it (polkit rule `guppy-idle-stopper.rules`), and root runs what they hold.

mod announcer;
pub mod bus;
mod last_resort;
pub mod tell;
mod terminals;

use std::path::Path;
use std::time::Duration;

pub use announcer::Announcer;
pub use last_resort::{MAY_BE_OLD, REQUEST_FILE, last_resort};
pub use terminals::{MESSAGE_AT_MOST, warning_text, withdrawal_text};

/// Writes the message to every terminal.
pub const WARN_UNIT: &str = "guppy-idle-stopper-warn.service";
/// Runs the operator's checks.
pub const CHECKS_UNIT: &str = "guppy-idle-stopper-checks.service";
/// Runs the pre-stop hooks.
pub const HOOKS_UNIT: &str = "guppy-idle-stopper-hooks.service";
/// Ends the box, past logind and its locks.
pub const POWER_OFF_UNIT: &str = "poweroff.target";

/// The last resort's, which watches the request.
pub const LAST_RESORT_UNIT: &str = "guppy-idle-stopper-poweroff.path";

/// Where the operator's checks are.
pub const CHECKS_DIR: &str = "/etc/guppy/idle-stopper.checks.d";
/// Where the pre-stop hooks are.
pub const HOOKS_DIR: &str = "/etc/guppy/idle-stopper.stop.d";
/// The message for the terminals, in the daemon's state folder.
pub const MESSAGE_FILE: &str = "message";

/// The unit's own TimeoutStartSec, and a moment more.
const WARN_AT_MOST: Duration = Duration::from_secs(25);

/// Has root write `text` to every terminal, and waits until it has.
///
/// # Errors
/// In words for the journal: the file or the unit.
pub async fn write_to_terminals(state_dir: &Path, text: &str) -> Result<(), String> {
    // The daemon before this one may have started it, and a start that meets it is lost.
    bus::wait_until_settled(WARN_UNIT, WARN_AT_MOST).await?;
    let path = state_dir.join(MESSAGE_FILE);
    service::state::write(&path, text.as_bytes())
        .map_err(|error| format!("{}: {error}", path.display()))?;
    bus::start_and_wait(WARN_UNIT, WARN_AT_MOST).await
}

/// Runs the pre-stop hooks, if there are any, and waits until they have ended or `at_most` is over.
///
/// # Errors
/// In words for the journal. The stop goes on all the same.
pub async fn run_hooks(at_most: Duration) -> Result<(), String> {
    if is_empty(Path::new(HOOKS_DIR)) {
        return Ok(());
    }
    bus::start_and_wait(HOOKS_UNIT, at_most).await
}

/// Has the operator's checks run. With `wait`, until they have answered or that time is over.
///
/// # Errors
/// In words for the journal; the reading of the checks then grows stale by itself.
pub async fn run_checks(wait: Option<Duration>) -> Result<(), String> {
    if is_empty(Path::new(CHECKS_DIR)) {
        return Ok(());
    }
    match wait {
        Some(at_most) => bus::start_and_wait(CHECKS_UNIT, at_most).await,
        None => bus::start(CHECKS_UNIT).await,
    }
}

/// A folder that is not there, or that nothing can be found in. One that cannot be read may hold
/// something.
fn is_empty(dir: &Path) -> bool {
    match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}
