//! Packages of Debian's own, for tests that upgrade what a box has. Fetched once a recipe, and kept.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::{Release, cache, process};

/// The newest of these packages in a release, with all that they need.
pub fn packages(release: Release, names: &[&str]) -> Result<Vec<PathBuf>> {
    let names = names.join(",");
    let key = cache::key([release.name(), &names].map(str::as_bytes));
    let folder = cache::folder_of("debian", key, |folder| {
        crate::say(format_args!("fetching {names} of {}", release.name()));
        // It knows the release's mirrors, and resolves without a system to resolve for.
        let mut fetch = Command::new("mmdebstrap");
        fetch.args(["--quiet", "--mode=root", "--format=directory", "--variant=extract"]);
        fetch.arg("--aptopt=APT::Install-Recommends \"false\"");
        fetch.arg("--skip=download/empty,essential/unlink,cleanup/apt");
        fetch.arg(format!("--include={names}")).arg(release.name()).arg(folder.join("tree"));
        process::run(fetch, b"", Duration::from_secs(600))?
            .ok()
            .with_context(|| format!("cannot fetch {names} of {}", release.name()))?;
        for deb in debs_in(&folder.join("tree/var/cache/apt/archives"))? {
            let name = deb.file_name().context("a package without a name")?;
            std::fs::rename(&deb, folder.join(name)).context("cannot keep a package")?;
        }
        std::fs::remove_dir_all(folder.join("tree")).context("cannot tidy up")
    })?;
    let debs = debs_in(&folder)?;
    ensure!(!debs.is_empty(), "no packages in {}", folder.display());
    Ok(debs)
}

fn debs_in(folder: &std::path::Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let mut debs = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            debs.push(path);
        }
    }
    debs.sort();
    Ok(debs)
}
