//! The operator's own checks. A oneshot unit of root's runs them outside this daemon's sandbox and
//! writes what they said to a file in /run; this reads the file. [`Results`] is what both agree on.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::CWD;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use super::file::{self, Failure, printable};
use super::{Check, Said};

/// Where the unit writes.
pub const RESULTS_FILE: &str = "/run/guppy/idle-stopper-checks.json";

/// Checks that are listed: as many as the unit runs.
const MOST: usize = 256;

/// The file's size: what 256 checks say to explain themselves.
const LIMIT: usize = 128 * 1024;

/// The unit is started at each tick, and takes its time. Answers that are older than three ticks and
/// this are those of a unit that hangs.
const SLACK: Duration = Duration::from_secs(60);

/// What the unit writes, as JSON:
/// `{"boot_ms": 81234, "checks": [{"name": "ci", "said": "quiet"}]}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Results {
    /// When the checks had run: CLOCK_BOOTTIME in milliseconds.
    pub boot_ms: u64,
    /// One for each file in the folder.
    pub checks: Vec<Check>,
}

pub(super) fn read(
    folder: &Path,
    results: &Path,
    tick: Duration,
    now: Boottime,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Check>, Failure> {
    if is_empty(folder)? {
        return Ok(Vec::new());
    }
    let unusable = |why: String| Failure::Other(format!("{}: {why}", results.display()));
    match file::read_whole(CWD, results, buffer, LIMIT) {
        Ok(()) => {}
        Err(Errno::NOENT) => {
            return Err(unusable(format!("not there, but {} has checks", folder.display())));
        }
        Err(errno) => return Err(Failure::read(results, errno)),
    }
    let Results { boot_ms, checks } = parse(buffer).map_err(|why| unusable(why.to_string()))?;
    let written = Boottime::from_millis(boot_ms);
    let age = now.since(written);
    if age > tick * 3 + SLACK || written > now + SLACK {
        let age = age.as_secs();
        return Err(unusable(format!("{age} s old: does the unit that runs the checks hang?")));
    }
    Ok(checks)
}

/// Reads the results. Names and reasons are cut for people, and so is a list that is too long.
pub(super) fn parse(text: &[u8]) -> Result<Results, serde_json::Error> {
    let mut results: Results = serde_json::from_slice(text)?;
    results.checks.truncate(MOST);
    for check in &mut results.checks {
        check.name = printable(check.name.as_bytes(), 64);
        if let Said::Unknown(why) = &mut check.said {
            *why = printable(why.as_bytes(), 200);
        }
    }
    Ok(results)
}

/// Whether there is no check. What is in the folder but cannot be run is in the results, with the
/// reason; a folder that is not there holds none.
fn is_empty(path: &Path) -> Result<bool, Failure> {
    let folder = match file::folder(path) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(true),
        Err(errno) => return Err(Failure::read(path, errno)),
    };
    let mut empty = true;
    let listed = file::list(folder.as_fd(), |_, _, _| {
        empty = false;
        ControlFlow::Break(())
    });
    listed.map_err(|errno| Failure::read(path, errno))?;
    Ok(empty)
}
