//! `idle-stopper-helper checks`: all checks at once, each with the same deadline; their answers go
//! to a file that the daemon reads at its next tick.

use std::path::Path;
use std::time::{Duration, Instant};

use service::clock::Clock;

use super::executables::{Executable, list};
use super::run_one::{finish, seconds, start};
use crate::act::CHECKS_DIR;
use crate::sense::checks::{RESULTS_FILE, Results};
use crate::sense::{Check, Said};

/// A check that takes longer says nothing.
const AT_MOST: Duration = Duration::from_secs(10);

/// Runs them.
///
/// # Errors
/// The folder cannot be read or the answers cannot be written.
pub fn run() -> Result<(), String> {
    let checks = run_all(Path::new(CHECKS_DIR), AT_MOST)?;
    let results = Results { boot_ms: Clock::Kernel.now().as_millis(), checks };
    let text = serde_json::to_string(&results).map_err(|error| error.to_string())?;
    service::state::write(Path::new(RESULTS_FILE), text.as_bytes())
        .map_err(|error| format!("{RESULTS_FILE}: {error}"))
}

pub(super) fn run_all(folder: &Path, at_most: Duration) -> Result<Vec<Check>, String> {
    let executables = list(folder)?;
    let deadline = Instant::now() + at_most;
    let started: Vec<_> = executables
        .into_iter()
        .map(|executable| {
            let child = match &executable.refused {
                Some(fault) => Err(format!("not run: it {fault}")),
                None => start(&executable, &[]).map_err(|error| format!("cannot start: {error}")),
            };
            (executable, child)
        })
        .collect();
    Ok(started
        .into_iter()
        .map(|(Executable { name, .. }, child)| {
            let said = match child.map(|child| finish(child, deadline)) {
                Ok(Ok(Some(status))) => match status.code() {
                    Some(0) => Said::Active,
                    Some(1) => Said::Quiet,
                    _ => Said::Unknown(format!("ended with {status}; 0 is active, 1 is quiet")),
                },
                Ok(Ok(None)) => Said::Unknown(format!("no answer within {}", seconds(at_most))),
                Ok(Err(error)) => Said::Unknown(error.to_string()),
                Err(why) => Said::Unknown(why),
            };
            Check { name, said }
        })
        .collect())
}
