//! A container with the role installed, as quick as a box can be had.
//!
//! It has this machine's kernel and what that has left of control groups: limits may not be kept in
//! it, so what needs them has a machine of its own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use lab::{AptRepo, Container, Image, Release, Switch};

use crate::machine::{LONG, scripted};
use crate::real::installed;

/// The box; its network is there for others on it.
pub(crate) struct Contained {
    pub(crate) container: Container,
    pub(crate) switch: Switch,
    pub(crate) repository: AptRepo,
}

impl Contained {
    /// Boots it after `prepare` has changed its tree, and installs the role.
    pub(crate) fn boot(
        release: Release,
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let switch = Switch::new()?;
        let repository = AptRepo::serve_built(&switch)?;
        let container = Container::boot_with(&Image::of(release)?, &switch, |root| {
            let list = root.join("etc/apt/sources.list.d/guppy.list");
            fs::write(list, repository.source()).context("cannot name the repository")?;
            prepare(root)
        })?;
        let install = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
                       apt-get -qq install -y guppy-control-plane </dev/null";
        container.sh_within(LONG, install)?.ok().context("cannot install the role")?;
        Ok(Self { container, switch, repository })
    }
}

/// Puts claude and the scripted agent into a tree.
pub(crate) fn with_agents(root: &Path) -> Result<()> {
    let programs = root.join("usr/local/bin");
    for (from, name) in [(installed()?.join("claude"), "claude"), (scripted(), "scripted")] {
        let to = programs.join(name);
        fs::copy(&from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
