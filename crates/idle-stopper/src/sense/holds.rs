//! Whether the process that a hold ends with still lives.

use std::path::Path;

use super::Process;
use super::file::Failure;
use super::processes::{Line, Proc};

/// The start of the process `pid`, which with the number makes its identity; None: there is none.
pub fn start_of(pid: u32) -> Option<u64> {
    match Proc::open(Path::new("/proc")).and_then(|proc| proc.stat(pid)) {
        Ok(Some(Line::Alive(entry))) => Some(entry.start),
        _ => None,
    }
}

/// True while the very process lives: a later one with its number has another start.
pub(super) fn lives(proc: &Path, process: Process) -> Result<bool, Failure> {
    Ok(match Proc::open(proc)?.stat(process.pid)? {
        Some(Line::Alive(entry)) => entry.start == process.start,
        Some(Line::Kernel | Line::Dead) | None => false,
    })
}
