//! `idle-stopper-helper hooks`: the pre-stop hooks one after the other, in the order of their
//! names. All together have `hooks_at_most`; one that fails or hangs does not keep the others from
//! running, nor the box up.

use std::path::Path;
use std::time::{Duration, Instant};

use service::config::{Live, Paths};

use super::executables::list;
use super::run_one::{finish, seconds, start};
use crate::act::HOOKS_DIR;
use crate::config::Config;

/// Runs them.
///
/// # Errors
/// The folder cannot be read, or some hooks failed: each is named.
pub fn run() -> Result<(), String> {
    let at_most = Live::<Config>::start(Paths::of("idle-stopper"), None).config().hooks_at_most;
    run_all(Path::new(HOOKS_DIR), at_most)
}

pub(super) fn run_all(folder: &Path, at_most: Duration) -> Result<(), String> {
    let hooks = list(folder)?;
    let deadline = Instant::now() + at_most;
    let mut left = u32::try_from(hooks.len()).unwrap_or(u32::MAX);
    let mut failed = Vec::new();
    for hook in hooks {
        // What is left is shared out evenly, so that a hook that hangs takes only its own part.
        let share = deadline.saturating_duration_since(Instant::now()) / left.max(1);
        left = left.saturating_sub(1);
        let fault = match &hook.refused {
            Some(fault) => Some(format!("not run: it {fault}")),
            None if share.is_zero() => Some(format!("not run: {} are over", seconds(at_most))),
            None => match start(&hook, &[]).and_then(|child| finish(child, Instant::now() + share))
            {
                Ok(Some(status)) if status.success() => None,
                Ok(Some(status)) => Some(format!("ended with {status}")),
                Ok(None) => Some(format!("killed after {}", seconds(share))),
                Err(error) => Some(error.to_string()),
            },
        };
        if let Some(fault) = fault {
            eprintln!("{}: {fault}", hook.path.display());
            failed.push(hook.name);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", "))) }
}
