//! One walk over the cgroups a tick, which cpu and builds share. Slices are entered; what lies
//! directly below one is a unit, and its own children are its own affair: their time is in it.

use std::ffi::CStr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::fs::FileType;
use rustix::io::Errno;

use super::file::{self, Failure, number};

/// Units that are listed. Each costs about 15 µs and 100 bytes.
const MOST: usize = 4096;

/// Slices that are entered: one for each user that is logged in, and a few.
const MOST_SLICES: usize = 1024;

/// The slice of this agent's own units. It is not entered but taken as one unit: checks and hooks
/// come and go between two ticks, and the slice keeps what they have used.
const OWN_SLICE: &[u8] = b"guppy-idle-stopper.slice";

/// What one walk found.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    /// Each unit's path and its CPU time in microseconds.
    pub(super) units: Vec<(String, u64)>,
    /// The sum over the root's children, slices included.
    pub(super) total: u64,
    /// Cgroups of build steps, by their paths.
    pub(super) steps: Vec<String>,
}

/// What a walk is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) cpu: bool,
    pub(super) steps: bool,
}

/// Where cgroup v2 is mounted: its root alone has this file on pure and on hybrid boxes.
fn mount(path: &Path) -> Result<PathBuf, Failure> {
    [path.to_owned(), path.join("unified")]
        .into_iter()
        .find(|path| path.join("cgroup.controllers").exists())
        .ok_or_else(|| {
            Failure::Other(format!(
                "no cgroup v2 at {}: boot with systemd.unified_cgroup_hierarchy=1",
                path.display()
            ))
        })
}

impl Cgroups {
    pub(super) fn walk(path: &Path, wanted: Wanted) -> Result<Self, Failure> {
        if !wanted.cpu && !wanted.steps {
            return Ok(Self::default());
        }
        let root = mount(path)?;
        let root_folder = file::folder(&root).map_err(|errno| Failure::read(&root, errno))?;
        let mut found = Self::default();
        // Paths of slices below the root, still to be entered; the first is the root itself.
        let mut pending = vec![String::new()];
        let mut at = 0;
        let mut has_any = false;
        while let Some(slice) = pending.get(at).cloned() {
            at += 1;
            let opened = if slice.is_empty() {
                file::folder_in(root_folder.as_fd(), c".")
            } else {
                file::folder_in(root_folder.as_fd(), slice.as_str())
            };
            let folder = match opened {
                Ok(folder) => folder,
                Err(errno) if gone(errno) => continue,
                Err(errno) => return Err(Failure::read(root.join(&slice), errno)),
            };
            let mut failure = None;
            let listed = file::list(folder.as_fd(), |name, kind, _| {
                if kind != FileType::Directory {
                    return ControlFlow::Continue(());
                }
                has_any = true;
                let child = Child { folder: folder.as_fd(), slice: &slice, name };
                match found.child(&child, wanted, &mut pending) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(why) => {
                        failure = Some(why);
                        ControlFlow::Break(())
                    }
                }
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
            match listed {
                Ok(()) => {}
                Err(errno) if gone(errno) => {}
                Err(errno) => return Err(Failure::read(root.join(&slice), errno)),
            }
        }
        // systemd has at least init.scope there, and the kernel's own root lacks this file. It is
        // this daemon's cgroup made to look like the whole box's, which would seem to do nothing.
        if !has_any && root.join("cgroup.events").exists() {
            return Err(Failure::Other(format!(
                "nothing but this daemon in {}: is ProtectControlGroups=strict set in the unit?",
                root.display()
            )));
        }
        Ok(found)
    }

    fn child(
        &mut self,
        child: &Child<'_>,
        wanted: Wanted,
        pending: &mut Vec<String>,
    ) -> Result<(), Failure> {
        let name = child.name.to_bytes();
        let is_slice = name.ends_with(b".slice") && name != OWN_SLICE;
        let is_root = child.slice.is_empty();
        if wanted.cpu && (is_root || !is_slice) {
            // One that vanishes between readdir and read is no error.
            let Some(usage) = child.usage()? else {
                return Ok(());
            };
            if is_root {
                self.total = self.total.saturating_add(usage);
            }
            if !is_slice {
                if self.units.len() == MOST {
                    return Err(Failure::TooMany { limit: MOST, what: "units" });
                }
                self.units.push((child.path(), usage));
            }
        }
        if is_slice {
            if pending.len() == MOST_SLICES {
                return Err(Failure::TooMany { limit: MOST_SLICES, what: "slices" });
            }
            pending.push(child.path());
        } else if wanted.steps {
            child.steps(&mut self.steps)?;
        }
        Ok(())
    }
}

/// A cgroup below a slice or the root.
struct Child<'a> {
    folder: BorrowedFd<'a>,
    /// The slice's path; empty for the root.
    slice: &'a str,
    name: &'a CStr,
}

impl Child<'_> {
    fn path(&self) -> String {
        let name = self.name.to_string_lossy();
        if self.slice.is_empty() { name.into_owned() } else { format!("{}/{name}", self.slice) }
    }

    /// `usage_usec` of cpu.stat; None: the cgroup has gone.
    fn usage(&self) -> Result<Option<u64>, Failure> {
        const FILE: &[u8] = b"/cpu.stat";
        let name = self.name.to_bytes();
        let mut path = [0; 300];
        let length = name.len() + FILE.len();
        // A name has 255 bytes at most.
        for (to, from) in path.iter_mut().zip(name.iter().chain(FILE)) {
            *to = *from;
        }
        let mut buffer = [0; 512];
        let path = path.get(..length).unwrap_or_default();
        match file::read_once(self.folder, path, &mut buffer) {
            Ok(text) => match usage(text) {
                Some(usage) => Ok(Some(usage)),
                None => Err(Failure::form(format!("{}/cpu.stat", self.path()), text)),
            },
            Err(errno) if gone(errno) => Ok(None),
            Err(errno) => Err(Failure::read(format!("{}/cpu.stat", self.path()), errno)),
        }
    }

    /// The steps of BuildKit that this cgroup is or holds (executor/oci, cgroupsPath).
    fn steps(&self, steps: &mut Vec<String>) -> Result<(), Failure> {
        let name = self.name.to_bytes();
        // systemd's driver: `system.slice:docker:ID`, a sibling of the services.
        if name.windows(8).any(|part| part == b":docker:")
            && is_populated(self.folder, self.name, || self.path())?
        {
            steps.push(self.path());
        }
        // The cgroupfs driver: `buildkit/ID`, of a daemon on the box below the root or `docker`,
        // and of one in a container (buildx's docker-container driver) below its scope.
        let below: &[&CStr] = match name {
            b"buildkit" => &[c"."],
            b"docker" => &[c"buildkit"],
            _ if name.starts_with(b"docker-") => &[c"buildkit", c"docker/buildkit"],
            _ => &[],
        };
        for part in below {
            let Ok(folder) = file::folder_in(self.folder, self.name)
                .and_then(|folder| file::folder_in(folder.as_fd(), *part))
            else {
                continue;
            };
            let parent = match part.to_bytes() {
                b"." => self.path(),
                _ => format!("{}/{}", self.path(), part.to_string_lossy()),
            };
            let mut failure = None;
            // A list that ends early is of a folder that has just gone.
            let _ = file::list(folder.as_fd(), |id, kind, _| {
                let path = || format!("{parent}/{}", id.to_string_lossy());
                if kind == FileType::Directory {
                    match is_populated(folder.as_fd(), id, path) {
                        Ok(true) => steps.push(path()),
                        Ok(false) => {}
                        Err(why) => failure = Some(why),
                    }
                }
                let is_enough = failure.is_some() || steps.len() > MOST;
                if is_enough { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
        if steps.len() > MOST {
            return Err(Failure::TooMany { limit: MOST, what: "build steps" });
        }
        Ok(())
    }
}

/// Whether a process is in the cgroup or below it (cgroup.events). BuildKit that was killed leaves
/// the empty cgroups of its steps behind, and nobody removes them before the next boot.
fn is_populated(
    parent: BorrowedFd<'_>,
    name: &CStr,
    path: impl Fn() -> String,
) -> Result<bool, Failure> {
    let mut buffer = [0; 256];
    let read = file::folder_in(parent, name)
        .and_then(|folder| file::read_once(folder.as_fd(), c"cgroup.events", &mut buffer));
    let file = || format!("{}/cgroup.events", path());
    match read {
        Ok(text) => populated(text).ok_or_else(|| Failure::form(file(), text)),
        Err(errno) if gone(errno) => Ok(false),
        Err(errno) => Err(Failure::read(file(), errno)),
    }
}

/// `populated 1`.
pub(super) fn populated(text: &[u8]) -> Option<bool> {
    file::lines(text).find_map(|line| match line.strip_prefix(b"populated ")? {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    })
}

/// `usage_usec 12345`, cpu.stat's first line today.
pub(super) fn usage(text: &[u8]) -> Option<u64> {
    file::lines(text).find_map(|line| number(line.strip_prefix(b"usage_usec ")?))
}

/// kernfs says ENODEV for a file of a removed cgroup that was open already.
fn gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::NODEV)
}
