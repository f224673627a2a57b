//! Room two: judges. `(State, Input, now) -> (State, Vec<Action>)`, pure: no clock, no I/O, no
//! await, no logging. What an operator reads in the journal is an [`Event`] that leaves here as an
//! [`Action`], so a test sees every word and every incident is a row in a table.
//!
//! Settling → Active → Idle → Warned → Stopping, and back to Active from each at any activity.
//!
//! **Architecture Invariant:** nothing here ends in a state that cannot be left: neither a stop in
//! mid-work nor a box that never stops.

mod bounded;
mod commands;
mod cpu;
mod event;
mod judge;
mod kind;
mod meter;
mod notice;
mod phase;
mod record;
mod stop;
mod terminals;
mod traffic;
mod verdict;

#[cfg(test)]
pub(crate) mod tests;

use std::time::Duration;

use service::clock::Boottime;

pub use event::{Action, Event};
pub use judge::{KindState, Shown};
pub use kind::Kind;
pub use phase::{Phase, Stage};
pub use record::Record;
pub use terminals::STAMP_STEP;

use notice::Notice;

use crate::config::{Config, Mode};
use crate::sense::Evidence;

/// What `decide` is told.
#[derive(Debug)]
pub enum Input<'a> {
    /// A tick: everything was read, from this moment on. Reading may take its time when D-Bus or
    /// a check is slow; that is no gap.
    Evidence(&'a Evidence, Boottime),
    /// The pre-stop hooks have ended, well or not, and everything was read once more.
    HooksEnded(&'a Evidence),
    /// logind or systemd has taken the order to power off.
    PowerOffTaken,
    /// The order to power off was refused, or nobody answered.
    PowerOffRefused(String),
}

/// The last activity, for people.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Activity {
    /// When it was seen.
    pub at: Boottime,
    /// What it was: `typing: ssh alice from 100.64.0.2`.
    pub what: String,
}

/// The last activity of a box that has been quiet ever since.
const GRACE_ENDED: &str = "the grace period ended";

/// All that is carried from one tick to the next.
#[derive(Clone, Debug)]
pub struct State {
    phase: Phase,
    /// When the daemon started: no stop sooner than one warning after.
    started: Boottime,
    last_tick: Option<Boottime>,
    /// The last tick of the daemon before this one, in this boot.
    watched_until: Option<Boottime>,
    /// A grace was given for a gap that ended in a restart, and nothing was active since.
    grace_given: bool,
    last_activity: Activity,
    /// The last activity before this tick's.
    idle_since: Boottime,
    /// `idle_after` runs from here: the last activity, and for terminals the step of its stamp.
    quiet_from: Boottime,
    memory: judge::Memory,
    /// What the terminals were told since the last activity.
    notice: Option<Notice>,
    /// How often the order to power off has gone out since the last activity.
    orders: u32,
    refused: Option<String>,
}

impl State {
    /// The state of a daemon that starts now, with what an earlier run of this boot has left.
    pub fn new(now: Boottime, config: &Config, record: Option<Record>) -> Self {
        let fresh = Self {
            started: now,
            quiet_from: now,
            last_activity: Activity { at: now, what: "this daemon started".to_owned() },
            ..Self::empty()
        };
        match record {
            Some(record) => record.resume(fresh, config),
            None => fresh.begun(Boottime::from_millis(0) + config.grace, config),
        }
    }

    /// At its start: settling if the grace has not ended, or watching.
    fn begun(self, settled_at: Boottime, config: &Config) -> Self {
        let since = self.started;
        let phase = if since < settled_at {
            Phase::Settling { since, until: settled_at.min(since + config.grace) }
        } else {
            Phase::Active { since }
        };
        Self { phase, ..self }
    }

    /// A state of no daemon, to stand in for one that is being moved.
    pub fn empty() -> Self {
        let zero = Boottime::from_millis(0);
        Self {
            phase: Phase::Active { since: zero },
            started: zero,
            last_tick: None,
            watched_until: None,
            grace_given: false,
            last_activity: Activity { at: zero, what: String::new() },
            idle_since: zero,
            quiet_from: zero,
            memory: judge::Memory::default(),
            notice: None,
            orders: 0,
            refused: None,
        }
    }

    /// What the next run of the daemon must know, should this one end.
    pub fn record(&self) -> Record {
        Record::of(self)
    }

    /// Where it stands.
    pub const fn phase(&self) -> &Phase {
        &self.phase
    }

    /// What was last active.
    pub const fn last_activity(&self) -> &Activity {
        &self.last_activity
    }

    /// Each kind of evidence as of the last tick.
    pub const fn kind(&self, kind: Kind) -> &KindState {
        self.memory.kind(kind)
    }

    /// Why the last order to power off was not taken.
    pub fn refused(&self) -> Option<&str> {
        self.refused.as_deref()
    }

    /// When the box stops if nothing happens any more; None while something is active, settling or
    /// stopping.
    pub fn stops_at(&self, config: &Config) -> Option<Boottime> {
        match self.phase {
            Phase::Idle { .. } => {
                Some((self.quiet_from + config.idle_after).max(self.started) + config.warning)
            }
            Phase::Warned { stop_at, .. } => Some(stop_at),
            Phase::Settling { .. } | Phase::Active { .. } | Phase::Stopping { .. } => None,
        }
    }

    /// When the next tick is due: one tick after the last, or sooner when something falls due. It
    /// may have passed: then at once.
    pub fn next_tick(&self, config: &Config, now: Boottime) -> Boottime {
        let due = match self.phase {
            Phase::Settling { until, .. } => Some(until),
            Phase::Active { .. } => None,
            Phase::Idle { .. } => Some(self.quiet_from + config.idle_after),
            Phase::Warned { stop_at, .. } => Some(stop_at),
            Phase::Stopping { ref stage, .. } => stage.due(),
        };
        let Some(last) = self.last_tick else {
            return now;
        };
        let tick = last + config.tick;
        // Two looks at the same instant would be a busy loop.
        let soonest = last + Duration::from_millis(10);
        due.map_or(tick, |due| due.clamp(soonest, tick)).max(now)
    }
}

/// Moves the state forward.
pub fn decide(
    mut state: State,
    input: Input<'_>,
    config: &Config,
    now: Boottime,
) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    match input {
        Input::Evidence(evidence, began) => {
            state.notice_gap(config, began, &mut actions);
            tick(&mut state, evidence, config, now, &mut actions);
        }
        Input::HooksEnded(evidence) => {
            state.after_hooks(evidence, config, now, &mut actions);
        }
        Input::PowerOffTaken => state.power_off_taken(now, &mut actions),
        Input::PowerOffRefused(why) => state.power_off_refused(why, now, &mut actions),
    }
    (state, actions)
}

fn tick(
    state: &mut State,
    evidence: &Evidence,
    config: &Config,
    now: Boottime,
    actions: &mut Vec<Action>,
) {
    let activity = state.judge(evidence, config, now, actions);
    state.last_tick = Some(now);
    let only_observed = match state.phase {
        Phase::Warned { .. } => !state.notice.is_some_and(Notice::is_serious),
        Phase::Stopping { stage: Stage::Observed, .. } => true,
        _ => false,
    };
    if only_observed && config.mode == Mode::Stop {
        // The role has come since: the warning is due.
        state.phase = Phase::Idle { since: state.last_activity.at };
    }
    match state.phase.clone() {
        Phase::Settling { until, .. } => state.settle(until, now, actions),
        Phase::Active { .. } | Phase::Idle { .. } => {
            state.active_or_idle(activity, config, now, actions);
        }
        Phase::Warned { stop_at, .. } => match activity {
            Some(what) => state.cancel(what, now, actions),
            None if now < state.quiet_from + config.idle_after => {
                state.cancel("idle_after was raised".to_owned(), now, actions);
            }
            None if now >= stop_at => state.begin_stop(evidence, config, now, actions),
            None => {}
        },
        Phase::Stopping { stage, .. } => match activity {
            Some(what) if stage.can_cancel() => state.cancel(what, now, actions),
            _ => state.go_on_stopping(&stage, evidence, config, now, actions),
        },
    }
}

impl State {
    /// A daemon that was frozen, or a box that slept, has not watched: nothing it knew of rates or
    /// quiet holds any more, and whoever woke the box gets time.
    ///
    /// systemd's watchdog kills a daemon that was frozen for long, so the gap may be between two
    /// daemons. Between those one grace is given until something is active again, lest a daemon
    /// that is killed for ever settles for ever.
    fn notice_gap(&mut self, config: &Config, now: Boottime, actions: &mut Vec<Action>) {
        const SHORTEST: Duration = Duration::from_secs(10);
        let Some(last) = self.last_tick.or(self.watched_until) else { return };
        let gap = now.since(last);
        if gap <= (3 * config.tick).max(SHORTEST) || self.is_powering_off() {
            return;
        }
        let is_first_tick = self.last_tick.is_none();
        if is_first_tick && std::mem::replace(&mut self.grace_given, true) {
            return;
        }
        if self.has_warned() {
            actions.push(Action::Unwarn { why: "the box was suspended or frozen".to_owned() });
        }
        self.memory.forget_rates();
        self.begin_anew();
        self.phase = Phase::Settling { since: now, until: now + config.grace };
        actions.push(Action::Tell(Event::Gap { gap, grace: config.grace }));
    }

    fn settle(&mut self, until: Boottime, now: Boottime, actions: &mut Vec<Action>) {
        if now < until {
            return;
        }
        self.note_activity(now, Duration::ZERO, GRACE_ENDED);
        self.phase = Phase::Active { since: now };
        actions.push(Action::Tell(Event::Settled));
    }

    fn active_or_idle(
        &mut self,
        activity: Option<String>,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        if let Some(what) = activity {
            if self.has_warned() {
                // The daemon before this one has warned.
                self.cancel(what, now, actions);
            } else if !matches!(self.phase, Phase::Active { .. }) {
                let idle = now.since(self.idle_since);
                self.phase = Phase::Active { since: now };
                actions.push(Action::Tell(Event::Active { what, idle }));
            }
            return;
        }
        if matches!(self.phase, Phase::Active { .. }) {
            self.phase = Phase::Idle { since: self.last_activity.at };
            let event = Event::Idle {
                idle: now.since(self.last_activity.at),
                last: self.last_activity.clone(),
                // After a restart the warning may be overdue, and still takes its time.
                left: now.until((self.quiet_from + config.idle_after).max(now) + config.warning),
                mode: config.mode,
            };
            actions.push(Action::Tell(event));
        }
        if now >= self.quiet_from + config.idle_after {
            let stop_at = now + config.warning;
            self.notice = Some(Notice::given(self.notice, stop_at, config));
            self.phase = Phase::Warned { since: now, stop_at };
            let event = Event::Warning {
                idle: now.since(self.last_activity.at),
                last: self.last_activity.clone(),
                left: config.warning,
                mode: config.mode,
            };
            actions.push(Action::Warn { left: config.warning, mode: config.mode });
            actions.push(Action::Tell(event));
        }
    }

    fn cancel(&mut self, what: String, now: Boottime, actions: &mut Vec<Action>) {
        let idle = now.since(self.idle_since);
        let was_warned = self.has_warned();
        self.begin_anew();
        self.phase = Phase::Active { since: now };
        if was_warned {
            actions.push(Action::Unwarn { why: what.clone() });
            actions.push(Action::Tell(Event::Cancelled { what }));
        } else {
            actions.push(Action::Tell(Event::Active { what, idle }));
        }
    }

    /// Whether the terminals believe that the box stops, of this daemon or the one before it.
    const fn has_warned(&self) -> bool {
        self.notice.is_some()
    }

    /// Nothing of an earlier stop counts any more.
    fn begin_anew(&mut self) {
        self.notice = None;
        self.orders = 0;
        self.refused = None;
    }

    fn note_activity(&mut self, at: Boottime, slack: Duration, what: &str) {
        self.quiet_from = self.quiet_from.max(at + slack);
        if at >= self.last_activity.at {
            self.last_activity = Activity { at, what: what.to_owned() };
        }
    }
}
