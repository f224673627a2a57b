//! Makes a turn outlive a power cut: agents do not fsync their transcripts.

use std::fs::{self, File};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::beside::TRANSCRIPTS;

/// The hook of a turn's end comes before the agent has written its answer down (claude 2.1.197: in
/// 3 of 3 turns, and of a first turn not even the prompt). So the transcript is looked at again
/// after each of these pauses, 6.35 s in all.
const PAUSES: [Duration; 7] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(800),
    Duration::from_millis(1600),
    Duration::from_millis(3200),
];

/// What changes with every word that is added to a file.
pub type Stamp = (u64, SystemTime);

/// Of a file; None: it is not there, or says nothing.
pub fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

/// Saves a transcript after a turn, as soon as what belongs to the turn is in it.
pub async fn save_turn(path: PathBuf) {
    follow(&path, &PAUSES, || sync_in_background(path.clone())).await;
}

/// Saves a transcript, and says so where it cannot. Whether it could.
pub async fn sync_in_background(path: PathBuf) -> bool {
    let save =
        move || sync_transcript(&path).map_err(|error| format!("{}: {error}", path.display()));
    let saved = TRANSCRIPTS.run(save).await;
    if let Err(why) = &saved {
        tracing::warn!(guppy_event = "not-saved", "a power cut would lose a turn: {why}");
    }
    saved.is_ok()
}

/// Saves at once, and after each pause if the file has changed since.
async fn follow<F: Future<Output = bool>>(path: &Path, pauses: &[Duration], save: impl Fn() -> F) {
    let mut saved = None;
    for pause in std::iter::once(&Duration::ZERO).chain(pauses) {
        tokio::time::sleep(*pause).await;
        // Before it is saved: what comes meanwhile changes it again.
        let now = stamp(path);
        if now.is_some() && now != saved && save().await {
            saved = now;
        }
    }
}

/// Fsyncs a transcript and its folder. One that is not there has no turn.
fn sync_transcript(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::cell::RefCell;

    use super::*;

    /// What was saved, each time.
    async fn saves(path: &Path, when: impl Fn(usize)) -> Vec<String> {
        let saved = RefCell::new(Vec::new());
        let write = async {
            for look in 0..4 {
                when(look);
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        let pauses = [Duration::from_millis(40); 4];
        let save = || {
            saved.borrow_mut().push(fs::read_to_string(path).unwrap());
            std::future::ready(true)
        };
        tokio::join!(write, follow(path, &pauses, save));
        saved.into_inner()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_answer_that_is_written_after_the_hook_is_saved_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript");
        let late = |look| match look {
            1 => fs::write(&path, "prompt").unwrap(),
            2 => fs::write(&path, "prompt, answer").unwrap(),
            _ => {}
        };
        let saved = saves(&path, late).await;
        assert_eq!(saved.last().map(String::as_str), Some("prompt, answer"), "{saved:?}");
        // And what does not change is left alone.
        assert_eq!(saves(&path, |_| ()).await.len(), 1);
    }
}
