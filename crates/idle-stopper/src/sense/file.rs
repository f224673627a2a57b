//! Bounded reads of the kernel's small files, relative to a folder that is open already, and the
//! reason when one fails. Nothing else in this room calls open(2).

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::ControlFlow;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::buffer::spare_capacity;
use rustix::fs::{CWD, FileType, Mode, OFlags, RawDir, openat};
use rustix::io::{Errno, read};
use rustix::path::Arg;
use service::cmdline::{self, MOST_STUCK};

/// Why a reading is Unknown.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Failure {
    /// A file or folder could not be read.
    #[error("cannot read {path}: {errno}")]
    Read { path: String, errno: Errno },
    /// The kernel wrote something that this program does not understand.
    #[error("{path} is not in the known form, at: {found:?}")]
    Form { path: String, found: String },
    /// More than this program is willing to hold in memory.
    #[error("there are more than {limit} {what}, too many to watch")]
    TooMany { limit: usize, what: &'static str },
    /// Anything else, with its remedy.
    #[error("{0}")]
    Other(String),
}

impl From<cmdline::Error> for Failure {
    fn from(error: cmdline::Error) -> Self {
        match error {
            cmdline::Error::TooMany => {
                Self::TooMany { limit: MOST_STUCK - 1, what: "processes whose memory is locked" }
            }
            error => Self::Other(error.to_string()),
        }
    }
}

impl Failure {
    pub(super) fn read(path: impl AsRef<Path>, errno: Errno) -> Self {
        Self::Read { path: path.as_ref().display().to_string(), errno }
    }

    /// Quotes the line that was not understood, cut so that a log line stays one.
    pub(super) fn form(path: impl AsRef<Path>, found: &[u8]) -> Self {
        Self::Form { path: path.as_ref().display().to_string(), found: printable(found, 60) }
    }
}

/// `bytes` for people: control characters become spaces, at most `limit` characters.
pub(super) fn printable(bytes: &[u8], limit: usize) -> String {
    // A character takes four bytes at most, so nothing beyond them is looked at.
    let bytes = bytes.get(..limit.saturating_mul(4)).unwrap_or(bytes);
    let text = String::from_utf8_lossy(bytes);
    let mut text: String = text
        .trim_end_matches(|c: char| c.is_control() || c == ' ')
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(limit + 1)
        .collect();
    if let Some((at, _)) = text.char_indices().nth(limit) {
        text.truncate(at);
        text.push('…');
    }
    text
}

/// Opens a folder.
pub(super) fn folder(path: impl Arg) -> Result<OwnedFd, Errno> {
    folder_in(CWD, path)
}

/// Opens a folder below another.
pub(super) fn folder_in(parent: BorrowedFd<'_>, path: impl Arg) -> Result<OwnedFd, Errno> {
    openat(parent, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// One open, one read, one close: for files that the kernel hands out in one piece, where a
/// second read, only to see the end, would double the cost. What does not fit is cut.
pub(super) fn read_once<'b>(
    folder: BorrowedFd<'_>,
    name: impl Arg,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = read(&file, &mut *buffer)?;
    Ok(buffer.get(..length).unwrap_or_default())
}

/// Reads a file to its end into `buffer`, which is emptied first. More than `limit` bytes are an
/// error (EFBIG), not a cut: half a table would read as a full one.
pub(super) fn read_whole(
    folder: BorrowedFd<'_>,
    name: impl Arg,
    buffer: &mut Vec<u8>,
    limit: usize,
) -> Result<(), Errno> {
    buffer.clear();
    let file = openat(folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        if buffer.spare_capacity_mut().len() < 2048 {
            buffer.reserve(4096);
        }
        if read(&file, spare_capacity(buffer))? == 0 {
            return Ok(());
        }
        if buffer.len() > limit {
            return Err(Errno::FBIG);
        }
    }
}

/// Calls `each` with the name, type and inode number of every entry but `.` and `..`.
pub(super) fn list(
    folder: BorrowedFd<'_>,
    mut each: impl FnMut(&CStr, FileType, u64) -> ControlFlow<()>,
) -> Result<(), Errno> {
    // An entry takes 24 bytes and its name, of 255 at most.
    let mut buffer = [MaybeUninit::uninit(); 8192];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        if each(entry.file_name(), entry.file_type(), entry.ino()).is_break() {
            break;
        }
    }
    Ok(())
}

/// A decimal number that fills `bytes`.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The words of a line, between runs of blanks.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty())
}

/// The lines of a file, without empty ones.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}
