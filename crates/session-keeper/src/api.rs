//! `dev.guppy.SessionKeeper`, the Varlink interface of this daemon: its types, its errors and the
//! proxy that the CLI calls it with. Served at `/run/guppy/session-keeper/USER.sock`, for that
//! user alone.

use serde::{Deserialize, Serialize};
use zlink::{ReplyError, introspect, proxy};

/// All that is known, as of the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, introspect::Type)]
pub struct Listing {
    /// The tmux server: `3.5a (pid 812)`, or why there is none.
    pub server: String,
    /// The declared sessions, by name.
    pub sessions: Vec<SessionLine>,
    /// tmux sessions that no file declares.
    pub others: Vec<OtherLine>,
    /// What is wrong with files, each with the remedy.
    pub problems: Vec<String>,
}

/// One declared session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, introspect::Type)]
pub struct SessionLine {
    /// `PROJECT/BRANCH`.
    pub name: String,
    /// The agent; empty where the file is refused.
    pub agent: String,
    /// `unknown`, `blocked`, `stopped`, `parked`, `due`, `starting`, `working`, `waiting`, `idle`,
    /// `interrupted`, `running` or `ending`.
    pub state: String,
    /// Why, with what to do; may be empty.
    pub why: String,
    /// Seconds until it starts, where that is known.
    pub until_seconds: Option<u64>,
    /// Where the agent works.
    pub worktree: String,
    /// The conversation that it is in or goes on with.
    pub conversation: Option<String>,
    /// Conversations before that, the latest last.
    pub history: Vec<String>,
    /// The agent's process, while it lives.
    pub pid: Option<u64>,
    /// tmux's id of its pane.
    pub pane: Option<String>,
    /// Clients that look at it.
    pub attached: u64,
    /// Starts so far.
    pub starts: u64,
    /// What its shim has to say: limits that are not kept, a login shell that did not answer.
    pub remarks: Vec<String>,
}

/// A tmux session that a person made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, introspect::Type)]
pub struct OtherLine {
    /// Its name in tmux.
    pub session: String,
    /// How many panes it has.
    pub panes: u64,
    /// Clients that look at it.
    pub attached: u64,
}

/// What an agent's hook, or tmux's, has to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, introspect::Type)]
pub struct HookEvent {
    /// The agent's word for it: `SessionStart`; of tmux `pane-died`.
    pub event: String,
    /// `PROJECT/BRANCH`, from $GUPPY_SESSION.
    pub session: Option<String>,
    /// The number of the start, from $GUPPY_START.
    pub start: Option<u64>,
    /// The conversation.
    pub conversation: Option<String>,
    /// What the event is about: the tool that wants a permission, the error of a turn.
    pub detail: Option<String>,
}

/// What a shim says when its report is on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, introspect::Type)]
pub struct ReportHint {
    /// `PROJECT/BRANCH`.
    pub name: String,
    /// The number of the start.
    pub start: u64,
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, ReplyError, introspect::ReplyError)]
#[zlink(interface = "dev.guppy.SessionKeeper")]
pub enum Error {
    /// The caller is neither the keeper's user nor root (exit status 4).
    Refused {
        /// Who may.
        message: String,
    },
    /// No file declares a session of this name.
    NoSuchSession {
        /// The name.
        name: String,
    },
    /// The agent is not ready for text.
    NotReady {
        /// What it does, and what to do.
        message: String,
    },
    /// A parameter is not valid.
    InvalidArgument {
        /// Which, and what would be valid.
        message: String,
    },
    /// The keeper could not do it.
    Failed {
        /// Why, and what to do.
        message: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { message }
            | Self::NotReady { message }
            | Self::InvalidArgument { message }
            | Self::Failed { message } => f.write_str(message),
            Self::NoSuchSession { name } => {
                write!(f, "no file declares a session {name} (see: guppy ls)")
            }
        }
    }
}

impl std::error::Error for Error {}

/// The daemon, seen from a client.
#[proxy("dev.guppy.SessionKeeper")]
pub trait SessionKeeper {
    /// All that is known, as of the last look.
    async fn list(&mut self) -> zlink::Result<Result<Listing, Error>>;

    /// Looks again now: a file has changed.
    async fn look(&mut self) -> zlink::Result<Result<(), Error>>;

    /// Starts a session, whatever held it back; one that runs goes on.
    async fn start(&mut self, name: &str) -> zlink::Result<Result<(), Error>>;

    /// Ends a session's agent; it stays stopped.
    async fn stop(&mut self, name: &str) -> zlink::Result<Result<(), Error>>;

    /// Ends a session's agent and starts it again in its conversation.
    async fn restart(&mut self, name: &str) -> zlink::Result<Result<(), Error>>;

    /// Forgets a session whose file is gone.
    async fn forget(&mut self, name: &str) -> zlink::Result<Result<(), Error>>;

    /// Gives text to an agent that is ready, as one prompt.
    async fn send(&mut self, name: &str, text: &str) -> zlink::Result<Result<(), Error>>;

    /// An agent's or tmux's hook tells something.
    async fn hook(&mut self, event: HookEvent) -> zlink::Result<Result<(), Error>>;
}
