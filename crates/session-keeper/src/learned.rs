//! What the keeper has learned of a session, and must know after a power cut:
//! `STATE/sessions/NAME.json`. Never a mirror of the world: panes, processes and cgroups are read
//! each time.
//!
//! A file is written whole, fsynced, renamed, and the folder fsynced: without the last step the
//! version that was written last is gone after 9 of 10 power cuts. The version before stays beside
//! it, as `NAME.json.before`, and is taken, loudly, where the newer one cannot be read.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;
use service::state;

use crate::conversation::Conversation;

/// No honest file is longer.
const AT_MOST: usize = 1 << 20;
/// This many earlier conversations are remembered.
pub const HISTORY_AT_MOST: usize = 20;
/// This many starts and crashes are remembered: those of the last hour, and no more than this.
pub const MOMENTS_AT_MOST: usize = 64;
const VERSION: u32 = 1;

/// A moment of one boot. Moments of two boots do not compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// /proc/sys/kernel/random/boot_id.
    pub boot: String,
    /// Milliseconds of CLOCK_BOOTTIME.
    pub at: Boottime,
}

impl Moment {
    /// How long ago it was, if that was in this boot.
    pub fn age(&self, boot: &str, now: Boottime) -> Option<Duration> {
        (self.boot == boot).then(|| now.since(self.at))
    }
}

/// Which process a tmux server is: a new one has lost all panes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Its pid.
    pub pid: u32,
    /// Its start, in clock ticks since boot (field 22 of /proc/PID/stat).
    pub started: u64,
    /// The boot.
    pub boot: String,
}

/// The last start that was ordered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Begun {
    /// When.
    pub at: Moment,
    /// In which server.
    pub server: Server,
    /// It went on with a conversation.
    pub resumed: bool,
}

/// Why a session stays stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// `guppy stop`.
    Person,
    /// Its pane was removed with tmux while the server lived.
    Removed,
    /// The agent ended by itself, and well.
    Exited,
}

/// Why a session is not started again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Park {
    /// For people, with what to do.
    pub why: String,
    /// It ends here, in seconds of the wall clock since 1970: a provider gives its reset so. None:
    /// a person ends it.
    pub until: Option<u64>,
}

/// Why a start waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// Until then; a moment of another boot has passed.
    pub until: Moment,
    /// For people.
    pub why: String,
}

/// All of it. What this version does not know is skipped: after a downgrade the conversation must
/// still be found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// The version of this format.
    pub version: u32,
    /// The number of the last start that was ordered; 0: there was none.
    pub start: u64,
    /// That start.
    pub begun: Option<Begun>,
    /// The last start whose end was judged.
    pub judged: u64,
    /// The conversation to go on with.
    pub conversation: Option<Conversation>,
    /// The ones before it, the latest last. An end erases none.
    pub history: Vec<Conversation>,
    /// It stays stopped.
    pub stopped: Option<Stop>,
    /// When `guppy stop` was said, while the agent has not ended.
    pub ending: Option<Moment>,
    /// `guppy restart` was said: this start ends and is no crash.
    pub restart: Option<u64>,
    /// It is parked.
    pub parked: Option<Park>,
    /// Its start waits.
    pub wait: Option<Wait>,
    /// Crashes, the latest last.
    pub crashes: Vec<Moment>,
    /// Starts of the last hour, the latest last.
    pub starts: Vec<Moment>,
    /// The boot in which a person has started a session that has no autostart.
    pub asked: Option<String>,
    /// For people, until a person starts or restarts it: what was lost.
    pub note: Option<String>,
    /// The conversation's transcript was seen: without it, what was said is lost.
    pub transcribed: bool,
    /// A new conversation was begun because the old one was not found.
    pub fallback: bool,
    /// The agent is in the middle of a turn.
    pub working: bool,
    /// It was cut off in the middle of a turn, and nobody has gone on since.
    pub interrupted: bool,
    /// The line of `on_resume = "continue"` was sent, and no turn has ended since.
    pub continued: bool,
    /// The first prompt was sent.
    pub prompted: bool,
}

impl Default for Learned {
    fn default() -> Self {
        Self {
            version: VERSION,
            start: 0,
            begun: None,
            judged: 0,
            conversation: None,
            history: Vec::new(),
            stopped: None,
            ending: None,
            restart: None,
            parked: None,
            wait: None,
            crashes: Vec::new(),
            starts: Vec::new(),
            asked: None,
            note: None,
            transcribed: false,
            fallback: false,
            working: false,
            interrupted: false,
            continued: false,
            prompted: false,
        }
    }
}

impl Learned {
    /// Goes over to another conversation; the one before stays in the history.
    pub fn move_to(&mut self, conversation: Option<Conversation>) {
        if self.conversation == conversation {
            return;
        }
        self.transcribed = false;
        if let Some(before) = std::mem::replace(&mut self.conversation, conversation) {
            self.history.retain(|known| *known != before);
            self.history.push(before);
            let surplus = self.history.len().saturating_sub(HISTORY_AT_MOST);
            self.history.drain(..surplus);
        }
    }

    /// A person says: start. All that held it back is forgotten.
    pub fn ask_start(&mut self, boot: &str) {
        self.stopped = None;
        self.ending = None;
        self.parked = None;
        self.wait = None;
        self.crashes.clear();
        self.note = None;
        self.fallback = false;
        self.asked = Some(boot.to_owned());
    }

    /// A person says: stop.
    pub fn ask_stop(&mut self, now: Moment) {
        self.stopped = Some(Stop::Person);
        self.restart = None;
        self.parked = None;
        self.wait = None;
        self.ending = Some(now);
    }

    /// A person says: end this one and start it again.
    pub fn ask_restart(&mut self, now: Moment) {
        self.ask_start(&now.boot);
        self.restart = Some(self.start);
        self.ending = Some(now);
    }
}

/// Where a session's file is.
pub fn path_of(state_dir: &Path, stem: &str) -> PathBuf {
    state_dir.join("sessions").join(format!("{stem}.json"))
}

fn before(path: &Path) -> PathBuf {
    path.with_extension("json.before")
}

/// What was read, and what is wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Read {
    /// What is known.
    pub learned: Learned,
    /// For the journal: the newest version could not be read, and what was taken instead.
    pub wrong: Option<String>,
}

/// Reads the newest version, else the one before it. A session without a file is a new one.
///
/// # Errors
/// The file system gives no answer (EIO, EACCES): nothing is known. Not the same as no file.
pub fn read(path: &Path) -> io::Result<Read> {
    let wrong = match read_one(path) {
        Ok(Some(learned)) => return Ok(Read { learned, wrong: None }),
        // A rename is atomic: without the newest there is no older either, unless a person took
        // the newest away.
        Ok(None) => None,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Some(error),
        Err(error) => return Err(error),
    };
    let older = match read_one(&before(path)) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(None),
        older => older,
    }?;
    let said = wrong.map(|error| {
        let instead = match older {
            Some(_) => "going on with the version before it",
            None => "nothing is known of the session but its reports",
        };
        format!("{}: {error}; {instead}", path.display())
    });
    Ok(Read { learned: older.unwrap_or_default(), wrong: said })
}

fn read_one(path: &Path) -> io::Result<Option<Learned>> {
    let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let Some(text) = state::read(path, AT_MOST)? else { return Ok(None) };
    let learned: Learned =
        serde_json::from_str(&text).map_err(|error| invalid(error.to_string()))?;
    match learned.version {
        VERSION => Ok(Some(learned)),
        other => Err(invalid(format!("version {other}, not {VERSION}"))),
    }
}

/// Writes it so that it outlives a power cut, and keeps what was there.
///
/// # Errors
/// Those of the file system; what was there then still is.
pub fn write(path: &Path, learned: &Learned) -> io::Result<()> {
    let text = serde_json::to_vec(learned).map_err(io::Error::other)?;
    // Only a version that can be read is worth keeping. A hard link costs no write of its data;
    // the fsync of the folder below makes both names durable.
    if read_one(path).is_ok_and(|there| there.is_some()) {
        let before = before(path);
        match fs::remove_file(&before) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::hard_link(path, &before)?,
        }
    }
    state::write_durably(path, &text)
}

/// Forgets a session.
///
/// # Errors
/// Those of the file system.
pub fn remove(path: &Path) -> io::Result<()> {
    for path in [path, &before(path)] {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn numbered(start: u64) -> Learned {
        Learned { start, ..Learned::default() }
    }

    #[test]
    fn the_version_before_is_kept_and_taken_loudly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("shop+fix.json");
        assert_eq!(read(&path).unwrap(), Read::default());
        for start in 1..=3 {
            write(&path, &numbered(start)).unwrap();
        }
        assert_eq!(read(&path).unwrap(), Read { learned: numbered(3), wrong: None });

        for broken in ["", "{", "{\"version\":2}", "{\"version\":1,\"start\":-1}", "\0\0\0"] {
            fs::write(&path, broken).unwrap();
            let read = read(&path).unwrap();
            assert_eq!(read.learned, numbered(2), "{broken:?}");
            assert!(read.wrong.unwrap().contains("the version before it"), "{broken:?}");
        }
        // What cannot be read never takes the place of what can.
        write(&path, &numbered(4)).unwrap();
        fs::write(&path, "").unwrap();
        assert_eq!(read(&path).unwrap().learned, numbered(2));

        fs::write(before(&path), "x").unwrap();
        let nothing = read(&path).unwrap();
        assert_eq!(nothing.learned, Learned::default());
        assert!(nothing.wrong.unwrap().contains("nothing is known"));

        remove(&path).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_system_that_gives_no_answer_is_not_a_new_session() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(read(&file.path().join("below.json")).is_err());
    }

    #[test]
    fn a_name_of_the_longest_kind_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let stem = "a".repeat(crate::name::STEM_AT_MOST);
        let path = path_of(folder.path(), &stem);
        fs::create_dir(path.parent().unwrap()).unwrap();
        write(&path, &numbered(1)).unwrap();
        write(&path, &numbered(2)).unwrap();
        assert_eq!(read(&path).unwrap().learned.start, 2);
    }

    #[test]
    fn conversations_are_never_forgotten_by_a_move() {
        let id = |text: &str| Some(Conversation::parse(text).unwrap());
        let mut learned = Learned::default();
        for at in 0..HISTORY_AT_MOST + 5 {
            learned.move_to(id(&format!("c{at}")));
        }
        learned.move_to(id("c10"));
        learned.move_to(id("c10"));
        assert_eq!(learned.history.len(), HISTORY_AT_MOST);
        assert_eq!(learned.history.last(), id(&format!("c{}", HISTORY_AT_MOST + 4)).as_ref());
        learned.move_to(None);
        assert_eq!(learned.history.iter().filter(|known| known.as_str() == "c10").count(), 1);
    }
}
