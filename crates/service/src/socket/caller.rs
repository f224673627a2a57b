//! Who calls: the kernel's word for it, taken when the peer connected (SO_PEERCRED and
//! SO_PEERGROUPS, unix(7)). So membership is what the caller's login made it, through whatever NSS
//! module; only the number of a group's name and the name of a uid are looked up here, in the files
//! alone, since a static program can load no such module.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use tokio::net::UnixStream;
use zlink::Connection;
use zlink::connection::socket::Socket;

const GROUP: &str = "/etc/group";
const PASSWD: &str = "/etc/passwd";

/// No more than this is read of /etc/group and /etc/passwd.
const FILE_AT_MOST: u64 = 16 << 20;

/// The process at the other end of a connection, as it was when it connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its effective uid.
    pub uid: u32,
    /// Its effective gid.
    pub gid: u32,
    /// Its supplementary groups.
    pub groups: Vec<u32>,
    /// Its process id; 0 when it lives in a pid namespace that is not ours. The process may have
    /// ended since, and the number be another's.
    pub pid: u32,
}

impl Caller {
    /// Who is at the other end of a connection that [`serve`](super::serve) accepted.
    pub fn of<S>(connection: &Connection<S>) -> &Self
    where
        S: Socket,
        S::ReadHalf: AsRef<Self>,
    {
        connection.read().read_half().as_ref()
    }

    pub(super) fn at(stream: &UnixStream) -> io::Result<Self> {
        let peer = stream.peer_cred()?;
        Ok(Self {
            uid: peer.uid(),
            gid: peer.gid(),
            groups: groups(stream)?,
            pid: peer.pid().map_or(0, i32::unsigned_abs),
        })
    }

    /// Whether root calls.
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    /// Whether the caller is in the group of this name, by /etc/group. A group that cannot be
    /// looked up has no members.
    pub fn in_group(&self, name: &str) -> bool {
        match group_id(Path::new(GROUP), name) {
            Ok(Some(gid)) => self.gid == gid || self.groups.contains(&gid),
            Ok(None) => false,
            Err(error) => {
                tracing::warn!("{GROUP}: {error}; uid {} counts as outside group {name}", self.uid);
                false
            }
        }
    }
}

/// For people: "alice (uid 1000, pid 4711)".
impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, pid, .. } = self;
        match user_name(Path::new(PASSWD), *uid) {
            Ok(Some(name)) => write!(f, "{name} (uid {uid}, pid {pid})"),
            _ => write!(f, "uid {uid} (pid {pid})"),
        }
    }
}

/// The peer's supplementary groups. zlink 0.8's own reading of them never ends for a peer in more
/// than 128 groups, which anyone with a subordinate gid range can be.
#[allow(unsafe_code)]
fn groups(stream: &UnixStream) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice()))
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        // SAFETY: the descriptor is open while `stream` lives; `groups` is writable for `bytes`
        // bytes and the kernel writes no more; `bytes` outlives the call.
        let status = unsafe {
            libc::getsockopt(
                stream.as_fd().as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let error = io::Error::last_os_error();
        let count = bytes as usize / size_of::<libc::gid_t>();
        if status == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        // Too small a buffer: the kernel says how many there are, and their number is fixed.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

/// The number of a group in a file like /etc/group (group(5)); None: it is not there. Groups that
/// only NSS knows (LDAP, systemd-userdbd) are not found.
///
/// # Errors
/// Those of reading the file.
pub fn group_id(file: &Path, name: &str) -> io::Result<Option<u32>> {
    find(file, |fields| match fields {
        [found, _, gid, ..] if *found == name => gid.parse().ok(),
        _ => None,
    })
}

/// The name of a user in a file like /etc/passwd (passwd(5)); None: it is not there.
///
/// # Errors
/// Those of reading the file.
pub fn user_name(file: &Path, uid: u32) -> io::Result<Option<String>> {
    find(file, |fields| match fields {
        [name, _, found, ..] if found.parse() == Ok(uid) && !name.is_empty() => {
            Some((*name).to_owned())
        }
        _ => None,
    })
}

fn find<T>(file: &Path, wanted: impl Fn(&[&str]) -> Option<T>) -> io::Result<Option<T>> {
    let mut lines = BufReader::new(File::open(file)?.take(FILE_AT_MOST));
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        if let Ok(text) = std::str::from_utf8(&line) {
            let fields: Vec<&str> = text.trim_end().splitn(4, ':').collect();
            if let Some(found) = wanted(&fields) {
                return Ok(Some(found));
            }
        }
        line.clear();
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn names_and_numbers_are_found_in_files_with_odd_lines() {
        let group = file(
            b"# comment\n\n+::::\nbad\xff:x:1:\nguppies:x:5:\nguppy:x:990:alice,bob\nlast:x:7",
        );
        assert_eq!(group_id(group.path(), "guppy").unwrap(), Some(990));
        assert_eq!(group_id(group.path(), "last").unwrap(), Some(7));
        assert_eq!(group_id(group.path(), "gup").unwrap(), None);
        let passwd =
            file(b"root:x:0:0:root:/root:/bin/sh\n:x:5:5::/:\nalice:x:1000:1000::/home/alice:\n");
        assert_eq!(user_name(passwd.path(), 1000).unwrap().as_deref(), Some("alice"));
        assert_eq!(user_name(passwd.path(), 5).unwrap(), None);
        assert!(group_id(Path::new("/nowhere"), "guppy").is_err());
    }

    #[test]
    fn the_group_counts_as_primary_and_as_supplementary() {
        let caller = |gid, groups: &[u32]| Caller { uid: 1, gid, groups: groups.to_vec(), pid: 1 };
        // Group root is 0 wherever there is an /etc/group.
        assert!(caller(0, &[]).in_group("root"));
        assert!(caller(5, &[6, 0]).in_group("root"));
        assert!(!caller(5, &[6]).in_group("root"));
        assert!(!caller(0, &[0]).in_group("no such group"));
    }

    proptest! {
        #[test]
        fn no_file_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let file = file(&bytes);
            let _ = group_id(file.path(), "a").unwrap();
            let _ = user_name(file.path(), 0).unwrap();
        }
    }
}
