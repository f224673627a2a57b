//! The two things that systemd asks by signal.

use std::io;

use tokio::signal::unix::{self, SignalKind};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: read the config again.
    Reload,
    /// SIGTERM, or SIGINT on a terminal: end.
    Stop,
}

/// The signals that arrive from now on.
#[derive(Debug)]
pub struct Signals {
    hup: unix::Signal,
    term: unix::Signal,
    int: unix::Signal,
}

impl Signals {
    /// Installs the handlers; within a tokio runtime with I/O enabled.
    ///
    /// # Errors
    /// Those of sigaction(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            hup: unix::signal(SignalKind::hangup())?,
            term: unix::signal(SignalKind::terminate())?,
            int: unix::signal(SignalKind::interrupt())?,
        })
    }

    /// The next one. Cancel safe.
    pub async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.hup.recv() => Signal::Reload,
            _ = self.term.recv() => Signal::Stop,
            _ = self.int.recv() => Signal::Stop,
        }
    }
}
