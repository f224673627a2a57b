//! The stop itself: hooks, one last look, the order, and what follows when it is refused. It is
//! never given up and never latched.

use std::time::Duration;

use service::clock::Boottime;

use super::bounded::blocks;
use super::notice::Notice;
use super::{Action, Event, Kind, Phase, Stage, State};
use crate::config::{Config, Mode};
use crate::sense::{Evidence, Reading};

/// systemd needs a moment to end hooks that have overrun.
const HOOKS_SLACK: Duration = Duration::from_secs(10);

/// A box whose shutdown was taken is gone by now: DefaultTimeoutStopSec is 90 s, and logind lets
/// delay locks wait for 30 s at most (logind.conf(5), InhibitDelayMaxSec).
const GOING_AT_MOST: Duration = Duration::from_secs(300);

/// Between a refused order and the next, doubled each time.
const FIRST_RETRY: Duration = Duration::from_secs(15);
const LONGEST_RETRY: Duration = Duration::from_secs(600);

/// After this many orders without a lock to blame, logind itself is at fault.
const ORDERS_BEFORE_FORCE: u32 = 2;

/// After this many, one of them by force, the bus or polkit is at fault. From here on every second
/// order goes past them, and every second one tries them again.
const ORDERS_BEFORE_LAST_RESORT: u32 = 3;

impl State {
    /// Whether the order is out or taken, so that gaps and ticks must not disturb it.
    pub fn is_powering_off(&self) -> bool {
        matches!(&self.phase, Phase::Stopping { stage: Stage::Asked | Stage::Going { .. }, .. })
    }

    /// The warning has run out and nothing has come of it.
    pub(super) fn begin_stop(
        &mut self,
        evidence: &Evidence,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        let event = Event::Stopping {
            idle: now.since(self.last_activity.at),
            last: self.last_activity.clone(),
            mode: config.mode,
        };
        actions.push(Action::Tell(event));
        if config.mode == Mode::Observe {
            return self.only_observe(now);
        }
        // Where a daemon before this one has let the hooks run into its own end, they had their time.
        let from = self.notice.and_then(Notice::binding).unwrap_or(now);
        let until = from + config.hooks_at_most + HOOKS_SLACK;
        self.phase = Phase::Stopping { since: now, stage: Stage::Hooks { until } };
        if now < until {
            actions.push(Action::RunHooks);
        } else {
            self.order(evidence, config, now, actions);
        }
    }

    /// It would have stopped.
    fn only_observe(&mut self, since: Boottime) {
        self.begin_anew();
        self.phase = Phase::Stopping { since, stage: Stage::Observed };
    }

    /// The last look. Hooks move bytes and cycles of their own, so only presence counts here.
    pub(super) fn after_hooks(
        &mut self,
        evidence: &Evidence,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Stopping { since, stage: Stage::Hooks { .. } } = self.phase else {
            return;
        };
        self.judge(evidence, config, now, actions);
        // Nor does what they moved call off an order that is refused and repeated.
        self.memory.forget_rates();
        self.last_tick = Some(now);
        let back = Kind::ALL.into_iter().filter(|kind| kind.is_presence()).find_map(|kind| {
            let state = self.kind(kind);
            // A tick in mid-hooks may have seen the key already.
            let back = state.last_active.is_some_and(|at| at >= since);
            back.then(|| format!("{}: {}", kind.name(), state.detail))
        });
        match back {
            Some(what) => self.cancel(what, now, actions),
            None => self.order(evidence, config, now, actions),
        }
    }

    /// A tick in mid-stop.
    pub(super) fn go_on_stopping(
        &mut self,
        stage: &Stage,
        evidence: &Evidence,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        if stage.due().is_none_or(|due| now < due) {
            return;
        }
        match stage {
            Stage::Hooks { .. } => self.after_hooks(evidence, config, now, actions),
            Stage::Going { .. } => {
                self.power_off_refused(
                    format!("still up {} s after the order", GOING_AT_MOST.as_secs()),
                    now,
                    actions,
                );
            }
            Stage::Waiting { .. } => self.order(evidence, config, now, actions),
            Stage::Observed | Stage::Asked => {}
        }
    }

    /// Orders the power-off: from logind; by force when logind cannot be had or only locks that no
    /// longer count stand against it; past D-Bus when that does not help either.
    fn order(
        &mut self,
        evidence: &Evidence,
        config: &Config,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Stopping { since, .. } = self.phase else {
            return;
        };
        // A reload in mid-stop.
        if config.mode == Mode::Observe {
            return self.only_observe(since);
        }
        // By now every lock still held is past inhibit_at_most: a younger one is activity, and
        // activity has cancelled.
        let only_old_locks = match &evidence.inhibitors {
            Reading::Known(locks) => locks.iter().any(blocks),
            Reading::Unknown(_) => false,
        };
        let past_the_bus = self.orders >= ORDERS_BEFORE_LAST_RESORT
            && (self.orders - ORDERS_BEFORE_LAST_RESORT).is_multiple_of(2);
        let order = if past_the_bus {
            Action::LastResort
        } else if self.orders >= ORDERS_BEFORE_FORCE || (self.orders > 0 && only_old_locks) {
            Action::ForcePowerOff
        } else {
            Action::PowerOff
        };
        // Counted as it goes out: a daemon that is killed before the answer has still tried.
        self.orders = self.orders.saturating_add(1);
        self.phase = Phase::Stopping { since, stage: Stage::Asked };
        self.last_tick = Some(now);
        actions.push(order);
    }

    pub(super) fn power_off_taken(&mut self, now: Boottime, actions: &mut Vec<Action>) {
        let Phase::Stopping { since, .. } = self.phase else {
            return;
        };
        let stage = Stage::Going { until: now + GOING_AT_MOST };
        self.phase = Phase::Stopping { since, stage };
        self.refused = None;
        actions.push(Action::Tell(Event::Taken));
    }

    pub(super) fn power_off_refused(
        &mut self,
        why: String,
        now: Boottime,
        actions: &mut Vec<Action>,
    ) {
        let Phase::Stopping { since, .. } = self.phase else {
            return;
        };
        let doublings = self.orders.saturating_sub(1).min(8);
        let wait = FIRST_RETRY.saturating_mul(1 << doublings).min(LONGEST_RETRY);
        let stage = Stage::Waiting { next: now + wait };
        self.phase = Phase::Stopping { since, stage };
        self.refused = Some(why.clone());
        actions.push(Action::Tell(Event::Refused { why, wait }));
    }
}
