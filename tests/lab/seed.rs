//! The seed disk that cloud-init's NoCloud source reads at a machine's first boot.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use crate::process;

/// What cloud-init is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seed {
    pub(crate) user_data: String,
    pub(crate) meta_data: Option<String>,
    pub(crate) network_config: Option<String>,
    /// Further files of the disk: name and content.
    pub(crate) files: Vec<(String, Vec<u8>)>,
}

impl Seed {
    /// All of it as bytes: part of the key of a cached snapshot.
    pub(crate) fn parts(&self) -> Vec<Vec<u8>> {
        let mut parts = vec![self.user_data.clone().into_bytes()];
        parts.extend(self.meta_data.iter().map(|text| text.clone().into_bytes()));
        parts.extend(self.network_config.iter().map(|text| text.clone().into_bytes()));
        for (name, content) in &self.files {
            parts.push(name.clone().into_bytes());
            parts.push(content.clone());
        }
        parts
    }

    /// Writes the disk: an ISO 9660 image labelled `cidata`.
    pub(crate) fn write(&self, disk: &Path, name: &str, network: &str) -> Result<()> {
        let folder = disk.with_extension("d");
        fs::create_dir_all(&folder).context("cannot make the seed's folder")?;
        let meta = self
            .meta_data
            .clone()
            .unwrap_or_else(|| format!("instance-id: {name}\nlocal-hostname: guppy-box\n"));
        let network = self.network_config.clone().unwrap_or_else(|| network.to_owned());
        let own =
            [("user-data", &self.user_data), ("meta-data", &meta), ("network-config", &network)];
        for (name, text) in own {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        for (name, content) in &self.files {
            fs::write(folder.join(name), content)
                .with_context(|| format!("cannot write {name}"))?;
        }
        let (disk, folder) = (disk.to_string_lossy(), folder.to_string_lossy());
        let arguments =
            ["-quiet", "-output", &disk, "-volid", "cidata", "-joliet", "-rock", &folder];
        process::host("genisoimage", &arguments)?;
        Ok(())
    }
}
