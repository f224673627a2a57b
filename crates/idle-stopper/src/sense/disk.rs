//! What the disks moved, and how long tasks waited for them.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, statat};
use rustix::io::Errno;

use super::DiskTotals;
use super::file::{self, Failure, number};
use super::processes::Proc;

/// A line has about 120 bytes, so this is 8,000 disks and partitions.
const LIMIT: usize = 1 << 20;

/// Sectors in /proc/diskstats have 512 bytes whatever the disk's own are (block/genhd.c).
const SECTOR: u64 = 512;

pub(super) fn read(proc: &Proc, sys: &Path, buffer: &mut Vec<u8>) -> Result<DiskTotals, Failure> {
    let path = || proc.path("diskstats");
    file::read_whole(proc.folder(), c"diskstats", buffer, LIMIT)
        .map_err(|errno| Failure::read(path(), errno))?;
    let block = sys.join("block");
    let block_folder = match file::folder(&block) {
        Ok(folder) => Some(folder),
        // A kernel without block devices.
        Err(Errno::NOENT) => None,
        Err(errno) => return Err(Failure::read(&block, errno)),
    };
    let mut bytes: u64 = 0;
    for line in file::lines(buffer) {
        let (name, moved) = disk(line).ok_or_else(|| Failure::form(path(), line))?;
        let is_disk = block_folder.as_ref().is_some_and(|block| is_physical(block.as_fd(), name));
        if is_disk {
            bytes = bytes.saturating_add(moved);
        }
    }
    Ok(DiskTotals { bytes, pressure: pressure(proc)? })
}

/// A line's name and bytes (admin-guide/iostats.rst: fields 3 and 7 count sectors).
pub(super) fn disk(line: &[u8]) -> Option<(&[u8], u64)> {
    let mut words = file::words(line);
    let name = words.nth(2)?;
    let read = number(words.nth(2)?)?;
    let written = number(words.nth(3)?)?;
    Some((name, read.checked_add(written)?.checked_mul(SECTOR)?))
}

/// A whole disk has hardware behind it. Partitions have no folder here; loop, ram, zram, dm- and md
/// have no device, and stand on one that is counted; sr is no place for work.
fn is_physical(block: BorrowedFd<'_>, name: &[u8]) -> bool {
    let virtual_names: [&[u8]; 6] = [b"loop", b"ram", b"zram", b"dm-", b"md", b"sr"];
    if virtual_names.iter().any(|prefix| name.starts_with(prefix)) || name.contains(&b'/') {
        return false;
    }
    let mut path = name.to_vec();
    path.extend(b"/device");
    statat(block, path.as_slice(), AtFlags::empty()).is_ok()
}

/// None: a kernel without PSI, or with psi=0.
fn pressure(proc: &Proc) -> Result<Option<u64>, Failure> {
    let path = || proc.path("pressure/io");
    let mut buffer = [0; 512];
    match file::read_once(proc.folder(), c"pressure/io", &mut buffer) {
        Ok(text) => match stalled(text) {
            Some(stalled) => Ok(Some(stalled)),
            None => Err(Failure::form(path(), text)),
        },
        Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(Failure::read(path(), errno)),
    }
}

/// `some avg10=0.16 avg60=0.31 avg300=0.54 total=7301547` (accounting/psi.rst), in microseconds.
pub(super) fn stalled(text: &[u8]) -> Option<u64> {
    let line = file::lines(text).find_map(|line| line.strip_prefix(b"some "))?;
    file::words(line).find_map(|word| number(word.strip_prefix(b"total=")?))
}
