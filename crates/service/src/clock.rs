//! Time as the daemons count it: CLOCK_BOOTTIME, which goes on in suspend and is never stepped
//! (clock_gettime(2)). Wall time is only for people.

use std::fmt;
use std::io;
use std::ops::Add;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A moment: milliseconds of CLOCK_BOOTTIME. Moments of different boots do not compare.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Boottime(u64);

impl Boottime {
    /// The moment `millis` milliseconds after boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this moment lies; zero when it lies before.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// How long before `later` this moment lies; zero when it lies after.
    pub const fn until(self, later: Self) -> Duration {
        later.since(self)
    }
}

impl Add<Duration> for Boottime {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(millis))
    }
}

impl fmt::Display for Boottime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s after boot", self.0 / 1000, self.0 % 1000)
    }
}

/// The boot that a moment belongs to: random, and fixed until the next boot.
///
/// # Errors
/// Those of reading /proc/sys/kernel/random/boot_id (random(4)).
pub fn boot_id() -> io::Result<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    Ok(text.trim_end().to_owned())
}

/// Where a daemon reads the time. A test drives it; a daemon reads the kernel's.
#[derive(Clone, Debug)]
pub enum Clock {
    /// CLOCK_BOOTTIME.
    Kernel,
    /// A clock that stands still until its test moves it; milliseconds.
    Driven(Arc<AtomicU64>),
}

impl Clock {
    /// A clock for tests, standing at `start`.
    pub fn driven(start: Boottime) -> Self {
        Self::Driven(Arc::new(AtomicU64::new(start.as_millis())))
    }

    /// The time now.
    pub fn now(&self) -> Boottime {
        match self {
            Self::Kernel => {
                let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
                let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
                let millis = u64::try_from(now.tv_nsec / 1_000_000).unwrap_or(0);
                Boottime(seconds.saturating_mul(1000).saturating_add(millis))
            }
            Self::Driven(millis) => Boottime(millis.load(Ordering::SeqCst)),
        }
    }

    /// Moves a driven clock forward. The kernel's clock is nobody's to move: there it does nothing.
    pub fn advance(&self, span: Duration) {
        if let Self::Driven(millis) = self {
            let span = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            millis.fetch_add(span, Ordering::SeqCst);
        }
    }
}

/// A timer of the kernel's, which goes on in suspend. tokio's own wakes the process up to three
/// times for one sleep of 20 s: at each level of its wheel.
#[derive(Debug)]
pub struct Timer(AsyncFd<OwnedFd>);

impl Timer {
    /// A timer that is not running. Inside a runtime.
    ///
    /// # Errors
    /// Those of timerfd_create(2) and epoll_ctl(2).
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        // SAFETY: an OwnedFd is open and stays the same one until it is dropped, and nothing takes
        // it out of the AsyncFd.
        #[allow(unsafe_code, reason = "tokio has no safe way to wait for a descriptor")]
        let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) };
        Ok(Self(timer?))
    }

    /// Waits for a span that begins now; one at a time.
    pub async fn after(&self, span: Duration) {
        if self.wait(span).await.is_err() {
            tokio::time::sleep(span).await;
        }
    }

    async fn wait(&self, span: Duration) -> io::Result<()> {
        // Zero would switch it off.
        let span = span.max(Duration::from_nanos(1));
        let it_value = Timespec {
            tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(span.subsec_nanos()),
        };
        let it_interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval, it_value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &timer)?;
        loop {
            let mut ready = self.0.readable().await?;
            // An earlier span may have left it marked as ready: only the count says that it is.
            match rustix::io::read(&self.0, &mut [0_u8; 8]) {
                Ok(_) => return Ok(()),
                Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_kernels_clock_runs_and_nobody_moves_it() {
        let clock = Clock::Kernel;
        let before = clock.now();
        clock.advance(Duration::from_secs(1000));
        let span = clock.now().since(before);
        assert!(before > Boottime::default() && span < Duration::from_secs(100), "{span:?}");
    }

    #[test]
    fn a_driven_clock_stands_until_moved() {
        let clock = Clock::driven(Boottime::from_millis(5));
        let other = clock.clone();
        clock.advance(Duration::from_millis(7));
        assert_eq!(other.now(), Boottime::from_millis(12));
        clock.advance(Duration::ZERO);
        assert_eq!(other.now().to_string(), "0.012 s after boot");
    }

    #[test]
    fn sums_and_differences_stop_at_the_ends() {
        let (early, late) = (Boottime::from_millis(1), Boottime::from_millis(u64::MAX));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(late.until(early), Duration::ZERO);
        assert_eq!(late + Duration::MAX, late);
        assert_eq!(late.since(early), Duration::from_millis(u64::MAX - 1));
    }

    #[test]
    fn a_boot_has_one_id() {
        let id = boot_id().unwrap();
        assert_eq!((id.len(), id.matches('-').count()), (36, 4));
        assert_eq!(boot_id().unwrap(), id);
    }
}
