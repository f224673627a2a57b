//! The warning of one quiet time, across restarts of the daemon.
//!
//! A daemon that starts again warns again for the full time, so no restart cuts anybody off. One
//! that dies again and again within a warning would put the stop off for ever that way. What such a
//! daemon misses is rates, which take two ticks; they count as active for as long as any evidence
//! that cannot be read, `unknown_at_most`, and the warning after that binds every later daemon.

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use crate::config::{Config, Mode};

/// What was promised to the terminals since the last activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// When the first warning ran out.
    first_due: Boottime,
    /// The stop that no restart puts off.
    binding: Option<Boottime>,
    /// Whether the box was said to stop, or only that it would.
    mode: Mode,
}

impl Notice {
    /// A warning that is given now and runs out at `stop_at`; `before` was given earlier in this
    /// quiet time. One that says that the box would stop, but only observes, binds nobody.
    pub(super) fn given(before: Option<Self>, stop_at: Boottime, config: &Config) -> Self {
        let first_due = before.map_or(stop_at, |before| before.first_due.min(stop_at));
        let is_late = stop_at >= first_due + config.unknown_at_most;
        let binds = is_late && config.mode == Mode::Stop;
        Self { first_due, binding: binds.then_some(stop_at), mode: config.mode }
    }

    /// Whether the terminals were told that the box really stops.
    pub(super) fn is_serious(self) -> bool {
        self.mode == Mode::Stop
    }

    /// When the box stops whatever becomes of the daemon.
    pub(super) const fn binding(self) -> Option<Boottime> {
        self.binding
    }
}
