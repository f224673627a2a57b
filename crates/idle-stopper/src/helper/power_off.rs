//! `idle-stopper-helper power-off`: the last resort's second look. Its unit has PID 1 power the box
//! off when this succeeds (SuccessAction=), and started it because the daemon left a request. It
//! asks whether the request is of this moment and whether this box may stop itself at all.

use std::path::Path;

use service::clock::{Boottime, Clock};
use service::config::{Live, Paths};

use super::STATE_DIR;
use crate::act::{MAY_BE_OLD, REQUEST_FILE};
use crate::config::{Config, Mode};

/// No honest request is longer.
const LONGEST: usize = 32;

/// Takes the request.
///
/// # Errors
/// Why the box stays up, in words for the journal.
pub fn run() -> Result<(), String> {
    let mode = Live::<Config>::start(Paths::of("idle-stopper"), None).config().mode;
    take(&Path::new(STATE_DIR).join(REQUEST_FILE), mode, Clock::Kernel.now())?;
    println!("the daemon has asked for it, past D-Bus: powering off");
    Ok(())
}

fn take(path: &Path, mode: Mode, now: Boottime) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    let request = service::state::read(path, LONGEST).map_err(failed);
    // Whatever it says: systemd starts this again for as long as it is there.
    std::fs::remove_file(path).map_err(failed)?;
    let text = request?.ok_or_else(|| format!("{} is gone", path.display()))?;
    let asked = text
        .parse()
        .map(Boottime::from_millis)
        .map_err(|_| format!("{} is no moment of CLOCK_BOOTTIME: {text:?}", path.display()))?;
    if asked > now || now.since(asked) > MAY_BE_OLD {
        return Err(format!("the request is not of this moment: {asked}, and it is {now}"));
    }
    match mode {
        Mode::Stop => Ok(()),
        Mode::Observe => Err("in mode observe nothing is powered off".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const NOW: Boottime = Boottime::from_millis(1_000_000);

    /// What comes of a request that says `text`; it is gone in any case.
    fn taken(text: &str, mode: Mode) -> Result<(), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(REQUEST_FILE);
        std::fs::write(&path, text).unwrap();
        let taken = take(&path, mode, NOW);
        assert!(path.symlink_metadata().is_err(), "the request is still there");
        taken
    }

    #[test]
    fn a_request_of_this_moment_is_granted_where_the_box_may_stop_itself() {
        assert_eq!(taken("1000000", Mode::Stop), Ok(()));
        assert_eq!(taken("971000", Mode::Stop), Ok(()));
        let why = taken("1000000", Mode::Observe).unwrap_err();
        assert!(why.contains("mode observe"), "{why}");
    }

    #[test]
    fn a_request_of_another_moment_or_none_at_all_stops_nothing() {
        for (text, because) in [
            ("900000", "not of this moment"),
            ("1000001", "not of this moment"),
            ("", "no moment"),
            ("-1", "no moment"),
            ("now", "no moment"),
            ("00000000000000000000000000000000000001000000", "larger than"),
        ] {
            let why = taken(text, Mode::Stop).unwrap_err();
            assert!(why.contains(because), "{text}: {why}");
        }
        assert!(take(Path::new("/nowhere/power-off"), Mode::Stop, NOW).is_err());
    }

    #[test]
    fn what_is_no_file_is_no_request_and_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(REQUEST_FILE);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let why = take(&path, Mode::Stop, NOW).unwrap_err();
        assert!(why.contains("not a regular file"), "{why}");
        assert!(path.symlink_metadata().is_err(), "systemd would start it again and again");
    }
}
