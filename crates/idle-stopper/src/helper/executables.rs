//! The executables in a drop-in folder, in the order of their names. Root runs them, so only root
//! may have written them: the folder and each file belong to root and nobody else may write there.

use std::fs::Metadata;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An executable, or why it is not run.
#[derive(Debug)]
pub struct Executable {
    /// Its file name.
    pub name: String,
    /// Its whole path.
    pub path: PathBuf,
    /// Why it is not run: "is not executable (chmod 755)".
    pub refused: Option<String>,
}

/// More files than this are a mistake.
const AT_MOST: usize = 256;

/// Lists a folder; one that is not there holds nothing.
///
/// # Errors
/// It cannot be read.
pub fn list(dir: &Path) -> Result<Vec<Executable>, String> {
    let failed = |error: std::io::Error| format!("{}: {error}", dir.display());
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let folder = dir.symlink_metadata().map_err(failed)?;
    let folder_fault = fault(&folder).map(|fault| format!("its folder {} {fault}", dir.display()));
    let mut found = Vec::new();
    for entry in entries.take(AT_MOST) {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_leftover(&name) {
            continue;
        }
        let path = entry.path();
        let refused = match path.symlink_metadata() {
            Ok(metadata) if !metadata.is_file() => Some("is not a regular file".to_owned()),
            Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => {
                Some("is not executable (chmod 755)".to_owned())
            }
            Ok(metadata) => folder_fault.clone().or_else(|| fault(&metadata)),
            Err(error) => Some(error.to_string()),
        };
        found.push(Executable { name, path, refused });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn fault(metadata: &Metadata) -> Option<String> {
    if metadata.uid() != 0 {
        Some("does not belong to root (chown root)".to_owned())
    } else if metadata.permissions().mode() & 0o022 != 0 {
        Some("can be written by others than root (chmod go-w)".to_owned())
    } else {
        None
    }
}

/// What editors and dpkg leave behind, and what a person hides (run-parts(8) skips the same).
fn is_leftover(name: &str) -> bool {
    name.starts_with('.')
        || name.ends_with('~')
        || [".dpkg-old", ".dpkg-new", ".dpkg-dist", ".dpkg-tmp", ".bak", ".disabled"]
            .iter()
            .any(|ending| name.ends_with(ending))
}
