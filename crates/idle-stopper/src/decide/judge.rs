//! Every kind of evidence judged at one tick, with what must be carried to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use service::clock::Boottime;

use super::bounded::{FirstSeen, build_things, inhibitor_things, package_things};
use super::meter::Meter;
use super::terminals::{STAMP_STEP, Stamps};
use super::traffic::{DiskTotal, Flow};
use super::verdict::{Verdict, known, some_of};
use super::{Action, Event, Kind, State, commands, cpu, terminals, traffic};
use crate::config::Config;
use crate::sense::{Check, Evidence, Hold, Said};

/// One kind of evidence as an operator sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindState {
    /// What it came to.
    pub shown: Shown,
    /// Since when.
    pub since: Boottime,
    /// When it was last active in this run of the daemon.
    pub last_active: Option<Boottime>,
    /// What was seen, or why nothing was.
    pub detail: String,
    /// How long it has counted as active without being read, since the box was last known to be
    /// active and it could be read.
    unknown_spent: Duration,
}

impl KindState {
    const NEW: Self = Self {
        shown: Shown::Off,
        since: Boottime::from_millis(0),
        last_active: None,
        detail: String::new(),
        unknown_spent: Duration::ZERO,
    };

    /// Whether it keeps the box up now.
    pub const fn is_active(&self) -> bool {
        matches!(self.shown, Shown::Active | Shown::Unknown)
    }
}

/// The word that an operator sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// It keeps the box up.
    Active,
    /// Read, and nothing.
    Quiet,
    /// It cannot be read and counts as active.
    Unknown,
    /// It could not be read for so long that it counts no more, until it is read again.
    Ignored,
    /// Switched off in the config.
    Off,
}

impl Shown {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Quiet => "quiet",
            Self::Unknown => "unknown",
            Self::Ignored => "ignored",
            Self::Off => "off",
        }
    }
}

/// What the judgements carry from tick to tick.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    kinds: [KindState; Kind::ALL.len()],
    pub(super) stamps: Stamps,
    pub(super) first_seen: FirstSeen,
    flows: Meter<Flow>,
    cpu: cpu::Memory,
    disk_bytes: Meter<DiskTotal>,
    disk_waited: Meter<DiskTotal>,
    interfaces: Meter<String>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            kinds: [KindState::NEW; Kind::ALL.len()],
            stamps: Stamps::default(),
            first_seen: FirstSeen::default(),
            flows: Meter::default(),
            cpu: cpu::Memory::default(),
            disk_bytes: Meter::default(),
            disk_waited: Meter::default(),
            interfaces: Meter::default(),
        }
    }
}

impl Memory {
    /// What a daemon of the same boot begins with.
    pub(super) fn resumed(
        stamps: Stamps,
        first_seen: FirstSeen,
        unknown_spent: &BTreeMap<Kind, Duration>,
    ) -> Self {
        let mut memory = Self { stamps, first_seen, ..Self::default() };
        for (kind, spent) in unknown_spent {
            memory.kind_mut(*kind).unknown_spent = *spent;
        }
        memory
    }

    pub(super) fn unknown_spent(&self) -> BTreeMap<Kind, Duration> {
        Kind::ALL
            .into_iter()
            .map(|kind| (kind, self.kind(kind).unknown_spent))
            .filter(|(_, spent)| !spent.is_zero())
            .collect()
    }

    #[expect(clippy::indexing_slicing, reason = "the array has a place for every Kind")]
    pub(super) const fn kind(&self, kind: Kind) -> &KindState {
        &self.kinds[kind as usize]
    }

    #[expect(clippy::indexing_slicing, reason = "the array has a place for every Kind")]
    const fn kind_mut(&mut self, kind: Kind) -> &mut KindState {
        &mut self.kinds[kind as usize]
    }

    /// The box is known to be active: what could not be read for a while, and can be read now, may
    /// fail anew. Reading alone earns nothing, or one that fails now and then would count for ever;
    /// nor does the activity of others, for one that still fails.
    fn forgive(&mut self) {
        for state in &mut self.kinds {
            if !matches!(state.shown, Shown::Unknown | Shown::Ignored) {
                state.unknown_spent = Duration::ZERO;
            }
        }
    }

    pub(super) fn forget_rates(&mut self) {
        self.flows.clear();
        self.cpu.clear();
        self.disk_bytes.clear();
        self.disk_waited.clear();
        self.interfaces.clear();
    }

    fn verdict(
        &mut self,
        kind: Kind,
        evidence: &Evidence,
        config: &Config,
        now: Boottime,
    ) -> Verdict {
        let first_seen = &mut self.first_seen;
        match kind {
            Kind::Terminals => {
                known(&evidence.terminals, |list| terminals::judge(&mut self.stamps, list, now))
            }
            Kind::Commands => known(&evidence.commands, |list| {
                commands::judge(list, &evidence.sockets, config.command_at_most, now)
            }),
            Kind::Tcp => known(&evidence.sockets, |list| {
                traffic::tcp(&mut self.flows, list, evidence, config, now)
            }),
            Kind::Cpu => known(&evidence.cpu, |totals| self.cpu.judge(totals, config, now)),
            Kind::Disk => known(&evidence.disk, |totals| {
                let floors = (&config.disk, config.window);
                traffic::disk(&mut self.disk_bytes, &mut self.disk_waited, totals, floors, now)
            }),
            Kind::Network => known(&evidence.network, |list| {
                traffic::network(&mut self.interfaces, list, config, now)
            }),
            Kind::Builds => known(&evidence.builds, |list| {
                first_seen.judge(kind, build_things(list), config.command_at_most, now)
            }),
            Kind::Inhibitors => known(&evidence.inhibitors, |list| {
                first_seen.judge(kind, inhibitor_things(list), config.inhibit_at_most, now)
            }),
            Kind::Packages => known(&evidence.packages, |list| {
                first_seen.judge(kind, package_things(list), config.package_at_most, now)
            }),
            Kind::Holds => known(&evidence.holds, |list| holds(list, now)),
            Kind::Checks => known(&evidence.checks, |list| checks(list, now)),
        }
    }
}

/// The daemon reads only holds that are in force, bounded by hold_at_most when they were given.
fn holds(holds: &[Hold], now: Boottime) -> Verdict {
    let live: Vec<String> = holds
        .iter()
        .filter(|hold| hold.until > now)
        .map(|hold| format!("{} by {} ({})", hold.id, hold.who, hold.why))
        .collect();
    if live.is_empty() {
        Verdict::Quiet("none".to_owned())
    } else {
        let detail = format!("hold {}", some_of(live.iter().map(String::as_str)));
        Verdict::Active { at: now, detail }
    }
}

/// One active check keeps the box up; one that failed makes the whole reading Unknown.
fn checks(checks: &[Check], now: Boottime) -> Verdict {
    let named = |wanted: fn(&Said) -> bool| {
        checks.iter().filter(move |check| wanted(&check.said)).map(|check| check.name.as_str())
    };
    let active = some_of(named(|said| *said == Said::Active));
    if !active.is_empty() {
        return Verdict::Active { at: now, detail: active };
    }
    let failed = checks.iter().find_map(|check| match &check.said {
        Said::Unknown(why) => Some(format!("{}: {why}", check.name)),
        Said::Active | Said::Quiet => None,
    });
    match failed {
        Some(why) => Verdict::Unknown(why),
        None => Verdict::Quiet(format!("{} checks say quiet", checks.len())),
    }
}

impl State {
    /// Judges every kind that is on. Returns what is active, if anything is.
    pub(super) fn judge(
        &mut self,
        evidence: &Evidence,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) -> Option<String> {
        self.idle_since = self.last_activity.at;
        // Across a restart too: one that comes before each second tick would spend nothing.
        let last = self.last_tick.or(self.watched_until);
        let elapsed = last.map_or(Duration::ZERO, |last| now.since(last));
        let mut first = None;
        let mut any_known = false;
        for kind in Kind::ALL {
            let (shown, detail, at) = if kind.is_on(&config.evidence) {
                let verdict = self.memory.verdict(kind, evidence, config, now);
                let spent = &mut self.memory.kind_mut(kind).unknown_spent;
                weigh(verdict, spent, elapsed, config.unknown_at_most, now)
            } else {
                (Shown::Off, String::new(), None)
            };
            self.show(kind, shown, &detail, config, now, actions);
            let Some(at) = at else { continue };
            any_known |= shown == Shown::Active;
            self.memory.kind_mut(kind).last_active = Some(at);
            let slack = if kind == Kind::Terminals { STAMP_STEP } else { Duration::ZERO };
            let what = format!("{}: {detail}", kind.name());
            self.note_activity(at, slack, &what);
            first.get_or_insert(what);
        }
        if any_known {
            self.grace_given = false;
            self.memory.forgive();
        }
        first
    }

    /// Writes the outcome down, and says so when a kind begins or ceases to be readable.
    fn show(
        &mut self,
        kind: Kind,
        shown: Shown,
        detail: &str,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        let state = self.memory.kind_mut(kind);
        let before = std::mem::replace(&mut state.shown, shown);
        detail.clone_into(&mut state.detail);
        if before == shown {
            return;
        }
        state.since = now;
        let was_failing = matches!(before, Shown::Unknown | Shown::Ignored);
        match shown {
            // Of one that was ignored, too: the config grants it more time than before.
            Shown::Unknown => {
                let counts_for = config.unknown_at_most.saturating_sub(state.unknown_spent);
                let why = detail.to_owned();
                actions.push(Action::Tell(Event::Unreadable { kind, why, counts_for }));
            }
            Shown::Ignored => actions.push(Action::Tell(Event::Ignored { kind })),
            Shown::Active | Shown::Quiet if was_failing => {
                actions.push(Action::Tell(Event::Readable { kind }));
            }
            Shown::Active | Shown::Quiet | Shown::Off => {}
        }
    }
}

/// An Unknown counts as active for a bounded time in all, and is then ignored until it can be read
/// again: neither a stop in mid-work nor a box that never stops.
fn weigh(
    verdict: Verdict,
    spent: &mut Duration,
    elapsed: Duration,
    at_most: Duration,
    now: Boottime,
) -> (Shown, String, Option<Boottime>) {
    match verdict {
        Verdict::Active { at, detail } => (Shown::Active, detail, Some(at)),
        Verdict::Quiet(detail) => (Shown::Quiet, detail, None),
        Verdict::Unknown(why) => {
            *spent = spent.saturating_add(elapsed);
            if *spent < at_most {
                (Shown::Unknown, why, Some(now))
            } else {
                (Shown::Ignored, why, None)
            }
        }
    }
}
