//! Signals as events that are waited for: all of them are blocked in the shim from its first line
//! on, so that none ends it half way and none is lost.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};

use crate::process::timespec;

/// A signal that has arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) signal: Signal,
    /// Who sent it; 0: the kernel, or somebody outside of this container.
    pub(super) sender: u32,
}

/// The signals of this process, as events.
#[derive(Debug)]
pub(super) struct Signals(SignalFd);

impl Signals {
    /// Blocks all signals. Also those of job control: a shim in the background must be able to
    /// write to its terminal and to give it away (tcsetpgrp(3)).
    pub(super) fn block() -> io::Result<Self> {
        let all = SigSet::all();
        all.thread_block()?;
        Ok(Self(SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// The next one, waited for until `end`; None for ever. None: there was none in time.
    pub(super) fn next(&self, end: Option<Instant>) -> io::Result<Option<Event>> {
        loop {
            if let Some(found) = self.0.read_signal()? {
                let signal = i32::try_from(found.ssi_signo).unwrap_or(0);
                // Real-time signals are no business of a shim's.
                if let Ok(signal) = Signal::try_from(signal) {
                    return Ok(Some(Event { signal, sender: found.ssi_pid }));
                }
                continue;
            }
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            let mut ready = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::IN)];
            match poll(&mut ready, left.map(timespec).as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One that has arrived already.
    pub(super) fn pending(&self) -> io::Result<Option<Event>> {
        self.next(Some(Instant::now()))
    }
}

/// Ends the blocking: it would outlive exec(2), and an agent that cannot be interrupted.
pub(super) fn unblock() -> io::Result<()> {
    Ok(SigSet::all().thread_unblock()?)
}
