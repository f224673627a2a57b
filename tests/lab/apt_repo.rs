//! A Debian repository on a test's own network: the way by which packages get into a guest.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::namespace::Switch;
use crate::process::{PATIENCE, Spawned, run};
use crate::{ledger, wait};

const PORT: u16 = 8000;

/// A flat repository, served over plain http by the switch's own address until dropped.
#[derive(Debug)]
pub struct AptRepo {
    place: PathBuf,
    _server: Spawned,
}

impl AptRepo {
    /// Serves these files on a switch; one repository per switch.
    pub fn serve(switch: &Switch, debs: &[PathBuf]) -> Result<Self> {
        ensure!(!debs.is_empty(), "a repository of no packages");
        let (place, _) = ledger::place("ga")?;
        for deb in debs {
            let name = deb.file_name().context("a package without a name")?;
            fs::copy(deb, place.join(name))
                .with_context(|| format!("cannot copy {}", deb.display()))?;
        }
        index(&place)?;
        let mut command = switch.command("python3");
        command.args(["-m", "http.server", "--directory"]).arg(&place).arg(PORT.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = Spawned::start(&mut command)?;
        wait::until_true("the repository to answer", Duration::from_secs(120), || {
            if let Some(code) = server.ended()? {
                anyhow::bail!("the repository's server ended with {code}");
            }
            let probe = format!("exec 3<>/dev/tcp/127.0.0.1/{PORT}");
            Ok(switch.sh(&format!("bash -c '{probe}' 2>/dev/null"))?.status == 0)
        })?;
        Ok(Self { place, _server: server })
    }

    /// Serves all packages of the folder `GUPPY_DEBS` that this architecture can install.
    pub fn serve_built(switch: &Switch) -> Result<Self> {
        Self::serve(switch, &built()?)
    }

    /// The line for `/etc/apt/sources.list.d/guppy.list`.
    #[must_use]
    pub fn source(&self) -> String {
        format!("deb [trusted=yes] http://10.99.0.1:{PORT}/ ./")
    }

    /// Adds or replaces a package; a guest sees it after its next `apt-get update`.
    pub fn add(&self, deb: &Path) -> Result<()> {
        self.add_all(&[deb.to_owned()])
    }

    /// The same for several.
    pub fn add_all(&self, debs: &[PathBuf]) -> Result<()> {
        for deb in debs {
            let name = deb.file_name().context("a package without a name")?;
            fs::copy(deb, self.place.join(name)).context("cannot copy the package")?;
        }
        index(&self.place)
    }
}

/// The packages under test for amd64 (and for all), sorted.
pub fn built() -> Result<Vec<PathBuf>> {
    let folder = crate::debs()?;
    let mut debs = Vec::new();
    let entries = fs::read_dir(&folder).with_context(|| format!("no {}", folder.display()))?;
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with("_amd64.deb") || name.ends_with("_all.deb") {
            debs.push(path);
        }
    }
    debs.sort();
    ensure!(!debs.is_empty(), "no .deb files in {}: run packaging/build", folder.display());
    Ok(debs)
}

/// The content of files, for the `prepared` key of a frozen machine.
pub fn contents(files: &[PathBuf]) -> Result<Vec<Vec<u8>>> {
    let read = |path: &PathBuf| fs::read(path).with_context(|| format!("no {}", path.display()));
    files.iter().map(read).collect()
}

fn index(place: &Path) -> Result<()> {
    let mut scan = Command::new("dpkg-scanpackages");
    scan.args(["--multiversion", "."]).current_dir(place);
    let packages = run(scan, b"", PATIENCE)?.ok().context("cannot index the repository")?;
    fs::write(place.join("Packages"), packages + "\n").context("cannot write the index")
}

impl Drop for AptRepo {
    fn drop(&mut self) {
        ledger::leave(&self.place);
    }
}
