//! The warning of one quiet time, across restarts of the daemon.
//!
//! A daemon that starts again warns again for the full time, so no restart cuts anybody off. One
//! that dies again and again within a warning would put the stop off for ever that way. What such a
//! daemon misses is rates, which take two ticks; they count as active for as long as any evidence
//! that cannot be read, `unknown_at_most`, and the warning after that binds every later daemon.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

/// What was promised to the terminals since the last activity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Notice {
    /// When the first warning ran out.
    first_due: Boottime,
    /// The stop that no restart puts off.
    binding: Option<Boottime>,
}

impl Notice {
    /// A warning that is given now and runs out at `stop_at`; `before` was given earlier in this
    /// quiet time.
    pub(super) fn given(before: Option<Self>, stop_at: Boottime, patience: Duration) -> Self {
        let first_due = before.map_or(stop_at, |before| before.first_due.min(stop_at));
        let is_late = stop_at >= first_due + patience;
        Self { first_due, binding: is_late.then_some(stop_at) }
    }

    /// When the box stops whatever becomes of the daemon.
    pub(super) const fn binding(self) -> Option<Boottime> {
        self.binding
    }
}
