//! Where this process is among the control groups of version 2: their mount from
//! /proc/self/mountinfo (proc(5)), the way below it from /proc/self/cgroup (cgroups(7)).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A mount of the hierarchy: which part of it, and where.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    part: PathBuf,
    at: PathBuf,
}

/// Where the hierarchy is mounted: beside version 1 on hybrid machines.
pub(super) fn mount() -> io::Result<PathBuf> {
    Ok(mounted(&fs::read_to_string("/proc/self/mountinfo")?)?.at)
}

/// The folder of this process's own group.
pub(super) fn of_this_process() -> io::Result<PathBuf> {
    let mount = mounted(&fs::read_to_string("/proc/self/mountinfo")?)?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    folder(&groups, &mount)
}

fn folder(groups: &str, mount: &Mount) -> io::Result<PathBuf> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let own = groups
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .ok_or_else(|| invalid("no line of version 2 in /proc/self/cgroup"))?;
    let below = Path::new(own)
        .strip_prefix(&mount.part)
        .map_err(|_| invalid("this process is outside of what is mounted of version 2"))?;
    Ok(mount.at.join(below))
}

fn mounted(mountinfo: &str) -> io::Result<Mount> {
    mountinfo
        .lines()
        .filter_map(|line| {
            let (place, kind) = line.split_once(" - ")?;
            let mut fields = place.split(' ').skip(3);
            let (part, at) = (fields.next()?, fields.next()?);
            kind.starts_with("cgroup2 ").then(|| Mount { part: unescaped(part), at: unescaped(at) })
        })
        .next_back()
        .ok_or_else(|| {
            let what = "control groups of version 2 are not mounted: boot with systemd.unified_cgroup_hierarchy=1";
            io::Error::new(io::ErrorKind::NotFound, what)
        })
}

/// Spaces and the like are written as `\040` there.
fn unescaped(field: &str) -> PathBuf {
    let mut text = field.to_owned();
    for (escaped, plain) in [(r"\040", " "), (r"\011", "\t"), (r"\012", "\n"), (r"\134", r"\")] {
        text = text.replace(escaped, plain);
    }
    text.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_pure_machine_a_hybrid_one_and_a_container() {
        let pure = "25 20 0:23 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n";
        let own = "0::/guppy.slice/guppy-tmux@alice.service/server\n";
        let folder_of = |info: &str, groups: &str| folder(groups, &mounted(info)?);
        assert_eq!(
            folder_of(pure, own).unwrap(),
            Path::new("/sys/fs/cgroup/guppy.slice/guppy-tmux@alice.service/server")
        );
        let hybrid = "30 25 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 25 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let own = "4:memory:/x\n0::/y\n";
        assert_eq!(folder_of(hybrid, own).unwrap(), Path::new("/sys/fs/cgroup/unified/y"));
        let part = "31 25 0:27 /box\\040one /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(folder_of(part, "0::/box one/z\n").unwrap(), Path::new("/cg/z"));
        assert!(folder_of(part, "0::/elsewhere\n").is_err());
        assert!(folder_of("", own).is_err());
        assert!(folder_of(pure, "4:memory:/x\n").is_err());
    }

    #[test]
    fn this_process_is_somewhere() {
        let own = of_this_process().unwrap();
        let all = fs::read_to_string(own.join("cgroup.procs")).unwrap();
        assert!(all.lines().any(|pid| pid == std::process::id().to_string()), "{own:?}: {all}");
    }
}
