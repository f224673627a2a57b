//! The last resort, where there is no D-Bus or no polkit: a file in the daemon's own folder, which
//! PID 1 watches (guppy-idle-stopper-poweroff.path). It says when it was written, so that one that
//! nobody took then stops nobody's work later.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use service::clock::Boottime;
use tokio::time::{Instant, sleep};

use super::LAST_RESORT_UNIT;

/// The request, in the daemon's state folder: milliseconds of CLOCK_BOOTTIME.
pub const REQUEST_FILE: &str = "power-off";

/// An older request is not for this moment.
pub const MAY_BE_OLD: Duration = Duration::from_secs(30);

/// systemd takes it at once; a busy box may need a moment.
const TAKEN_AT_MOST: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Asks PID 1 to power off, and waits until the request was taken: then its file is gone.
///
/// # Errors
/// In words for the journal: it cannot be written, or nobody takes it.
pub async fn last_resort(state_dir: &Path, now: Boottime) -> Result<(), String> {
    ask(state_dir, now, TAKEN_AT_MOST).await
}

async fn ask(state_dir: &Path, now: Boottime, at_most: Duration) -> Result<(), String> {
    let path = state_dir.join(REQUEST_FILE);
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    service::state::write(&path, now.as_millis().to_string().as_bytes()).map_err(failed)?;
    let deadline = Instant::now() + at_most;
    while path.symlink_metadata().is_ok() {
        if Instant::now() >= deadline {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
            return Err(format!(
                "nobody has taken the request {} (is {LAST_RESORT_UNIT} active?)",
                path.display()
            ));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: Boottime = Boottime::from_millis(1_234_567);

    #[tokio::test]
    async fn a_request_that_is_taken_is_an_order_that_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(REQUEST_FILE);
        let take = async {
            // The request comes before its first wait.
            let said = std::fs::read_to_string(&file).unwrap();
            std::fs::remove_file(&file).unwrap();
            said
        };
        let (asked, said) = tokio::join!(last_resort(folder.path(), NOW), take);
        assert_eq!((asked, said.as_str()), (Ok(()), "1234567"));
    }

    #[tokio::test]
    async fn a_request_that_nobody_takes_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let why = ask(folder.path(), NOW, LOOK_EVERY).await.unwrap_err();
        assert!(why.contains("nobody has taken the request"), "{why}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        let nowhere = last_resort(Path::new("/nowhere"), NOW).await.unwrap_err();
        assert!(nowhere.contains("/nowhere/power-off"), "{nowhere}");
    }
}
