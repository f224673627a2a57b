//! Debian as a disk: built by `image/build` with mmdebstrap, once per recipe, and cached.
//!
//! The kernel is booted directly and unpacked beforehand, with an initrd of a few modules, so
//! that an emulated processor wastes no time; everything from systemd on is the real thing.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::{cache, process};

/// A Debian release that guppy runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// Debian 12: systemd 252, Linux 6.1.
    Bookworm,
    /// Debian 13: systemd 257, Linux 6.12.
    Trixie,
}

impl Release {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    /// Debian's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }

    /// The releases this run covers: Debian 13, and with `--full` both.
    #[must_use]
    pub fn of_this_run() -> &'static [Self] {
        if crate::full() { &Self::ALL } else { &[Self::Trixie] }
    }
}

/// A built image: read-only, shared by all machines made from it.
#[derive(Debug, Clone)]
pub struct Image {
    release: Release,
    key: u64,
    folder: PathBuf,
}

impl Image {
    /// The image of a release, built now if the cache has none of this recipe.
    pub fn of(release: Release) -> Result<Self> {
        crate::require_privilege()?;
        let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("lab/image");
        let parts = cache::parts_of(&recipe)?;
        let named = [release.name().as_bytes()].into_iter();
        let key = cache::key(named.chain(parts.iter().map(Vec::as_slice)));
        let folder = cache::folder_of(&format!("image-{}", release.name()), key, |folder| {
            crate::say(format_args!("building the {} image", release.name()));
            let start = Instant::now();
            // With mounts of its own: what mmdebstrap has mounted below the folder goes with it,
            // should it be killed.
            let mut build = Command::new("unshare");
            build.args(["--mount", "--"]).arg(recipe.join("build")).arg(release.name()).arg(folder);
            process::run(build, b"", Duration::from_secs(1500))?
                .ok()
                .with_context(|| format!("cannot build the {} image", release.name()))?;
            let took = start.elapsed().as_secs_f64();
            crate::say(format_args!("built the {} image in {took:.1} s", release.name()));
            Ok(())
        })?;
        // One that was made anew has other blocks, and a frozen machine's disk lies upon them.
        let disk = fs::metadata(folder.join("root.img")).context("an image's disk")?;
        let made = [disk.mtime(), disk.mtime_nsec()].map(i64::to_le_bytes);
        let key = cache::key([&key.to_le_bytes()[..], &made[0], &made[1]]);
        Ok(Self { release, key, folder })
    }

    /// Debian 13.
    pub fn trixie() -> Result<Self> {
        Self::of(Release::Trixie)
    }

    /// Debian 12.
    pub fn bookworm() -> Result<Self> {
        Self::of(Release::Bookworm)
    }

    /// Which Debian it is.
    #[must_use]
    pub fn release(&self) -> Release {
        self.release
    }

    /// Changes whenever the image is built: part of the key of everything made from it.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.key
    }

    /// The root file system as a folder. Never to be written to.
    #[must_use]
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// The root file system as a raw ext4 disk. Never to be written to.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.folder.join("root.img")
    }

    /// The unpacked kernel.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinux")
    }

    /// The kernel as Debian packs it.
    #[must_use]
    pub fn packed_kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    /// The initial RAM disk.
    #[must_use]
    pub fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }
}
