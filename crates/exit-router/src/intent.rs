//! What people have asked for: it outlives the daemon and the boot, in
//! `/var/lib/guppy-exit-router/intent.json`. The block before the network and the VPN's client read
//! it too.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::prefix::Prefix;

/// Where it is.
pub const FILE: &str = "/var/lib/guppy-exit-router/intent.json";
/// An honest one is some hundred bytes.
const AT_MOST: usize = 1 << 20;

/// What holds until somebody asks for something else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intent {
    /// Whether peers are kept from the uplink at all; only `guppy vpn disable` says no.
    pub enabled: bool,
    /// The profile that is to be up.
    pub profile: Option<String>,
    /// How often one was asked for: refusals by the customer's server count anew with each.
    pub asked: u64,
    /// The subnet routes that `guppy vpn up` has advertised and `down` withdraws.
    pub advertised: Vec<Prefix>,
}

impl Default for Intent {
    fn default() -> Self {
        Self { enabled: true, profile: None, asked: 0, advertised: Vec::new() }
    }
}

impl Intent {
    /// Reads it; a file that is not there is the default: closed, and no tunnel.
    ///
    /// # Errors
    /// For people: the file, and why it cannot be read. Whoever asks stays closed then.
    pub fn read(file: &Path) -> Result<Self, String> {
        let said = |why: String| {
            format!("{}: {why}; the block stays, mend or remove the file", file.display())
        };
        match service::state::read(file, AT_MOST) {
            Ok(Some(text)) => serde_json::from_str(&text).map_err(|error| said(error.to_string())),
            Ok(None) => Ok(Self::default()),
            Err(error) => Err(said(error.to_string())),
        }
    }

    /// Writes it, to outlive a power cut.
    ///
    /// # Errors
    /// For people: the file, and why it cannot be written.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let said = |why: String| format!("{}: {why}", file.display());
        let text = serde_json::to_string(self).map_err(|error| said(error.to_string()))?;
        // The VPN's client, another user, reads how often it was asked for.
        service::state::write_durably(file, text.as_bytes())
            .and_then(|()| std::fs::set_permissions(file, Permissions::from_mode(0o644)))
            .map_err(|error| said(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_outlives_its_writer_and_is_never_taken_for_open() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("intent.json");
        assert_eq!(Intent::read(&file).unwrap(), Intent::default());
        assert!(Intent::default().enabled);
        let intent = Intent {
            profile: Some("acme".to_owned()),
            asked: 3,
            advertised: vec!["10.20.0.0/16".parse().unwrap()],
            ..Intent::default()
        };
        intent.write(&file).unwrap();
        assert_eq!(Intent::read(&file).unwrap(), intent);
        std::fs::write(&file, "{\"enabled\":fal").unwrap();
        let said = Intent::read(&file).unwrap_err();
        assert!(said.contains("the block stays"), "{said}");
    }
}
