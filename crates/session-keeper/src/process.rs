//! A process that cannot be mistaken for a later one with the same number.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

/// A process of this boot: its number and when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub pid: u32,
    /// When it began, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)).
    pub start_time: u64,
}

impl Identity {
    /// Who has this number now.
    ///
    /// # Errors
    /// Those of reading /proc/PID/stat: `NotFound` when nobody has.
    pub fn of(pid: u32) -> io::Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let start_time = start_time(&stat)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no start time in stat"))?;
        Ok(Self { pid, start_time })
    }

    /// A handle on the process; None when it is gone.
    ///
    /// # Errors
    /// Those of pidfd_open(2) and of reading /proc.
    pub fn open(&self) -> io::Result<Option<OwnedFd>> {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // Only now: the number may have been given to another before the handle was there.
        match Self::of(self.pid) {
            Ok(now) if now == *self => Ok(Some(handle)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Kills it if it is there, and waits until it is gone.
    ///
    /// # Errors
    /// `TimedOut`, or those of the kernel.
    pub fn kill(&self, within: Duration) -> io::Result<()> {
        let Some(handle) = self.open()? else { return Ok(()) };
        match pidfd_send_signal(&handle, Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(error) => return Err(error.into()),
        }
        if has_ended(&handle, within)? {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "SIGKILL does not end it"))
    }
}

/// Field 22 of /proc/PID/stat.
pub(crate) fn start_time(stat: &str) -> Option<u64> {
    // The second field is the name in brackets, and may hold brackets and spaces itself.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// Waits until the process behind a handle has ended; false when it has not in time.
///
/// # Errors
/// Those of poll(2).
pub fn has_ended(handle: &OwnedFd, within: Duration) -> io::Result<bool> {
    let end = Instant::now() + within;
    loop {
        let left = timespec(end.saturating_duration_since(Instant::now()));
        let mut ready = [PollFd::new(handle, PollFlags::IN)];
        match poll(&mut ready, Some(&left)) {
            Ok(count) => return Ok(count > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// A span as poll(2) takes it.
pub(crate) fn timespec(span: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(span.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[test]
    fn the_right_one_is_killed_and_no_other() {
        // A name that looks like the end of the second field.
        let mut child = Command::new("sleep").arg0("a) b 1 (c").arg("60").spawn().unwrap();
        let identity = Identity::of(child.id()).unwrap();
        let other = Identity { start_time: identity.start_time + 1, ..identity };
        other.kill(SOON).unwrap();
        assert!(identity.open().unwrap().is_some());
        identity.kill(SOON).unwrap();
        assert!(!child.wait().unwrap().success());
        assert!(identity.open().unwrap().is_none());
        identity.kill(SOON).unwrap();
    }

    #[test]
    fn a_process_that_lives_has_not_ended() {
        let own = Identity::of(std::process::id()).unwrap();
        let handle = own.open().unwrap().unwrap();
        assert!(!has_ended(&handle, Duration::ZERO).unwrap());
        assert!(Identity { pid: u32::MAX, start_time: 1 }.open().unwrap().is_none());
    }
}
