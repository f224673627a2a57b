//! `/etc/guppy/NAME.toml`, then `/etc/guppy/NAME.d/*.toml` by file name: each later file sets what
//! it says and leaves the rest. What no file says keeps its default.
//!
//! Every file is read into the daemon's own type by itself first, so that a mistake is blamed on
//! the line that makes it; only then are the files merged and the result validated. That demands
//! of the type: `Default`, and `#[serde(default, deny_unknown_fields)]` on it and on its tables. A
//! table that a file opens begins from the default of its own type.

mod fault;
mod layer;
mod live;
pub mod span;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use fault::{ConfigError, Fault};
use layer::Layer;
pub use live::Live;

/// More drop-ins than this are refused: the folder is not what it should be.
pub const DROPINS_AT_MOST: usize = 1000;

/// What a type cannot say of its own values: their ranges.
pub trait Validate {
    /// The first key whose value is out of range.
    ///
    /// # Errors
    /// [`Invalid`] names the key, its value and what would be valid.
    fn validate(&self) -> Result<(), Invalid>;
}

/// A value out of range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key} = {value} is not valid: say {valid}")]
pub struct Invalid {
    key: String,
    value: String,
    valid: String,
    /// The other key that sets the range.
    beside: Option<String>,
}

impl Invalid {
    /// `key` as a dotted path (`tcp.ports`), its value, and what would be valid ("a share from 0
    /// to 1").
    pub fn new(key: &str, value: impl Display, valid: &str) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_string(),
            valid: valid.to_owned(),
            beside: None,
        }
    }

    /// The range follows from the value of another key: where no file sets the first, the line
    /// that sets the other is to blame.
    #[must_use]
    pub fn beside(mut self, other: &str) -> Self {
        self.beside = Some(other.to_owned());
        self
    }
}

/// Where the config is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The folder of drop-ins that packages ship, read first: a role's word stands there, where
    /// no person's typo reaches it. It may be absent.
    pub role: PathBuf,
    /// The main file. It may be absent.
    pub file: PathBuf,
    /// The folder of drop-ins. It may be absent. In it, names that end in `.toml` and do not
    /// begin with a dot count, so what dpkg and editors leave behind does not.
    pub dropins: PathBuf,
}

impl Paths {
    /// `/usr/lib/guppy/NAME.d`, `/etc/guppy/NAME.toml` and `/etc/guppy/NAME.d`.
    pub fn of(name: &str) -> Self {
        let folder = Path::new("/etc/guppy");
        Self {
            role: format!("/usr/lib/guppy/{name}.d").into(),
            file: folder.join(format!("{name}.toml")),
            dropins: folder.join(format!("{name}.d")),
        }
    }

    /// The files to read, in order, and what is wrong with the folder.
    fn files(&self) -> (Vec<PathBuf>, Vec<Fault>) {
        let (mut files, mut faults) = (Vec::new(), Vec::new());
        match dropins(&self.role) {
            Ok(dropins) => files.extend(dropins),
            Err(fault) => faults.push(fault),
        }
        match fs::symlink_metadata(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => files.push(self.file.clone()),
        }
        match dropins(&self.dropins) {
            Ok(dropins) => files.extend(dropins),
            Err(fault) => faults.push(fault),
        }
        (files, faults)
    }
}

fn dropins(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let unreadable = |error: io::Error| Fault::of_file(folder, format!("cannot read it: {error}"));
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(unreadable(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(unreadable)?.file_name();
        let bytes = name.as_bytes();
        if !bytes.ends_with(b".toml") || bytes.starts_with(b".") {
            continue;
        }
        if names.len() == DROPINS_AT_MOST {
            let what = format!("more than {DROPINS_AT_MOST} drop-ins: none is read");
            return Err(Fault::of_file(folder, what));
        }
        names.push(name);
    }
    names.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Reads the files, merges and validates them.
///
/// # Errors
/// Everything that is wrong, one [`Fault`] a file, or the one value that is out of range.
pub fn load<T>(paths: &Paths) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Default + Validate,
{
    let (layers, faults) = layers::<T>(paths);
    whole(&layers, faults)
}

/// As [`load`], from these files in this order. Those that are not there are passed over.
///
/// # Errors
/// As those of [`load`].
pub fn load_files<T>(files: &[PathBuf]) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Validate,
{
    let absent = |file: &&PathBuf| {
        matches!(fs::symlink_metadata(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound)
    };
    let files = files.iter().filter(|file| !absent(file)).cloned().collect();
    let (layers, faults) = read_layers::<T>(files, Vec::new());
    whole(&layers, faults)
}

fn whole<T>(layers: &[Layer], faults: Vec<Fault>) -> Result<T, ConfigError>
where
    T: DeserializeOwned + Validate,
{
    if !faults.is_empty() {
        return Err(ConfigError(faults));
    }
    merged(layers).map(|(config, _)| config).map_err(|fault| ConfigError(vec![fault]))
}

/// All files that are TOML at all, valid or not, and what is wrong with any.
fn layers<T: DeserializeOwned>(paths: &Paths) -> (Vec<Layer>, Vec<Fault>) {
    let (files, faults) = paths.files();
    read_layers::<T>(files, faults)
}

fn read_layers<T: DeserializeOwned>(
    files: Vec<PathBuf>,
    mut faults: Vec<Fault>,
) -> (Vec<Layer>, Vec<Fault>) {
    let mut layers = Vec::new();
    for file in files {
        match Layer::read(&file) {
            Ok(layer) => {
                faults.extend(layer.check::<T>().err());
                layers.push(layer);
            }
            Err(fault) => faults.push(fault),
        }
    }
    (layers, faults)
}

/// The config that the layers make together, and its TOML.
fn merged<T>(layers: &[Layer]) -> Result<(T, toml::Table), Fault>
where
    T: DeserializeOwned + Validate,
{
    let mut table = toml::Table::new();
    for layer in layers {
        merge(&mut table, layer.table.clone());
    }
    match parsed::<T>(&table) {
        Ok(config) => Ok((config, table)),
        Err(problem) => Err(layer::blame(layers, &problem)),
    }
}

/// Tables key by key; of anything else the later one wins.
fn merge(into: &mut toml::Table, from: toml::Table) {
    for (key, value) in from {
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from),
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
}

/// Why a merged table is no config.
enum Problem {
    /// Its types: no file alone is wrong, so two of them contradict each other.
    Types(String),
    /// Its values.
    Values(Invalid),
}

fn parsed<T: DeserializeOwned + Validate>(table: &toml::Table) -> Result<T, Problem> {
    let config = T::deserialize(table.clone())
        .map_err(|error: toml::de::Error| Problem::Types(error.message().to_owned()))?;
    config.validate().map_err(Problem::Values)?;
    Ok(config)
}
