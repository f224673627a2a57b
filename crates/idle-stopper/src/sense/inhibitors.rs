//! logind's inhibitor locks.
//!
//! logind keeps a file for each lock in /run/systemd/inhibit: made with the lock, never changed,
//! removed with it (logind-inhibit.c). So the same names with the same inode numbers mean the same
//! locks (a number alone may be given again when logind restarts), and a listing is exact until
//! one of them changes. D-Bus is only asked then: about never, on a quiet box.

use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::path::Path;

use super::Inhibitor;
use super::file::{self, Failure};
use super::logind::Logind;

/// Files that are compared: two for each of the locks that are kept. Beyond it each tick asks.
const MOST_FILES: usize = 2048;

/// The last listing, and the files it was true for.
#[derive(Debug, Default)]
pub(super) struct Inhibitors {
    files: Option<Vec<(Box<[u8]>, u64)>>,
    locks: Vec<Inhibitor>,
}

impl Inhibitors {
    pub(super) async fn read(
        &mut self,
        folder: &Path,
        logind: &mut Logind,
    ) -> Result<Vec<Inhibitor>, Failure> {
        // Before the call: a lock that comes during it then differs at the next tick.
        let files = files(folder);
        if files.is_none() || files != self.files {
            self.files = None;
            self.locks = logind.inhibitors().await?;
            self.files = files;
        }
        Ok(self.locks.clone())
    }
}

/// The folder's names and inode numbers, sorted; None: it cannot be read or is too full.
pub(super) fn files(folder: &Path) -> Option<Vec<(Box<[u8]>, u64)>> {
    let folder = file::folder(folder).ok()?;
    let mut files = Vec::new();
    let listed = file::list(folder.as_fd(), |name, _, inode| {
        files.push((name.to_bytes().into(), inode));
        if files.len() > MOST_FILES { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    listed.ok().filter(|()| files.len() <= MOST_FILES)?;
    files.sort_unstable();
    Some(files)
}
