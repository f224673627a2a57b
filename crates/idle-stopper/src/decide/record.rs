//! What a daemon that starts again in the same boot must know: when the box was last active, until
//! when it settles, and how old the bounded things are. Kept in /run, so it ends with the boot.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use super::bounded::FirstSeen;
use super::judge::Memory;
use super::terminals::Stamps;
use super::{Activity, Kind, Phase, State};

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
        }
    }

    /// A moment that lies in the future was not written by an honest daemon of this boot: it is
    /// taken as now, lest it make the box eternal.
    pub(super) fn unpack(self, now: Boottime) -> (Activity, Boottime, Boottime, Memory) {
        let last = Activity { at: self.last_activity.at.min(now), what: self.last_activity.what };
        let quiet_from = self.quiet_from.min(now + super::STAMP_STEP);
        let memory = Memory::resumed(self.stamps, self.first_seen, &self.unknown_spent);
        (last, quiet_from, self.settled_at, memory)
    }
}
