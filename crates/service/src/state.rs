//! Small files that a reader sees whole or not at all: a daemon's state in `/run`, intent in `/etc`.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

/// Replaces `path` with `bytes`: written to a temporary file beside it, fsynced, renamed. Mode
/// 0644 within the umask. One writer per path at a time.
///
/// # Errors
/// Those of the file system; `path` then holds what it held.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, bytes, 0o644)
}

fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path)?;
    // A crash may have left one behind.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// As [`write()`], and the folder is fsynced too, so that the new content outlives a power cut.
///
/// # Errors
/// Those of the file system.
pub fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_durably(path, bytes, 0o644)
}

/// As [`write_durably`], for what is nobody else's: mode 0600 from the first byte on.
///
/// # Errors
/// Those of the file system.
pub fn write_privately(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_durably(path, bytes, 0o600)
}

fn replace_durably(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    replace(path, bytes, mode)?;
    match path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        Some(folder) => File::open(folder)?.sync_all(),
        None => File::open(".")?.sync_all(),
    }
}

/// The text of a regular file of at most `at_most` bytes; None: there is no such file.
///
/// # Errors
/// Those of the file system; `InvalidData` when it is no regular file, larger, or not UTF-8.
pub fn read(path: &Path, at_most: usize) -> io::Result<Option<String>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    // Without O_NONBLOCK, opening a FIFO waits for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(invalid("not a regular file".to_owned()));
    }
    let mut bytes = Vec::new();
    file.take(at_most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > at_most {
        return Err(invalid(format!("larger than {at_most} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        invalid(format!("not UTF-8 (at byte {at})"))
    })?;
    Ok(Some(text))
}

fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(".tmp");
    Ok(path.with_file_name(temporary))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state.json");
        assert_eq!(read(&file, 10).unwrap(), None);
        write(&file, b"one").unwrap();
        // As a crash in the middle of a write leaves it.
        fs::write(folder.path().join(".state.json.tmp"), "half").unwrap();
        write_durably(&file, b"two").unwrap();
        assert_eq!(read(&file, 3).unwrap().as_deref(), Some("two"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_private_is_nobody_elses_whatever_was_there() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        write(&file, b"one").unwrap();
        write_privately(&file, b"two").unwrap();
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read(&file, 10).unwrap().as_deref(), Some("two"));
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_content_and_no_temporary_file() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("folder");
        fs::create_dir(&target).unwrap();
        assert!(write(&target, b"x").is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write(Path::new("/"), b"x").is_err());
        assert!(write(Path::new("/nowhere/x"), b"x").is_err());
    }

    #[test]
    fn what_is_too_large_or_no_text_or_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        write(&file, b"four").unwrap();
        assert_eq!(read(&file, 3).unwrap_err().to_string(), "larger than 3 bytes");
        write(&file, b"\xff").unwrap();
        assert_eq!(read(&file, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
        assert_eq!(read(folder.path(), 3).unwrap_err().to_string(), "not a regular file");
        assert!(read(Path::new("/dev/zero"), 3).is_err());
    }

    #[test]
    fn a_reader_never_sees_half_a_write() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("state");
        write(&file, &[b'a'; 5000]).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for letter in b"bcdefghij".repeat(20) {
                    write(&file, &[letter; 5000]).unwrap();
                }
            });
            while !writer.is_finished() {
                let text = read(&file, 5000).unwrap().unwrap();
                assert_eq!(text.len(), 5000);
                assert!(text.bytes().all(|byte| text.starts_with(char::from(byte))));
            }
        });
    }
}
