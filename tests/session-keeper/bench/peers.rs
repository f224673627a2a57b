//! Others' programs, by the names that their users install them by.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{Release, cache, process};

/// The version that was measured.
const SHPOOL: &str = "0.11.5";

/// tmuxp and what it adds to a Debian that boots, as packages.
pub(crate) fn tmuxp() -> Result<Vec<PathBuf>> {
    let script = r#"set -e
        mmdebstrap --quiet --mode=root --format=directory --variant=minbase \
            --include=systemd-sysv,dbus --aptopt='APT::Install-Recommends "false"' \
            --skip=cleanup/apt --customize-hook='chroot "$1" sh -ec "apt-get clean
                apt-get -qq --yes --download-only install tmuxp"' "$0" "$1/tree""#;
    let key = cache::key([script.as_bytes()]);
    let folder = cache::folder_of("bench-tmuxp-trixie", key, |folder| {
        lab::say("fetching Debian's tmuxp, once");
        let mut command = Command::new("bash");
        command.args(["-c", script, Release::Trixie.name()]).arg(folder);
        process::run(command, b"", Duration::from_secs(1800))?.ok().map(drop)
    })?;
    let archives = folder.join("tree/var/cache/apt/archives");
    let entries = std::fs::read_dir(&archives).with_context(|| format!("no {archives:?}"))?;
    let paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    let is_package = |path: &PathBuf| path.extension().is_some_and(|end| end == "deb");
    Ok(paths.into_iter().filter(is_package).collect())
}

/// The program `shpool`, built once.
pub(crate) fn shpool() -> Result<PathBuf> {
    let key = cache::key([SHPOOL.as_bytes()]);
    let folder = cache::folder_of("bench-shpool", key, |folder: &Path| {
        lab::say("building shpool, once");
        let mut command = Command::new("cargo");
        command.args(["install", "--quiet", "--locked", "shpool"]);
        command.args(["--version", SHPOOL, "--root"]).arg(folder);
        process::run(command, b"", Duration::from_secs(1800))?.ok().map(drop)
    })?;
    Ok(folder.join("bin/shpool"))
}
