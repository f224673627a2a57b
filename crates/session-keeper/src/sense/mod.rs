//! Room one: reads the world. What enters is tmux, cgroups, worktrees, the agents' own registries
//! and the shims' reports; what leaves is [`Evidence`]. Nothing here judges.
//!
//! **Architecture Invariant:** a failed read is [`Reading::Unknown`], never an empty answer: where
//! something is unknown, nothing is started and nothing is killed.

mod activity;
mod files;
mod look;
mod mounts;
mod neighbours;
mod open_file;
mod outcome;
mod panes;
mod provider;
mod registry;
mod twins;

use std::collections::BTreeMap;
use std::path::PathBuf;

use service::clock::Boottime;

use crate::conversation::Conversation;
use crate::learned::Server;
use crate::name::SessionName;

pub use activity::{Heard, is_dialog};
pub use look::{Left, Looker, Sight, View, Watched};
pub use neighbours::{STARTS_AT_MOST, Starts};
pub use panes::{AnyPane, Panes};
pub use provider::reach;

/// One sensor's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// What was read.
    Known(T),
    /// Why nothing could be read, in words for an operator.
    Unknown(String),
}

/// The tmux server on the user's socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TmuxServer {
    /// Nobody listens.
    Absent,
    /// It answers, and its agents can have cgroups of their own.
    Ours(Server),
    /// It answers, but its unit is being stopped: what is started now would only be ended.
    Ending,
    /// It answers, but is not the unit's: who it is, with the way out.
    Foreign(String),
}

/// The pane of a session's agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pane {
    /// tmux's id, `%7`: never used twice by one server.
    pub id: String,
    /// Its process: the shim.
    pub pid: u32,
    /// The process has ended, and tmux shows what it left (`remain-on-exit`).
    pub dead: bool,
    /// With what it exited; None: by a signal, or tmux does not say.
    pub status: Option<i32>,
}

/// What came of a start, as the shim has reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The number of the start.
    pub start: u64,
    /// What came of it.
    pub outcome: Outcome,
    /// The conversation whose lock the shim holds, or held.
    pub conversation: Option<Conversation>,
    /// Its agent has gone to a conversation that is locked by this other one.
    pub conflict: Option<String>,
    /// The server had gone when the agent ended, and nobody was stopping it.
    pub server_gone: bool,
}

/// How far a start came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The agent was started, and nothing more was reported.
    Started {
        /// The agent's process.
        pid: u32,
    },
    /// The agent has ended.
    Ended {
        /// With what; None: by a signal.
        code: Option<i32>,
        /// By which.
        signal: Option<i32>,
        /// An OOM killer ended it.
        oom: bool,
        /// The unit or the machine was stopping, or the server had gone: no exit is clean then.
        stopping: bool,
        /// Its pane was closed while the server lived.
        pane_closed: bool,
    },
    /// It was not started: the lock on the conversation or on the session is held.
    Locked(String),
    /// It was not started, for a reason that a person must mend.
    Refused(String),
}

/// What a running agent does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Activity {
    /// Nothing says it.
    #[default]
    Unknown,
    /// It is not ready yet.
    Starting,
    /// It waits for text.
    Idle,
    /// It is in its turn.
    Working,
    /// It waits for a person, and for what.
    Waiting(String),
}

/// What the agent of a session says of itself, alive or left by a dead one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// The conversation that it is in.
    pub conversation: Option<Conversation>,
    /// What it does, or did when it died.
    pub activity: Activity,
    /// A turn has begun since its start: it may have ended since, before anybody looked.
    pub turned: bool,
}

/// Everything that was read of one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Its pane; None: it has none.
    pub pane: Reading<Option<Pane>>,
    /// Whether its cgroup has processes.
    pub populated: Reading<bool>,
    /// What its last shim reported; None: nothing.
    pub report: Reading<Option<Report>>,
    /// Whether its worktree is a folder that is there.
    pub worktree: Reading<bool>,
    /// The mount point above a worktree that is not there: declared, and not mounted.
    pub unmounted: Option<PathBuf>,
    /// Who is in its conversation besides, where its agent has no registry to say so.
    pub twin: Twin,
    /// Whether the transcript of its conversation is there; None: its agent has none to look for.
    pub transcript: Reading<Option<bool>>,
    /// What its agent says.
    pub own: Own,
    /// A tmux session of its name was made by somebody else.
    pub name_taken: bool,
    /// The last lines of a dead pane.
    pub screen: String,
    /// A new id, for a conversation that begins.
    pub fresh: Option<Conversation>,
}

/// A process that somebody has started by hand in a session's conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Twin {
    /// It was not looked for.
    Unsought,
    /// There is none.
    Nobody,
    /// This one.
    Process(u32),
    /// There may be one, whose command line cannot be read: why.
    Hidden(String),
}

/// A process that is in a conversation, by the registry of its agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The agent.
    pub agent: String,
    /// The conversation.
    pub conversation: Conversation,
    /// The process; it lives.
    pub pid: u32,
    /// The session in whose cgroup it is; None: somebody started it by hand.
    pub session: Option<SessionName>,
}

/// The last answer of a provider's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// When it came, or did not.
    pub at: Boottime,
    /// Why there was none.
    pub failed: Option<String>,
}

/// Everything that was read in one look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The server.
    pub server: Reading<TmuxServer>,
    /// Who is in which conversation.
    pub holders: Reading<Vec<Holder>>,
    /// By address.
    pub probes: BTreeMap<String, Probe>,
    /// What the keepers of other users have started.
    pub neighbours: Reading<Vec<Starts>>,
    /// By session; each declared one is there.
    pub sessions: BTreeMap<SessionName, Seen>,
}
