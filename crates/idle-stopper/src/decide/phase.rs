//! The states that the box goes through.

use service::clock::Boottime;

/// Where the box stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// After boot or after a gap: everything is read, nothing is judged.
    Settling {
        /// Since when.
        since: Boottime,
        /// Until when.
        until: Boottime,
    },
    /// Something works or somebody is there.
    Active {
        /// Since when.
        since: Boottime,
    },
    /// All is quiet.
    Idle {
        /// Since when: the last activity.
        since: Boottime,
    },
    /// The terminals were told.
    Warned {
        /// Since when.
        since: Boottime,
        /// When the last look is taken and the box stops.
        stop_at: Boottime,
    },
    /// The stop is under way.
    Stopping {
        /// Since when.
        since: Boottime,
        /// How far it is.
        stage: Stage,
    },
}

impl Phase {
    /// Its name in the interface and on the screen.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Settling { .. } => "settling",
            Self::Active { .. } => "active",
            Self::Idle { .. } => "idle",
            Self::Warned { .. } => "warned",
            Self::Stopping { .. } => "stopping",
        }
    }

    /// Since when it lasts.
    pub const fn since(&self) -> Boottime {
        match *self {
            Self::Settling { since, .. }
            | Self::Active { since }
            | Self::Idle { since }
            | Self::Warned { since, .. }
            | Self::Stopping { since, .. } => since,
        }
    }
}

/// How far a stop is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Mode `observe`: it would have stopped, and waits for the next activity.
    Observed,
    /// The pre-stop hooks run.
    Hooks {
        /// They are not waited for any longer than this.
        until: Boottime,
    },
    /// The order is out, and its answer has not come.
    Asked,
    /// The order was refused; the next one goes out then.
    Waiting {
        /// When.
        next: Boottime,
    },
    /// The order was taken; the box should be gone by then.
    Going {
        /// When a box that is still there is ordered again, by force.
        until: Boottime,
    },
}

impl Stage {
    /// When it must be looked at again, other than at the next tick.
    pub(super) const fn due(&self) -> Option<Boottime> {
        match *self {
            Self::Observed | Self::Asked => None,
            Self::Hooks { until } | Self::Going { until } => Some(until),
            Self::Waiting { next } => Some(next),
        }
    }

    /// Whether activity still cancels: an order that systemd has taken cannot be called back, and
    /// what hooks do is not somebody's activity (they are followed by a look of their own).
    pub(super) const fn can_cancel(&self) -> bool {
        matches!(self, Self::Observed | Self::Waiting { .. })
    }
}
