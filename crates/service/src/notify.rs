//! What a daemon tells systemd: ready, reloading, stopping, its status line, and that it is alive
//! (sd_notify(3)). Without `$NOTIFY_SOCKET` nothing is said and nothing fails.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon serves.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// The one line that `systemctl status` shows.
pub fn status(text: &str) {
    // A newline would end the field and begin another.
    say(&[NotifyState::Status(&text.replace(['\n', '\r'], " "))]);
}

/// The config is being read again; [`ready`] ends it. systemd wants CLOCK_MONOTONIC with it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// The daemon is about to end.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

fn say(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// systemd's watchdog: it kills the daemon when it hears nothing for the unit's WatchdogSec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    deadline: Option<Duration>,
}

impl Watchdog {
    /// From `$WATCHDOG_USEC`, if `$WATCHDOG_PID` is this process; else a watchdog that asks for
    /// nothing.
    pub fn from_env() -> Self {
        Self { deadline: sd_notify::watchdog_enabled() }
    }

    /// How long systemd waits. None: it does not.
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// How often to ping: half of what systemd waits. None: not at all.
    pub fn interval(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline / 2)
    }

    /// "Alive." Only the loop that makes progress may say so, after a round that did: a task of
    /// its own would go on pinging for a loop that hangs.
    pub fn ping(&self) {
        if self.deadline.is_some() {
            say(&[NotifyState::Watchdog]);
        }
    }
}
