//! What the interfaces moved: the physical ones, and the bridges of containers. Traffic of tunnels
//! and of containers' own ends passes one of these as well.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, statat};

use super::Interface;
use super::file::{self, Failure, number};
use super::processes::Proc;

/// A line has about 130 bytes, so this is 8,000 interfaces.
const LIMIT: usize = 1 << 20;

/// Interfaces that are listed; a box has a few, and a bridge for each network of docker's.
const MOST: usize = 1024;

pub(super) fn read(
    proc: &Proc,
    sys: &Path,
    buffer: &mut Vec<u8>,
) -> Result<Vec<Interface>, Failure> {
    let path = || proc.path("net/dev");
    file::read_whole(proc.folder(), c"net/dev", buffer, LIMIT)
        .map_err(|errno| Failure::read(path(), errno))?;
    let class = sys.join("class/net");
    let class_folder = file::folder(&class).map_err(|errno| Failure::read(&class, errno))?;
    let mut interfaces = Vec::new();
    // Two lines of headings.
    for line in file::lines(buffer).skip(2) {
        let (name, bytes) = interface(line).ok_or_else(|| Failure::form(path(), line))?;
        if counts(class_folder.as_fd(), name) {
            if interfaces.len() == MOST {
                return Err(Failure::TooMany { limit: MOST, what: "network interfaces" });
            }
            interfaces.push(Interface { name: String::from_utf8_lossy(name).into_owned(), bytes });
        }
    }
    Ok(interfaces)
}

/// A line's name and bytes: the first and the ninth number behind the colon.
pub(super) fn interface(line: &[u8]) -> Option<(&[u8], u64)> {
    // A name may hold a colon (an alias); the numbers do not.
    let colon = line.iter().rposition(|byte| *byte == b':')?;
    let name = line.get(..colon)?.trim_ascii();
    let mut numbers = file::words(line.get(colon + 1..)?);
    let received = number(numbers.next()?)?;
    let sent = number(numbers.nth(7)?)?;
    (!name.is_empty()).then_some((name, received.checked_add(sent)?))
}

/// Physical, or a bridge. The frequent others are known by name, to save two look-ups each.
fn counts(class: BorrowedFd<'_>, name: &[u8]) -> bool {
    let others: [&[u8]; 5] = [b"veth", b"tailscale", b"wg", b"tun", b"cali"];
    if name == b"lo" || name.contains(&b'/') || others.iter().any(|other| name.starts_with(other)) {
        return false;
    }
    [b"/device".as_slice(), b"/bridge"].iter().any(|kind| {
        let path = [name, kind].concat();
        statat(class, path.as_slice(), AtFlags::empty()).is_ok()
    })
}
