//! Others' programs, by the names that their users install them by.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use lab::{Release, cache, debian, process};

/// The version that was measured.
const SHPOOL: &str = "0.11.5";

/// tmuxp and all that it needs, as packages.
pub(crate) fn tmuxp() -> Result<Vec<PathBuf>> {
    debian::packages(Release::Trixie, &["tmuxp"])
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
