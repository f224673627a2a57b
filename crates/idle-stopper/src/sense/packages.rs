//! dpkg's and apt's locks: which of their files exist, and who holds a lock on one of them
//! (/proc/locks). The files themselves are always there; only the lock counts.

use std::path::Path;

use rustix::fs::{AtFlags, CWD, major, minor, statat};
use rustix::io::Errno;

use super::PackageLock;
use super::file::{self, Failure, number};
use super::processes::{Line, Proc};

/// Below /.
const FILES: [&str; 4] = [
    "var/lib/dpkg/lock-frontend",
    "var/lib/dpkg/lock",
    "var/lib/apt/lists/lock",
    "var/cache/apt/archives/lock",
];

/// A line has about 60 bytes, so this is 16,000 locks.
const LIMIT: usize = 1 << 20;

/// A file's place: major, minor, inode.
type Place = (u32, u32, u64);

pub(super) fn read(
    proc: &Proc,
    root: &Path,
    buffer: &mut Vec<u8>,
) -> Result<Vec<PackageLock>, Failure> {
    let mut files = Vec::new();
    for name in FILES {
        let path = root.join(name);
        match statat(CWD, &path, AtFlags::empty()) {
            Ok(stat) => files.push((name, (major(stat.st_dev), minor(stat.st_dev), stat.st_ino))),
            // No Debian, or a box where apt never ran.
            Err(Errno::NOENT | Errno::NOTDIR) => {}
            Err(errno) => return Err(Failure::read(path, errno)),
        }
    }
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let path = || proc.path("locks");
    file::read_whole(proc.folder(), c"locks", buffer, LIMIT)
        .map_err(|errno| Failure::read(path(), errno))?;
    let mut locks: Vec<PackageLock> = Vec::new();
    for line in file::lines(buffer) {
        let Some((pid, place)) = lock(line).ok_or_else(|| Failure::form(path(), line))? else {
            continue;
        };
        let Some((name, _)) = files.iter().find(|(_, file)| same(*file, place)) else {
            continue;
        };
        if locks.iter().any(|lock| lock.pid == pid && lock.path.ends_with(name)) {
            continue;
        }
        let start = match proc.stat(pid)? {
            Some(Line::Alive(entry)) => entry.start,
            _ => 0,
        };
        locks.push(PackageLock { path: format!("/{name}"), pid, start });
    }
    Ok(locks)
}

/// btrfs and overlayfs report another device to stat(2) than to /proc/locks, both without a
/// number of their own (major 0): there the inode has to do.
fn same(file: Place, lock: Place) -> bool {
    file == lock || (file.0 == 0 && lock.0 == 0 && file.2 == lock.2)
}

/// `1: POSIX  ADVISORY  WRITE 1234 fe:00:123456 0 EOF` (proc_locks(5)). Some(None): a waiter
/// (`1: -> POSIX …`), or a lock of no single process (OFD locks have pid -1, and a process of
/// another pid namespace shows as 0).
pub(super) fn lock(line: &[u8]) -> Option<Option<(u32, Place)>> {
    let mut words = file::words(line);
    words.next()?.strip_suffix(b":")?;
    if words.next()? == b"->" {
        return Some(None);
    }
    let pid = words.nth(2)?;
    let mut place = words.next()?.split(|byte| *byte == b':');
    let mut hex = || u32::from_str_radix(std::str::from_utf8(place.next()?).ok()?, 16).ok();
    let (major, minor) = (hex()?, hex()?);
    let inode = number(place.next()?)?;
    let Some(pid) = number(pid).filter(|pid| *pid > 0) else {
        return Some(None);
    };
    Some(Some((u32::try_from(pid).ok()?, (major, minor, inode))))
}
