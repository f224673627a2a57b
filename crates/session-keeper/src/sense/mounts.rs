//! Mount points that are declared and not mounted (yet): what lies beneath one is not missing, it is
//! late. systemd orders the keeper after local and remote file systems, but not after one that is
//! `nofail`, `noauto`, unlocked by hand or simply failed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// Where mount units are that somebody wants: an administrator's, those of this boot, generated ones.
/// A package's are offers, of which this machine may take none (Debian 13 has a tmp.mount).
const UNITS: [&str; 3] = ["/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator"];

/// The declared mount point above a path on which nothing is mounted; None: there is none.
pub(super) fn missing_above(path: &Path) -> Option<PathBuf> {
    let path = real(path);
    let mounted = mounted(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default());
    let table = fs::read_to_string("/etc/fstab").unwrap_or_default();
    let declared = of_table(&table).into_iter().chain(UNITS.iter().flat_map(|at| of_units(at)));
    missing(&path, declared, &mounted)
}

fn missing(
    path: &Path,
    declared: impl Iterator<Item = PathBuf>,
    mounted: &BTreeSet<PathBuf>,
) -> Option<PathBuf> {
    declared
        .map(|point| real(&point))
        .filter(|point| path.starts_with(point) && !mounted.contains(point))
        .max_by_key(|point| point.components().count())
}

/// Without the symbolic links in as much of it as is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    match there {
        Some((part, real)) => match path.strip_prefix(part) {
            Ok(rest) if rest.as_os_str().is_empty() => real,
            Ok(rest) => real.join(rest),
            Err(_) => path.to_owned(),
        },
        None => path.to_owned(),
    }
}

/// proc_pid_mountinfo(5): the fifth field.
fn mounted(text: &str) -> BTreeSet<PathBuf> {
    text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescaped).collect()
}

/// fstab(5): the second field; `none` and `swap` are no places.
fn of_table(text: &str) -> Vec<PathBuf> {
    let entries = text.lines().map(str::trim_start).filter(|line| !line.starts_with('#'));
    let points = entries.filter_map(|line| line.split_whitespace().nth(1));
    points.filter(|point| point.starts_with('/')).map(unescaped).collect()
}

/// systemd.mount(5), `Where=`.
fn of_units(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let units = entries.filter(|entry| entry.file_name().as_encoded_bytes().ends_with(b".mount"));
    // One that is masked is a link to /dev/null, and says nothing.
    let points = units.filter_map(|unit| place_of(&fs::read_to_string(unit.path()).ok()?));
    points.collect()
}

fn place_of(unit: &str) -> Option<PathBuf> {
    let value = unit.lines().find_map(|line| line.trim().strip_prefix("Where="))?;
    value.starts_with('/').then(|| value.trim_end_matches(' ').into())
}

/// Both tables write a space as `\040`.
fn unescaped(field: &str) -> PathBuf {
    let mut bytes = Vec::new();
    let mut rest = field.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = code.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match (first, byte) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const TABLE: &str = "# <file system> <mount point>\nUUID=1 / ext4 defaults 0 1\n\
        UUID=2 none swap sw 0 0\n\t/dev/sdb1  /mnt/my\\040work ext4 nofail 0 2\n\
        #/dev/sdc1 /mnt/old ext4\n";
    const MOUNTS: &str = "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n";
    const LATE: &str = "30 22 8:17 / /mnt/my\\040work rw - ext4 /dev/sdb1 rw\n";

    #[test]
    fn what_is_beneath_a_mount_point_that_is_late_is_not_missing() {
        let above = |path: &str, mounts: &str| {
            missing(Path::new(path), of_table(TABLE).into_iter(), &mounted(mounts))
        };
        let late = Some(PathBuf::from("/mnt/my work"));
        assert_eq!(above("/mnt/my work/shop+fix", MOUNTS), late);
        assert_eq!(above("/mnt/my work", MOUNTS), late);
        assert_eq!(above("/mnt/my work/shop+fix", &format!("{MOUNTS}{LATE}")), None);
        assert_eq!(above("/mnt/my workshop", MOUNTS), None);
        assert_eq!(above("/mnt/old/shop", MOUNTS), None);
        assert_eq!(above("/home/alice/shop", MOUNTS), None);
    }

    #[test]
    fn mount_units_count_and_symbolic_links_do_not_hide_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let unit = format!("[Mount]\nWhat=host:/srv\nWhere={}\n", at("link").display());
        fs::create_dir(at("late")).unwrap();
        std::os::unix::fs::symlink(at("late"), at("link")).unwrap();
        fs::write(at("late.mount"), unit).unwrap();
        std::os::unix::fs::symlink("/dev/null", at("masked.mount")).unwrap();
        let units = of_units(folder.path().to_str().unwrap());
        assert_eq!(units, [at("link")]);
        let found = missing(&real(&at("late/shop")), units.into_iter(), &mounted(MOUNTS));
        assert_eq!(found, Some(at("late")));
    }
}
