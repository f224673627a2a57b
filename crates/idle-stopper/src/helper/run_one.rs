//! One executable run with a bound on its time. It gets a process group of its own, and when its
//! time is over the whole group is killed; the unit's cgroup takes whatever escapes that.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::executables::Executable;

/// Starts it, with its output in the journal and no input.
pub(super) fn start(executable: &Executable, environment: &[(&str, &str)]) -> io::Result<Child> {
    Command::new(&executable.path)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
}

/// Waits for its end until `deadline`, then kills it. None: it was killed.
pub(super) fn finish(mut child: Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    let pid = Pid::from_child(&child);
    let fd = pidfd_open(pid, PidfdFlags::empty())?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            kill_process_group(pid, Signal::KILL)?;
            child.wait()?;
            return Ok(None);
        }
        // A signal may cut the wait short: then the loop looks again.
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// `10 s`, for a message.
pub(super) fn seconds(span: Duration) -> String {
    format!("{} s", span.as_secs())
}
