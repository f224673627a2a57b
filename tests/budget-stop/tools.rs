//! Where the programs of others are: installed once, by tools/install, kept outside the checkout.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{cache, process};

/// Half a gigabyte comes over the net.
const INSTALL_AT_MOST: Duration = Duration::from_secs(15 * 60);

/// The folder with `venv` and `node_modules`.
pub(crate) fn folder() -> Result<PathBuf> {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget-stop/tools");
    let parts = cache::parts_of(&recipe)?;
    let key = cache::key(parts.iter().map(Vec::as_slice));
    let base = cache::folder()?.join("budget-stop-tools");
    std::fs::create_dir_all(&base)?;
    // A venv's programs name the folder that it was made in, so it cannot be moved into place.
    let folder = base.join(format!("{key:016x}"));
    let lock = std::fs::File::create(base.join("lock"))?;
    lock.lock().context("cannot lock the cache")?;
    if folder.join("done").exists() {
        return Ok(folder);
    }
    if base.read_dir()?.count() > 1 {
        for old in base.read_dir()?.flatten().filter(|old| old.path().is_dir()) {
            std::fs::remove_dir_all(old.path())?;
        }
    }
    std::fs::create_dir_all(&folder)?;
    lab::say("installing moto, cfn-lint, AWS's CLI and the simulator of IAM, once");
    let mut command = Command::new(recipe.join("install"));
    command.arg(&folder);
    let output = process::run(command, b"", INSTALL_AT_MOST)?;
    if output.status != 0 {
        bail!("tools/install: {}{}", output.stdout, output.stderr);
    }
    std::fs::write(folder.join("done"), "")?;
    Ok(folder)
}
