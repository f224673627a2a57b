//! What the keepers of this machine's other users start: the machine is one, and so is what its
//! starts may take of it. Each writes what it has started into a file of its own, named for its uid,
//! in a folder of root's in which nobody may touch another's (`STARTS`, mode 1777).
//!
//! What stands in another's file is a claim, and not a fact. So `decide` lets it cost no more than a
//! fair share: whoever claims too much slows the others down, and does not stop them.

use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::clock::Boottime;
use service::state;

use super::Reading;

/// No honest file is longer: starts of an hour, of 10 digits each.
const AT_MOST: usize = 64 * 1024;
/// So many starts are told; more than the default of `starts.per_hour`.
pub const STARTS_AT_MOST: usize = 4096;
/// No machine has more keepers, and nobody's files make a look longer.
const USERS_AT_MOST: usize = 1000;

/// One user's starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Starts {
    /// The boot that the moments are of.
    pub boot: String,
    /// When a session last was to be started, or was.
    pub wanted: Boottime,
    /// The starts of the last hour, the latest last.
    pub starts: Vec<Boottime>,
}

impl Starts {
    /// Writes them for the others. A machine without the folder has nobody to tell.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let own = rustix::process::geteuid().as_raw();
        let text = serde_json::to_vec(self).map_err(io::Error::other)?;
        match state::write(&folder.join(own.to_string()), &text) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            written => written,
        }
    }
}

/// What the others have written in this boot. One that cannot be read, or is not its user's own,
/// claims nothing.
pub(super) fn read(folder: &Path, boot: &str) -> Reading<Vec<Starts>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Reading::Known(Vec::new()),
        Err(error) => return Reading::Unknown(format!("{}: {error}", folder.display())),
    };
    let own = rustix::process::geteuid().as_raw();
    let of = |entry: DirEntry| {
        let path = theirs(&entry, own)?;
        let text = state::read(&path, AT_MOST).ok()??;
        serde_json::from_str::<Starts>(&text).ok().filter(|starts| starts.boot == boot)
    };
    Reading::Known(entries.flatten().take(USERS_AT_MOST).filter_map(of).collect())
}

/// A file of another user's, which that user itself has made.
fn theirs(entry: &DirEntry, own: u32) -> Option<PathBuf> {
    let uid: u32 = entry.file_name().to_str()?.parse().ok()?;
    // Without following links: who owns what one leads to says nothing.
    let metadata = entry.metadata().ok()?;
    (uid != own && metadata.uid() == uid && metadata.is_file()).then(|| entry.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::chown;

    use super::*;

    fn starts(boot: &str) -> Starts {
        let at = Boottime::from_millis;
        Starts { boot: boot.to_owned(), wanted: at(7), starts: vec![at(5), at(6)] }
    }

    #[test]
    fn nobody_is_told_where_no_folder_is_and_ones_own_is_none_of_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let gone = folder.path().join("gone");
        starts("b").write(&gone).unwrap();
        assert_eq!(read(&gone, "b"), Reading::Known(vec![]));
        starts("b").write(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert_eq!(read(folder.path(), "b"), Reading::Known(vec![]));
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(matches!(read(file.path(), "b"), Reading::Unknown(_)));
    }

    #[test]
    #[ignore = "wants root"]
    fn what_another_has_written_itself_in_this_boot_counts() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, uid: u32, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            chown(&path, Some(uid), None).unwrap();
        };
        let text = |boot: &str| serde_json::to_string(&starts(boot)).unwrap();
        write("1001", 1001, &text("b"));
        // Of another boot, in another's name, of no user, and of nothing that can be read.
        write("1002", 1002, &text("a"));
        write("1003", 1001, &text("b"));
        write("1004.tmp", 1004, &text("b"));
        write("1005", 1005, "{");
        std::os::unix::fs::symlink(folder.path().join("1001"), folder.path().join("1006")).unwrap();
        assert_eq!(read(folder.path(), "b"), Reading::Known(vec![starts("b")]));
    }
}
