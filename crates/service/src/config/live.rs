//! The config of a daemon that must run whatever the files say: a typo must not make a box
//! eternal.
//!
//! Where it comes from, in this order:
//! 1. the files, if nothing is wrong with them;
//! 2. else the last config of this boot that was good (kept beside the daemon's own state; without
//!    one, the defaults), and over it every key of the files that is valid, later files winning. A
//!    file that is no TOML at all is skipped. So `mode = "stop"` survives both a typo beside it,
//!    whenever the role was installed, and a typo in its own line.
//!
//! On reload there is no choice: files with a mistake leave the running config in force.

use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::layer::{self, FILE_AT_MOST};
use super::{ConfigError, Paths, Validate, layers, merged, parsed};
use crate::state;

/// The config in force, and what is wrong with the files if it is not theirs.
#[derive(Debug)]
pub struct Live<T> {
    paths: Paths,
    last_good: Option<PathBuf>,
    config: T,
    error: Option<String>,
}

impl<T: DeserializeOwned + Default + Validate> Live<T> {
    /// Finds a config. `last_good` is a file in the runtime folder (which a reboot empties), or
    /// None: then none is kept.
    pub fn start(paths: Paths, last_good: Option<PathBuf>) -> Self {
        let (config, error) = match Self::from_files(&paths, last_good.as_ref()) {
            Ok(config) => (config, None),
            Err(error) => {
                let (config, source) = fallback(&paths, last_good.as_ref());
                (config, Some(format!("{error}\nrunning on {source}")))
            }
        };
        Self { paths, last_good, config, error }
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// What is wrong with them; the running config stays in force, and [`Live::error`] says so.
    pub fn reload(&mut self) -> Result<&T, ConfigError> {
        match Self::from_files(&self.paths, self.last_good.as_ref()) {
            Ok(config) => {
                self.config = config;
                self.error = None;
                Ok(&self.config)
            }
            Err(error) => {
                self.error = Some(format!("{error}\nrunning on the config before the reload"));
                Err(error)
            }
        }
    }

    /// The config in force.
    pub fn config(&self) -> &T {
        &self.config
    }

    /// What is wrong with the files and what runs instead, for people; None: they are in force.
    pub fn error(&self) -> Option<&str> {
        self.error.as_deref()
    }

    fn from_files(paths: &Paths, last_good: Option<&PathBuf>) -> Result<T, ConfigError> {
        let (layers, faults) = layers::<T>(paths);
        if !faults.is_empty() {
            return Err(ConfigError(faults));
        }
        let (config, table) = merged::<T>(&layers).map_err(|fault| ConfigError(vec![fault]))?;
        if let Some(file) = last_good
            && let Err(error) = state::write(file, table.to_string().as_bytes())
        {
            tracing::warn!("cannot keep the last good config in {}: {error}", file.display());
        }
        Ok(config)
    }
}

fn fallback<T>(paths: &Paths, last_good: Option<&PathBuf>) -> (T, String)
where
    T: DeserializeOwned + Default + Validate,
{
    let good = |table: &toml::Table| parsed::<T>(table).is_ok();
    let last = last_good
        .and_then(|file| state::read(file, FILE_AT_MOST).ok().flatten())
        .and_then(|text| text.parse::<toml::Table>().ok())
        .filter(good);
    let base = if last.is_some() { "the last good config of this boot" } else { "the defaults" };
    let mut table = last.unwrap_or_default();
    for layer in layers::<T>(paths).0 {
        layer::salvage(&layer, &mut table, good);
    }
    let config = parsed(&table).unwrap_or_default();
    (config, format!("{base} and the valid keys of the files"))
}
