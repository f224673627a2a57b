//! How often the customer's server has refused the login since the profile was asked for last: it
//! outlives the client and the boot, so that no loop of restarts locks the customer's account.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// After so many the profile is parked.
const AT_MOST: u32 = 2;
/// Some bytes.
const FILE_AT_MOST: usize = 4096;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Saved {
    asked: u64,
    refusals: u32,
}

/// The count.
#[derive(Debug)]
pub(crate) struct Refusals {
    file: PathBuf,
    saved: Saved,
}

impl Refusals {
    /// Reads it for a profile. `asked`: for which asking; those of an earlier one do not count.
    ///
    /// # Errors
    /// For people: the file, and why it cannot be read: then nothing is tried.
    pub(crate) fn read(name: &str, asked: u64) -> Result<Self, String> {
        let folder = std::env::var_os("STATE_DIRECTORY").unwrap_or("/var/lib/guppy-vpn".into());
        Self::read_file(PathBuf::from(folder).join(format!("{name}.json")), asked)
    }

    fn read_file(file: PathBuf, asked: u64) -> Result<Self, String> {
        let said = |why: String| format!("{}: {why}; remove the file", file.display());
        let saved = match service::state::read(&file, FILE_AT_MOST) {
            Ok(Some(text)) => {
                serde_json::from_str::<Saved>(&text).map_err(|error| said(error.to_string()))?
            }
            Ok(None) => Saved::default(),
            Err(error) => return Err(said(error.to_string())),
        };
        let saved = if saved.asked == asked { saved } else { Saved { asked, refusals: 0 } };
        Ok(Self { file, saved })
    }

    /// Whether it was refused too often.
    pub(crate) const fn is_parked(&self) -> bool {
        self.saved.refusals >= AT_MOST
    }

    /// Counts one before anything is tried again.
    ///
    /// # Errors
    /// For people: it cannot be written, so nothing must be tried again.
    pub(crate) fn count(&mut self) -> Result<(), String> {
        self.saved.refusals += 1;
        self.write()
    }

    /// The login was taken.
    ///
    /// # Errors
    /// For people: it cannot be written.
    pub(crate) fn clear(&mut self) -> Result<(), String> {
        if self.saved.refusals == 0 {
            return Ok(());
        }
        self.saved.refusals = 0;
        self.write()
    }

    fn write(&self) -> Result<(), String> {
        let said = |why: String| format!("{}: {why}", self.file.display());
        let text = serde_json::to_string(&self.saved).map_err(|error| said(error.to_string()))?;
        service::state::write_durably(&self.file, text.as_bytes())
            .map_err(|error| said(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn two_refusals_park_until_it_is_asked_for_anew() {
        let folder = tempfile::tempdir().unwrap();
        let file = || folder.path().join("acme.json");
        let mut refusals = Refusals::read_file(file(), 3).unwrap();
        refusals.count().unwrap();
        assert!(!refusals.is_parked());
        // The client was killed in between.
        let mut refusals = Refusals::read_file(file(), 3).unwrap();
        refusals.count().unwrap();
        assert!(Refusals::read_file(file(), 3).unwrap().is_parked());
        assert!(!Refusals::read_file(file(), 4).unwrap().is_parked());
        // Between two refusals a login that was taken counts.
        let mut refusals = Refusals::read_file(file(), 4).unwrap();
        refusals.count().unwrap();
        refusals.clear().unwrap();
        refusals.count().unwrap();
        assert!(!Refusals::read_file(file(), 4).unwrap().is_parked());
        std::fs::write(file(), "{").unwrap();
        assert!(Refusals::read_file(file(), 4).is_err());
    }
}
