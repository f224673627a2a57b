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
mod phase;
mod record;
mod stop;
mod terminals;
mod traffic;
mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

use service::clock::Boottime;

pub use event::{Action, Event};
pub use judge::{KindState, Shown};
pub use kind::Kind;
pub use phase::{Phase, Stage};
pub use record::Record;
pub use terminals::STAMP_STEP;

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

/// All that is carried from one tick to the next.
#[derive(Clone, Debug)]
pub struct State {
    phase: Phase,
    /// When the daemon started: no stop sooner than one warning after.
    started: Boottime,
    last_tick: Option<Boottime>,
    last_activity: Activity,
    /// `idle_after` runs from here: the last activity, and for terminals the step of its stamp.
    quiet_from: Boottime,
    memory: judge::Memory,
    refused: Option<String>,
}

impl State {
    /// The state of a daemon that starts now, with what an earlier run of this boot has left.
    pub fn new(now: Boottime, config: &Config, record: Option<Record>) -> Self {
        let grace_ends = Boottime::from_millis(0) + config.grace;
        let (last_activity, quiet_from, settled_at, memory) = match record {
            Some(record) => record.unpack(now),
            None => {
                let what = "this daemon started".to_owned();
                (Activity { at: now, what }, now, grace_ends, judge::Memory::default())
            }
        };
        let phase = if now < settled_at {
            Phase::Settling { since: now, until: settled_at.min(now + config.grace) }
        } else {
            Phase::Active { since: now }
        };
        Self {
            phase,
            started: now,
            last_tick: None,
            last_activity,
            quiet_from,
            memory,
            refused: None,
        }
    }

    /// A state of no daemon, to stand in for one that is being moved.
    pub fn empty() -> Self {
        let zero = Boottime::from_millis(0);
        Self {
            phase: Phase::Active { since: zero },
            started: zero,
            last_tick: None,
            last_activity: Activity { at: zero, what: String::new() },
            quiet_from: zero,
            memory: judge::Memory::default(),
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
    let only_observed = matches!(state.phase, Phase::Stopping { stage: Stage::Observed, .. });
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
            None if now >= stop_at => state.begin_stop(config, now, actions),
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
    fn notice_gap(&mut self, config: &Config, now: Boottime, actions: &mut Vec<Action>) {
        const SHORTEST: Duration = Duration::from_secs(10);
        let Some(last) = self.last_tick else { return };
        let gap = now.since(last);
        if gap <= (3 * config.tick).max(SHORTEST) || self.is_powering_off() {
            return;
        }
        if self.has_warned() {
            actions.push(Action::Unwarn { why: "the box was suspended or frozen".to_owned() });
        }
        self.memory.forget_rates();
        self.phase = Phase::Settling { since: now, until: now + config.grace };
        actions.push(Action::Tell(Event::Gap { gap, grace: config.grace }));
    }

    fn settle(&mut self, until: Boottime, now: Boottime, actions: &mut Vec<Action>) {
        if now < until {
            return;
        }
        self.note_activity(now, Duration::ZERO, "the grace period ended");
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
            if !matches!(self.phase, Phase::Active { .. }) {
                let idle = now.since(self.last_idle_since());
                self.phase = Phase::Active { since: now };
                actions.push(Action::Tell(Event::Active { what, idle }));
            }
            return;
        }
        if matches!(self.phase, Phase::Active { .. }) {
            self.phase = Phase::Idle { since: self.last_activity.at };
            let left = now.until(self.quiet_from + config.idle_after + config.warning);
            let last = self.last_activity.clone();
            actions.push(Action::Tell(Event::Idle { last, left, mode: config.mode }));
        }
        if now >= self.quiet_from + config.idle_after {
            let stop_at = now + config.warning;
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

    fn begin_stop(&mut self, config: &Config, now: Boottime, actions: &mut Vec<Action>) {
        let event = Event::Stopping {
            idle: now.since(self.last_activity.at),
            last: self.last_activity.clone(),
            mode: config.mode,
        };
        actions.push(Action::Tell(event));
        let stage = match config.mode {
            Mode::Observe => Stage::Observed,
            Mode::Stop => {
                actions.push(Action::RunHooks);
                Stage::Hooks { until: now + config.hooks_at_most + stop::HOOKS_SLACK }
            }
        };
        self.phase = Phase::Stopping { since: now, refusals: 0, stage };
    }

    fn cancel(&mut self, what: String, now: Boottime, actions: &mut Vec<Action>) {
        let idle = now.since(self.last_idle_since());
        let was_warned = self.has_warned();
        self.phase = Phase::Active { since: now };
        self.refused = None;
        if was_warned {
            actions.push(Action::Unwarn { why: what.clone() });
            actions.push(Action::Tell(Event::Cancelled { what }));
        } else {
            actions.push(Action::Tell(Event::Active { what, idle }));
        }
    }

    fn has_warned(&self) -> bool {
        match &self.phase {
            Phase::Warned { .. } => true,
            Phase::Stopping { stage, .. } => !matches!(stage, Stage::Observed),
            Phase::Settling { .. } | Phase::Active { .. } | Phase::Idle { .. } => false,
        }
    }

    /// Since when the box was idle, before the activity that has just been seen.
    fn last_idle_since(&self) -> Boottime {
        match self.phase {
            Phase::Idle { since } | Phase::Warned { since, .. } => since,
            Phase::Settling { since, .. }
            | Phase::Active { since }
            | Phase::Stopping { since, .. } => since,
        }
    }

    fn note_activity(&mut self, at: Boottime, slack: Duration, what: &str) {
        self.quiet_from = self.quiet_from.max(at + slack);
        if at >= self.last_activity.at {
            self.last_activity = Activity { at, what: what.to_owned() };
        }
    }
}
