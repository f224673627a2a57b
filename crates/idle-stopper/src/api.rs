//! `dev.guppy.IdleStopper`, the Varlink interface of this daemon: its types, its errors and the
//! proxy that the CLI calls it with. Served at `/run/guppy/idle-stopper.sock`.
//!
//! Moments are given as the seconds since or until then, which need no clock of the asker's; only
//! `summary` has one as text for people.

use serde::{Deserialize, Serialize};
use zlink::{ReplyError, introspect, proxy};

/// Where the socket is, unless told otherwise.
pub const SOCKET: &str = "/run/guppy/idle-stopper.sock";

/// All that the daemon knows at its last tick.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Explanation {
    /// `observe` or `stop`.
    pub mode: String,
    /// `settling`, `active`, `idle`, `warned` or `stopping`.
    pub phase: String,
    /// Seconds the phase has lasted.
    pub phase_seconds: u64,
    /// One line for people: why the box is up, or why and when it stops.
    pub summary: String,
    /// Seconds until the box stops if nothing happens; None while something is active.
    pub stops_in_seconds: Option<u64>,
    /// Seconds since the last activity.
    pub idle_seconds: u64,
    /// What the last activity was.
    pub last_activity: String,
    /// The setting `idle_after`, in seconds.
    pub idle_after_seconds: u64,
    /// The setting `warning`, in seconds.
    pub warning_seconds: u64,
    /// Each kind of evidence, in the order of the manual.
    pub evidence: Vec<EvidenceLine>,
    /// Holds in force.
    pub holds: Vec<HoldLine>,
    /// Why the last attempt to power off did not work; None: there was none or it worked.
    pub refused: Option<String>,
    /// What is wrong with the config in the files, if the daemon runs on another one.
    pub config_error: Option<String>,
}

/// One kind of evidence.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct EvidenceLine {
    /// `terminals`, `commands`, `tcp`, `cpu`, `disk`, `network`, `builds`, `inhibitors`,
    /// `packages`, `holds`, `checks`.
    pub kind: String,
    /// `active`, `quiet`, `unknown`, `ignored` (unknown for too long) or `off`.
    pub state: String,
    /// Seconds that the state has lasted.
    pub state_seconds: u64,
    /// Seconds since this kind was last active; None: never in this run of the daemon.
    pub last_active_seconds: Option<u64>,
    /// What was seen, with its numbers, or why nothing was.
    pub detail: String,
}

/// One hold.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct HoldLine {
    /// What `Release` takes.
    pub id: u64,
    /// Who placed it.
    pub who: String,
    /// Why, in their words.
    pub why: String,
    /// Seconds since it was placed.
    pub since_seconds: u64,
    /// Seconds until it ends at the latest.
    pub left_seconds: u64,
    /// The process it ends with, if any.
    pub pid: Option<u64>,
}

/// What the daemon finds of its own rights, for `guppy doctor`.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Rights {
    /// logind's CanPowerOff for the daemon's user: `yes`, `no`, `challenge`, `na`, or an error.
    pub can_power_off: String,
    /// `observe` or `stop`.
    pub mode: String,
    /// Kinds of evidence that are Unknown now, with the reason.
    pub unknown: Vec<String>,
    /// What is wrong with the config in the files; None: it is in force.
    pub config_error: Option<String>,
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, ReplyError, introspect::ReplyError)]
#[zlink(interface = "dev.guppy.IdleStopper")]
pub enum Error {
    /// The caller's uid may not do this, or nobody may: a hold that is too long, or one too many
    /// (exit status 4).
    Refused {
        /// Why, and who may or what would be granted.
        message: String,
    },
    /// No hold has this id.
    NoSuchHold {
        /// The id that was asked for.
        id: u64,
    },
    /// The daemon could not do it.
    Failed {
        /// Why, and what to do.
        message: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { message } | Self::Failed { message } => f.write_str(message),
            Self::NoSuchHold { id } => write!(f, "there is no hold {id} (see: guppy idle)"),
        }
    }
}

impl std::error::Error for Error {}

/// The daemon, seen from a client.
#[proxy("dev.guppy.IdleStopper")]
pub trait IdleStopper {
    /// The state of the last tick, explained.
    async fn explain(&mut self) -> zlink::Result<Result<Explanation, Error>>;

    /// Keeps the box up for `seconds`, at most `hold_at_most`. With `process`, the hold ends
    /// with the calling process at the latest (which may exec what it runs).
    async fn hold(
        &mut self,
        seconds: Option<u64>,
        why: &str,
        process: bool,
    ) -> zlink::Result<Result<HoldLine, Error>>;

    /// Ends a hold: the caller's own, or any for root and group guppy.
    async fn release(&mut self, id: u64) -> zlink::Result<Result<HoldLine, Error>>;

    /// Asks the daemon what it may do and cannot see.
    async fn rights(&mut self) -> zlink::Result<Result<Rights, Error>>;
}
