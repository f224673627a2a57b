//! What leaves this room: actions, and among them the lines that an operator reads.

use std::time::Duration;

use super::{Activity, Kind};
use crate::config::Mode;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a line into the journal.
    Tell(Event),
    /// Tell every terminal that the box stops.
    Warn {
        /// Time left.
        left: Duration,
        /// Whether it really will.
        mode: Mode,
    },
    /// Tell every terminal that it does not stop.
    Unwarn {
        /// Why.
        why: String,
    },
    /// Run the pre-stop hooks and come back with `Input::HooksEnded`.
    RunHooks,
    /// Ask logind to power off, and come back with its answer.
    PowerOff,
    /// Have systemd start poweroff.target, past every lock, and come back with its answer.
    ForcePowerOff,
    /// The same without D-Bus and polkit, by a file that systemd watches; come back with whether
    /// it was taken.
    LastResort,
}

/// One line of the journal: a decision or a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The grace period is over.
    Settled,
    /// Nobody watched for a while.
    Gap {
        /// How long.
        gap: Duration,
        /// The grace that follows.
        grace: Duration,
    },
    /// Something is active again.
    Active {
        /// What.
        what: String,
        /// How long it was idle.
        idle: Duration,
    },
    /// All is quiet.
    Idle {
        /// For how long.
        idle: Duration,
        /// What was active last.
        last: Activity,
        /// Until the stop.
        left: Duration,
        /// Whether it will.
        mode: Mode,
    },
    /// The stop is near.
    Warning {
        /// How long it was idle.
        idle: Duration,
        /// What was active last.
        last: Activity,
        /// Until the stop.
        left: Duration,
        /// Whether it will.
        mode: Mode,
    },
    /// Somebody came back.
    Cancelled {
        /// Who or what.
        what: String,
    },
    /// It stops, or in mode `observe` would.
    Stopping {
        /// How long it was idle.
        idle: Duration,
        /// What was active last.
        last: Activity,
        /// Whether it does.
        mode: Mode,
    },
    /// The order was taken.
    Taken,
    /// The order was not taken.
    Refused {
        /// Why.
        why: String,
        /// Until the next.
        wait: Duration,
    },
    /// A kind of evidence cannot be read.
    Unreadable {
        /// Which.
        kind: Kind,
        /// Why.
        why: String,
        /// For how long it still counts as active.
        counts_for: Duration,
    },
    /// It has been unreadable for so long that it no longer counts, until it can be read again.
    Ignored {
        /// Which.
        kind: Kind,
    },
    /// It can be read again.
    Readable {
        /// Which.
        kind: Kind,
    },
}
