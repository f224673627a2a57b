//! One keeper a user. A second one (started by hand, beside the unit's) has a memory of its own: it
//! would start again what a person has had the first one stop, and write over what that has learned.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

/// The file that is locked, in the state folder.
const FILE: &str = "keeper.lock";

/// Makes sure that nobody else keeps these sessions, for as long as the value lives. None: the disk
/// takes no file, so that there is nothing to write over either.
///
/// # Errors
/// Another keeper is there, and what to do.
pub fn take(state: &Path) -> Result<Option<File>, String> {
    let path = state.join(FILE);
    let open = || {
        fs::create_dir_all(state)?;
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)
    };
    let file = match open() {
        Ok(file) => file,
        Err(error) => {
            tracing::warn!("{}: {error}: whether another keeper runs is not known", path.display());
            return Ok(None);
        }
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(format!(
            "another keeper has {}: see systemctl status guppy-session-keeper@$USER",
            path.display()
        )),
        Err(error) => Err(format!("{}: {}", path.display(), io::Error::from(error))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_second_one_is_refused_until_the_first_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path()).unwrap();
        assert!(take(folder.path()).unwrap_err().contains("another keeper"));
        drop(first);
        assert!(take(folder.path()).unwrap().is_some());
    }

    #[test]
    fn a_disk_that_takes_no_file_does_not_end_the_keeper() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(take(&file.path().join("below")).unwrap().is_none());
    }
}
