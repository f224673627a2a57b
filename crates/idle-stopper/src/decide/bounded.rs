//! Things that count only for so long: locks, package work, builds. Each is known by an identity,
//! and its age runs from when this daemon first saw it, across its own restarts.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use super::kind::Kind;
use super::verdict::{Verdict, some_of};
use crate::sense::{Build, Inhibitor, PackageLock};

/// When each thing was first seen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct FirstSeen(BTreeMap<Kind, BTreeMap<String, Boottime>>);

/// One thing that counts for a time.
pub(super) struct Thing {
    pub(super) id: String,
    pub(super) what: String,
}

impl FirstSeen {
    /// Judges the things of one kind that are there now, and forgets those that have gone.
    pub(super) fn judge(
        &mut self,
        kind: Kind,
        things: Vec<Thing>,
        at_most: Duration,
        now: Boottime,
    ) -> Verdict {
        let before = self.0.remove(&kind).unwrap_or_default();
        let mut seen = BTreeMap::new();
        let (mut live, mut old) = (Vec::new(), Vec::new());
        for thing in things {
            let since = before.get(&thing.id).copied().unwrap_or(now).min(now);
            let list = if now.since(since) <= at_most { &mut live } else { &mut old };
            list.push(thing.what);
            seen.insert(thing.id, since);
        }
        if !seen.is_empty() {
            self.0.insert(kind, seen);
        }
        let names = |list: &[String]| some_of(list.iter().map(String::as_str));
        if !live.is_empty() {
            Verdict::Active { at: now, detail: names(&live) }
        } else if old.is_empty() {
            Verdict::Quiet("none".to_owned())
        } else {
            let limit = humantime::format_duration(at_most);
            Verdict::Quiet(format!("no longer counted after {limit}: {}", names(&old)))
        }
    }
}

/// Block locks that would keep a shutdown or an idle action away. A delay lock only slows it, and
/// a lock on sleep or on a lid is about something else.
pub(super) fn inhibitor_things(inhibitors: &[Inhibitor]) -> Vec<Thing> {
    inhibitors
        .iter()
        .filter(|lock| blocks(lock))
        .map(|lock| Thing {
            id: format!("{}:{}:{}:{}:{}", lock.pid, lock.mode, lock.what, lock.who, lock.why),
            what: format!("{} ({})", lock.who, lock.why),
        })
        .collect()
}

/// Whether logind refuses a power-off for this lock, or its owner asks not to be seen as idle.
pub(super) fn blocks(lock: &Inhibitor) -> bool {
    matches!(lock.mode.as_str(), "block" | "block-weak")
        && lock.what.split(':').any(|what| matches!(what, "shutdown" | "idle"))
}

pub(super) fn build_things(builds: &[Build]) -> Vec<Thing> {
    builds.iter().map(|build| Thing { id: build.id.clone(), what: build.what.clone() }).collect()
}

pub(super) fn package_things(locks: &[PackageLock]) -> Vec<Thing> {
    locks
        .iter()
        .map(|lock| Thing {
            id: format!("{} {}", lock.pid, lock.start),
            what: format!("{} held by process {}", lock.path, lock.pid),
        })
        .collect()
}
