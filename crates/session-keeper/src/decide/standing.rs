//! Where a session stands, for people: `guppy ls` and the options of its pane.

use std::fmt;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

/// In one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Something cannot be read: nothing is started and nothing is killed.
    Unknown,
    /// A person must mend something outside: its file, its worktree.
    Blocked,
    /// It stays stopped until a person starts it.
    Stopped,
    /// It would only fail again: until a reset, or a person.
    Parked,
    /// It will start by itself.
    Due,
    /// Its agent is not ready yet.
    Starting,
    /// Its agent is in its turn.
    Working,
    /// Its agent waits for a person.
    Waiting,
    /// Its agent waits for text.
    Idle,
    /// Its agent was cut off in the middle of a turn, is back, and waits.
    Interrupted,
    /// Its agent runs, and does not say what it does.
    Running,
    /// Its agent was asked to end.
    Ending,
}

impl State {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Blocked => "blocked",
            Self::Stopped => "stopped",
            Self::Parked => "parked",
            Self::Due => "due",
            Self::Starting => "starting",
            Self::Working => "working",
            Self::Waiting => "waiting",
            Self::Idle => "idle",
            Self::Interrupted => "interrupted",
            Self::Running => "running",
            Self::Ending => "ending",
        }
    }
}

/// The word and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The word.
    pub state: State,
    /// Why, and what to do; may be empty.
    pub why: String,
    /// Until then, if nothing else happens.
    pub until: Option<Boottime>,
}

impl Standing {
    pub(super) fn of(state: State, why: impl Into<String>) -> Self {
        Self { state, why: why.into(), until: None }
    }

    /// See [`State::Unknown`].
    pub fn unknown(why: impl Into<String>) -> Self {
        Self::of(State::Unknown, why)
    }

    pub(super) fn blocked(why: impl Into<String>) -> Self {
        Self::of(State::Blocked, why)
    }

    pub(super) fn stopped(why: impl Into<String>) -> Self {
        Self::of(State::Stopped, why)
    }

    pub(super) fn parked(why: impl Into<String>) -> Self {
        Self::of(State::Parked, why)
    }

    pub(super) fn due(why: impl Into<String>) -> Self {
        Self::of(State::Due, why)
    }

    pub(super) fn until(self, until: Boottime) -> Self {
        Self { until: Some(until), ..self }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why.as_str() {
            "" => f.write_str(self.state.as_str()),
            why => write!(f, "{}: {why}", self.state.as_str()),
        }
    }
}
