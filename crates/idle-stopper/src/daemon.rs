//! What the loop and the Varlink service share: the state, the config, the holds, and the file in
//! /run that lets the next daemon of this boot go on where this one ended.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use service::clock::{Boottime, Clock};
use service::config::Live;
use tracing::{info, warn};

use crate::act::tell::{span, tell, wall};
use crate::config::{Config, Mode};
use crate::decide::{self, Action, Input, Phase, Record, State};
use crate::hold_lines::{HoldLines, Line};
use crate::holds::Holds;
use crate::sense::Hold;

/// The file in the state folder.
const RECORD_FILE: &str = "record.json";
/// It holds a stamp for each terminal and a moment for each lock; no honest one is longer.
const RECORD_AT_MOST: usize = 4 << 20;

/// The file.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Saved {
    /// /proc/sys/kernel/random/boot_id: what another boot has left is not ours.
    boot_id: String,
    record: Option<Record>,
    holds: Holds,
}

/// All that the daemon knows.
#[derive(Debug)]
pub struct Daemon {
    /// The time.
    pub clock: Clock,
    /// The config in force.
    pub config: Live<Config>,
    /// The holds in force.
    pub holds: Holds,
    hold_lines: HoldLines,
    state: State,
    boot_id: String,
    state_dir: PathBuf,
    written: String,
    write_failed: bool,
}

impl Daemon {
    /// Begins, or goes on where an earlier run of this boot has ended.
    pub fn start(clock: Clock, config: Live<Config>, state_dir: PathBuf) -> Self {
        let boot_id = service::clock::boot_id().unwrap_or_else(|error| {
            warn!("cannot tell this boot from another ({error}): nothing is taken over");
            String::new()
        });
        let now = clock.now();
        let saved = read(&state_dir.join(RECORD_FILE), &boot_id);
        let state = State::new(now, config.config(), saved.record);
        let mut daemon = Self {
            clock,
            config,
            holds: saved.holds,
            hold_lines: HoldLines::default(),
            state,
            boot_id,
            state_dir,
            written: String::new(),
            write_failed: false,
        };
        daemon.save();
        daemon
    }

    /// The state as of the last tick.
    pub const fn state(&self) -> &State {
        &self.state
    }

    /// Where this daemon keeps its own state.
    pub fn state_dir(&self) -> &Path {
        &self.state_dir
    }

    /// The config in force.
    pub fn settings(&self) -> &Config {
        self.config.config()
    }

    /// When the loop must look again.
    pub fn next_tick(&self) -> Boottime {
        self.state.next_tick(self.settings(), self.clock.now())
    }

    /// Ends the holds whose time has come, and returns the others.
    pub fn live_holds(&mut self, lives: impl Fn(crate::sense::Process) -> bool) -> Vec<Hold> {
        let now = self.clock.now();
        let at_most = self.settings().hold_at_most;
        for hold in self.holds.expire(now, at_most, lives) {
            self.tell_of_hold(hold.uid, || {
                info!(
                    guppy_event = "hold-ended",
                    "hold {} of {} ended ({})", hold.id, hold.who, hold.why
                );
            });
        }
        self.holds.list().to_vec()
    }

    /// Writes a line about a hold of this user, unless there were too many of late.
    pub fn tell_of_hold(&mut self, uid: u32, tell: impl FnOnce()) {
        let line = self.hold_lines.take(uid, self.clock.now());
        if line != Line::Dropped {
            tell();
        }
        if line == Line::Last {
            info!("holds come and go faster than they are told here: for a while, see guppy idle");
        }
    }

    /// Decides, writes the journal's lines and the record, and returns what is left to do.
    pub fn decide(&mut self, input: Input<'_>) -> Vec<Action> {
        let now = self.clock.now();
        // The state is moved, not copied: with 10,000 sockets it is a megabyte.
        let before = std::mem::replace(&mut self.state, State::empty());
        let (state, mut actions) = decide::decide(before, input, self.config.config(), now);
        self.state = state;
        actions.retain(|action| match action {
            Action::Tell(event) => {
                tell(event, now);
                false
            }
            _ => true,
        });
        self.save();
        actions
    }

    /// Writes what the next daemon of this boot must know, if it has changed.
    pub fn save(&mut self) {
        let saved = Saved {
            boot_id: self.boot_id.clone(),
            record: Some(self.state.record()),
            holds: self.holds.clone(),
        };
        let Ok(text) = serde_json::to_string(&saved) else {
            return;
        };
        if text == self.written {
            return;
        }
        let path = self.state_dir.join(RECORD_FILE);
        match service::state::write(&path, text.as_bytes()) {
            Ok(()) => {
                self.written = text;
                self.write_failed = false;
            }
            Err(error) if !self.write_failed => {
                self.write_failed = true;
                warn!("{}: {error}; a restart would begin the count anew", path.display());
            }
            Err(_) => {}
        }
    }

    /// The line for `systemctl status`, in moments rather than spans so that it seldom changes.
    pub fn status(&self) -> String {
        let now = self.clock.now();
        let config = self.settings();
        let last = self.state.last_activity();
        let would = match config.mode {
            Mode::Stop => "stops",
            Mode::Observe => "would stop (mode observe)",
        };
        match (self.state.phase(), self.state.stops_at(config)) {
            (Phase::Settling { until, .. }, _) => format!("settling until {}", wall(*until, now)),
            (Phase::Active { .. }, _) => format!("active: {}", last.what),
            (Phase::Stopping { .. }, _) => match self.state.refused() {
                Some(why) => format!("stopping, refused so far: {why}"),
                None => format!("{would} now; last: {}", last.what),
            },
            (phase, Some(stop)) => format!(
                "{} since {} (last: {}); {would} at {}",
                phase.name(),
                wall(last.at, now),
                last.what,
                wall(stop, now)
            ),
            (phase, None) => phase.name().to_owned(),
        }
    }

    /// "idle 30min 4s (last: typing: ssh alice from 100.64.0.2)", for the terminals.
    pub fn idle_text(&self) -> String {
        let last = self.state.last_activity();
        format!("idle {}; last: {}", span(self.clock.now().since(last.at)), last.what)
    }
}

/// What cannot be read, or is of another boot, is as nothing: the count begins now.
fn read(path: &Path, boot_id: &str) -> Saved {
    let text = match service::state::read(path, RECORD_AT_MOST) {
        Ok(Some(text)) => text,
        Ok(None) => return Saved::default(),
        Err(error) => {
            warn!("{}: {error}; the count begins anew", path.display());
            return Saved::default();
        }
    };
    match serde_json::from_str::<Saved>(&text) {
        Ok(saved) if !boot_id.is_empty() && saved.boot_id == boot_id => saved,
        Ok(_) => Saved::default(),
        Err(error) => {
            warn!("{}: {error}; the count begins anew", path.display());
            Saved::default()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::time::Duration;

    use service::config::Paths;

    use super::*;
    use crate::holds::Wish;

    /// A daemon of this boot that starts `hours` after it.
    fn start(folder: &Path, hours: u64) -> Daemon {
        let paths = Paths {
            role: folder.join("role.d"),
            file: folder.join("idle-stopper.toml"),
            dropins: folder.join("idle-stopper.d"),
        };
        let clock = Clock::driven(hour(hours));
        Daemon::start(clock, Live::start(paths, None), folder.to_owned())
    }

    fn hour(hours: u64) -> Boottime {
        Boottime::from_millis(hours * 3_600_000)
    }

    #[test]
    fn only_what_this_boot_has_left_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(RECORD_FILE);
        let mut first = start(folder.path(), 1);
        let wish = Wish {
            uid: 1000,
            who: "alice".to_owned(),
            why: "a long wait".to_owned(),
            span: None,
            process: None,
        };
        let hold = first.holds.place(wish, Duration::from_secs(36_000), hour(1)).unwrap();
        first.save();
        let left = fs::read_to_string(&path).unwrap();
        let of_boot = |id: &str| left.replace(&first.boot_id, id);
        let half = left.split_at(left.len() / 2).0.to_owned();

        let next = start(folder.path(), 2);
        assert_eq!(next.holds.list(), [hold]);
        assert_eq!(next.state.last_activity().at, hour(1));
        for other in [
            of_boot("8b2f7a4e-0d55-4c0c-9a53-1c9a2a3f7f10"),
            of_boot(""),
            half,
            String::new(),
            "{}".to_owned(),
            "[1, 2]".to_owned(),
        ] {
            fs::write(&path, &other).unwrap();
            let next = start(folder.path(), 2);
            assert!(next.holds.list().is_empty(), "{other}");
            assert_eq!(next.state.last_activity().at, hour(2), "{other}");
        }
        // Two that could not tell their boots are not of the same.
        fs::write(&path, of_boot("")).unwrap();
        assert_eq!(read(&path, ""), Saved::default());
    }
}
