//! The loop: when to look, what came of the last order, the signals, the watchdog.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use service::clock::{Boottime, Timer};
use service::notify::{self, Watchdog};
use service::signals::{Signal, Signals};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::act::{self, Announcer};
use crate::daemon::Daemon;
use crate::decide::{Action, Input, Phase, Stage};
use crate::sense::checks::RESULTS_FILE;
use crate::sense::{Evidence, Sensors};

/// What came of something that takes its time.
enum Outcome {
    HooksEnded,
    PowerOff(Result<(), String>),
}

type Pending = Pin<Box<dyn Future<Output = Outcome>>>;

/// Before the last look the operator's checks are waited for, but no longer than this.
const CHECKS_AT_MOST: Duration = Duration::from_secs(15);

/// A hold calls for a look before the next tick is due, but a thousand of them for one a second.
const AWAKE_EVERY: Duration = Duration::from_secs(1);

/// The loop and what it owns.
pub struct Round {
    daemon: Rc<RefCell<Daemon>>,
    wake: Rc<Notify>,
    sensors: Sensors,
    signals: Signals,
    timer: Timer,
    watchdog: Watchdog,
    status: String,
    checks_failed: bool,
    /// When the last tick began, and whether somebody has asked for one since.
    looked: Instant,
    woken: bool,
    /// The order that is out; there is never more than one.
    pending: Option<Pending>,
    terminals: Announcer,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Round {
    /// A loop over this daemon.
    ///
    /// # Errors
    /// Signal handlers cannot be installed.
    pub fn new(daemon: Rc<RefCell<Daemon>>, wake: Rc<Notify>) -> std::io::Result<Self> {
        Self::with(daemon, wake, Sensors::new())
    }

    fn with(
        daemon: Rc<RefCell<Daemon>>,
        wake: Rc<Notify>,
        sensors: Sensors,
    ) -> std::io::Result<Self> {
        let state_dir = daemon.borrow().state_dir().to_owned();
        let terminals = Announcer::new(move |text| {
            let state_dir = state_dir.clone();
            Box::pin(async move { act::write_to_terminals(&state_dir, &text).await })
        });
        Ok(Self {
            daemon,
            wake,
            sensors,
            signals: Signals::new()?,
            timer: Timer::new()?,
            watchdog: Watchdog::from_env(),
            status: String::new(),
            checks_failed: false,
            looked: Instant::now(),
            woken: false,
            pending: None,
            terminals,
        })
    }

    /// Goes on until SIGTERM.
    pub async fn go_on(&mut self) {
        self.tick().await;
        loop {
            let mut due = self.instant_of(self.daemon.borrow().next_tick());
            if self.woken {
                due = due.min(self.looked + AWAKE_EVERY);
            }
            // Only this loop pings, and only after a turn: one that hangs is restarted.
            let ping = self.watchdog.interval().map(|interval| Instant::now() + interval);
            let until = ping.map_or(due, |ping| ping.min(due));
            tokio::select! {
                () = self.timer.after(until.saturating_duration_since(Instant::now())) => {
                    if Instant::now() >= due {
                        self.tick().await;
                    }
                }
                () = self.wake.notified() => self.woken = true,
                outcome = next(&mut self.pending) => self.outcome(outcome).await,
                told = self.terminals.go_on() => {
                    if let Err(why) = told {
                        warn!(
                            guppy_event = "warn-failed",
                            "the terminals could not be told: {why}"
                        );
                    }
                }
                signal = self.signals.next() => match signal {
                    Signal::Reload => {
                        self.reload();
                        self.tick().await;
                    }
                    Signal::Stop => return,
                },
            }
            self.watchdog.ping();
        }
    }

    fn instant_of(&self, moment: Boottime) -> Instant {
        Instant::now() + self.daemon.borrow().clock.now().until(moment)
    }

    async fn tick(&mut self) {
        self.woken = false;
        self.looked = Instant::now();
        let began = self.daemon.borrow().clock.now();
        let evidence = self.read().await;
        self.decide(Input::Evidence(&evidence, began)).await;
    }

    async fn read(&mut self) -> Evidence {
        let (config, last_look) = {
            let daemon = self.daemon.borrow();
            (daemon.settings().clone(), is_last_look(daemon.state().phase(), daemon.clock.now()))
        };
        if config.evidence.checks {
            // A stop must not hang on an old answer, nor the first tick on none.
            let wait = last_look || !Path::new(RESULTS_FILE).exists();
            let ran = act::run_checks(wait.then_some(CHECKS_AT_MOST)).await;
            if let Err(why) = &ran
                && !self.checks_failed
            {
                warn!(guppy_event = "checks-failed", "the checks could not be run: {why}");
            }
            self.checks_failed = ran.is_err();
        }
        let holds = self.daemon.borrow_mut().live_holds(|process| self.sensors.lives(process));
        self.sensors.read(&config, holds).await
    }

    async fn outcome(&mut self, outcome: Outcome) {
        self.pending = None;
        match outcome {
            Outcome::HooksEnded => {
                let evidence = self.read().await;
                self.decide(Input::HooksEnded(&evidence)).await;
            }
            Outcome::PowerOff(Ok(())) => self.decide(Input::PowerOffTaken).await,
            Outcome::PowerOff(Err(why)) => self.decide(Input::PowerOffRefused(why)).await,
        }
    }

    async fn decide(&mut self, input: Input<'_>) {
        let actions = self.daemon.borrow_mut().decide(input);
        for action in actions {
            self.perform(action);
        }
        let status = self.daemon.borrow().status();
        if status != self.status {
            notify::status(&status);
            self.status = status;
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            // The daemon has written it.
            Action::Tell(_) => {}
            Action::Warn { left, mode } => {
                let text = act::warning_text(left, &self.daemon.borrow().idle_text(), mode);
                self.terminals.say(text);
            }
            Action::Unwarn { why } => self.terminals.say(act::withdrawal_text(&why)),
            Action::RunHooks => {
                let at_most = self.daemon.borrow().settings().hooks_at_most;
                self.pending = Some(Box::pin(async move {
                    if let Err(why) = act::run_hooks(at_most).await {
                        warn!(guppy_event = "hooks-failed", "the stop goes on: {why}");
                    }
                    Outcome::HooksEnded
                }));
            }
            Action::PowerOff => {
                self.pending =
                    Some(Box::pin(async { Outcome::PowerOff(act::bus::power_off().await) }));
            }
            Action::ForcePowerOff => {
                warn!(guppy_event = "force", "starting poweroff.target, past logind and its locks");
                self.pending =
                    Some(Box::pin(async { Outcome::PowerOff(act::bus::force_power_off().await) }));
            }
            Action::LastResort => {
                warn!(guppy_event = "last-resort", "asking PID 1 to power off, past D-Bus");
                let (dir, now) = {
                    let daemon = self.daemon.borrow();
                    (daemon.state_dir().to_owned(), daemon.clock.now())
                };
                self.pending =
                    Some(Box::pin(
                        async move { Outcome::PowerOff(act::last_resort(&dir, now).await) },
                    ));
            }
        }
    }

    fn reload(&mut self) {
        notify::reloading();
        let mut daemon = self.daemon.borrow_mut();
        match daemon.config.reload() {
            Ok(config) => {
                info!(guppy_event = "reloaded", "config reloaded, mode {}", config.mode.as_str());
            }
            Err(wrong) => error!(
                guppy_event = "config-error",
                "{wrong}; the config before the reload stays in force"
            ),
        }
        notify::ready();
    }
}

/// Whether this look is the one that a stop hangs on.
fn is_last_look(phase: &Phase, now: Boottime) -> bool {
    match phase {
        Phase::Warned { stop_at, .. } => now >= *stop_at,
        Phase::Stopping { stage, .. } => !matches!(stage, Stage::Observed),
        Phase::Settling { .. } | Phase::Active { .. } | Phase::Idle { .. } => false,
    }
}

/// The outcome of the order that is out; without one, this never ends.
async fn next(pending: &mut Option<Pending>) -> Outcome {
    match pending {
        Some(order) => order.await,
        None => std::future::pending().await,
    }
}
