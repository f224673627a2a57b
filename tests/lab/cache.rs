//! Things that take long to make and never change afterwards: built once, kept outside the checkout.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The cache folder: `GUPPY_TEST_CACHE`, else the user's cache.
pub fn folder() -> Result<PathBuf> {
    let base = std::env::var_os("GUPPY_TEST_CACHE").map(PathBuf::from).or_else(|| {
        std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .map(|cache| cache.join("guppy-tests"))
    });
    let base = base.unwrap_or_else(|| PathBuf::from("/var/cache/guppy-tests"));
    fs::create_dir_all(&base).with_context(|| format!("cannot make {}", base.display()))?;
    Ok(base)
}

/// The folder `kind-key` of the cache, made by `build` if it is not there.
///
/// Two tests, even of two processes, that ask at once get one build: the second waits. What was made
/// by half is never given out. What nobody has asked for in a day goes when its kind is made anew.
pub fn folder_of(kind: &str, key: u64, build: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let base = folder()?;
    let ready = base.join(format!("{kind}-{key:016x}"));
    if ready.exists() {
        used(&ready);
        return Ok(ready);
    }
    let lock = base.join(format!("{kind}.lock"));
    let lock = File::create(&lock).with_context(|| format!("cannot make {}", lock.display()))?;
    lock.lock().context("cannot lock the cache")?;
    if ready.exists() {
        used(&ready);
        return Ok(ready);
    }
    forget_unused(&base, kind);
    let half = base.join(format!("{kind}-{key:016x}.half"));
    if half.exists() {
        fs::remove_dir_all(&half).with_context(|| format!("cannot remove {}", half.display()))?;
    }
    fs::create_dir_all(&half).with_context(|| format!("cannot make {}", half.display()))?;
    if let Err(error) = build(&half) {
        let _ = fs::remove_dir_all(&half);
        return Err(error);
    }
    fs::rename(&half, &ready).with_context(|| format!("cannot rename {}", half.display()))?;
    Ok(ready)
}

/// Marks a folder as used today.
fn used(folder: &Path) {
    // Only the pruning reads it: a mark that cannot be made costs a rebuild one day.
    let _ = fs::write(folder.join("used"), "");
}

/// Removes folders of the same kind that nobody asked for in a day: older recipes, older packages.
fn forget_unused(base: &Path, kind: &str) {
    let day = std::time::Duration::from_secs(24 * 3600);
    for entry in fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let same = name.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-'));
        if !same.is_some_and(|key| u64::from_str_radix(key, 16).is_ok() && key.len() == 16) {
            continue;
        }
        let mark = fs::metadata(entry.path().join("used")).or_else(|_| entry.metadata());
        let age = mark.and_then(|mark| mark.modified()).ok().and_then(|then| then.elapsed().ok());
        if age.is_some_and(|age| age > day) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// A key over any number of parts (FNV-1a: the same on every machine and with every compiler).
#[must_use]
pub fn key<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut mix = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    for part in parts {
        part.len().to_le_bytes().into_iter().for_each(&mut mix);
        part.iter().copied().for_each(&mut mix);
    }
    hash
}

/// Every file below a folder, sorted, as parts for [`key`]: paths and contents.
pub fn parts_of(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut paths = vec![folder.to_owned()];
    let mut files = Vec::new();
    while let Some(path) = paths.pop() {
        if path.is_dir() {
            let entries =
                fs::read_dir(&path).with_context(|| format!("cannot list {}", path.display()))?;
            for entry in entries {
                paths.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    let mut parts = Vec::new();
    for file in files {
        let name = file.strip_prefix(folder)?.to_string_lossy().into_owned().into_bytes();
        parts.push(name);
        parts.push(fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::key;

    #[test]
    fn the_border_between_two_parts_counts() {
        let (one, other) = (key([&b"ab"[..], b"c"]), key([&b"a"[..], b"bc"]));
        assert_ne!(one, other);
        assert_eq!(one, key([&b"ab"[..], b"c"]));
    }
}
