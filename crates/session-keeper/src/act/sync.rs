//! Makes a turn outlive a power cut: agents do not fsync their transcripts.

use std::fs::File;
use std::io;
use std::path::Path;

/// Fsyncs a transcript and its folder. One that is not there has no turn.
///
/// # Errors
/// Those of the file system.
pub fn sync_transcript(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
