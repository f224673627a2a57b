//! What a daemon that starts again in the same boot must know: when the box was last active, until
//! when it settles, how old the bounded things are, and what the terminals were told. Kept in /run,
//! so it ends with the boot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use super::bounded::FirstSeen;
use super::judge::Memory;
use super::notice::Notice;
use super::terminals::Stamps;
use super::{Activity, GRACE_ENDED, Kind, Phase, State};
use crate::config::Config;

/// The part of [`State`] that outlives the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    last_activity: Activity,
    quiet_from: Boottime,
    /// The end of the grace period that ran, or ran out.
    settled_at: Boottime,
    /// A key pressed while no daemon ran is still seen.
    stamps: Stamps,
    first_seen: FirstSeen,
    /// How much of unknown_at_most each kind has used up.
    #[serde(default)]
    unknown_spent: BTreeMap<Kind, Duration>,
    /// The last tick: what came after it, nobody has watched.
    #[serde(default)]
    watched_until: Option<Boottime>,
    #[serde(default)]
    grace_given: bool,
    #[serde(default)]
    notice: Option<Notice>,
    #[serde(default)]
    orders: u32,
}

impl Record {
    pub(super) fn of(state: &State) -> Self {
        let settled_at = match state.phase {
            Phase::Settling { until, .. } => until,
            _ => Boottime::from_millis(0),
        };
        Self {
            last_activity: state.last_activity.clone(),
            quiet_from: state.quiet_from,
            settled_at,
            stamps: state.memory.stamps.clone(),
            first_seen: state.memory.first_seen.clone(),
            unknown_spent: state.memory.unknown_spent(),
            watched_until: state.last_tick.or(state.watched_until),
            grace_given: state.grace_given,
            notice: state.notice,
            orders: state.orders,
        }
    }

    /// Goes on in a daemon that has just started. A moment that lies in the future was not written
    /// by an honest daemon of this boot: it is taken as now, lest it make the box eternal.
    pub(super) fn resume(self, fresh: State, config: &Config) -> State {
        let now = fresh.started;
        let last = Activity { at: self.last_activity.at.min(now), what: self.last_activity.what };
        let state = State {
            last_activity: last,
            quiet_from: self.quiet_from.min(now + super::STAMP_STEP),
            memory: Memory::resumed(self.stamps, self.first_seen, &self.unknown_spent),
            watched_until: self.watched_until,
            grace_given: self.grace_given,
            notice: self.notice,
            orders: self.orders,
            ..fresh
        };
        let mut state = state.begun(self.settled_at, config);
        if matches!(state.phase, Phase::Active { .. }) {
            if self.settled_at > Boottime::from_millis(0) {
                // It ended while no daemon ran.
                state.note_activity(self.settled_at, Duration::ZERO, GRACE_ENDED);
            }
            if let Some(stop_at) = self.notice.and_then(Notice::binding) {
                let stop_at = stop_at.min(now + config.warning);
                state.phase = Phase::Warned { since: now, stop_at };
            }
        }
        state
    }
}
