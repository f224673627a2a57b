//! How long a run may work, and what is kept back for its report.

use std::time::Duration;

/// Kept back at most: enough to list what still costs, and to publish with two retries.
const RESERVE_AT_MOST: Duration = Duration::from_secs(30);

/// Kept back at most for the answer: who has not given it at the deadline is killed, and what it
/// would have said of a failure is lost.
const ANSWER_AT_MOST: Duration = Duration::from_secs(1);

/// How long regions may be worked on, and how long the whole run may take, from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// For reading and stopping.
    pub work: Duration,
    /// For all but the answer, the report included.
    pub all: Duration,
}

/// Divides the time. `now` and `deadline` are times since the epoch, `deadline` as Lambda says it.
///
/// A deadline in the past cannot be meant: `cargo lambda watch` says 1970. Then the configured
/// timeout counts.
#[must_use]
pub fn divide(now: Duration, deadline: Duration, timeout: Duration) -> Time {
    let rest = match deadline.checked_sub(now) {
        Some(rest) if !rest.is_zero() => rest,
        _ => timeout,
    };
    Time {
        work: rest - (rest / 3).min(RESERVE_AT_MOST),
        all: rest - (rest / 10).min(ANSWER_AT_MOST),
    }
}

#[cfg(test)]
mod tests {
    use super::{Time, divide};
    use std::time::Duration;

    #[test]
    fn the_report_has_its_own_time() {
        let s = Duration::from_secs;
        let now = s(1_795_000_000);
        for (deadline, work, all) in [
            (now + s(300), s(270), s(299)),
            (now + s(9), s(6), Duration::from_millis(8100)),
            (now, s(270), s(299)),
            (s(600), s(270), s(299)),
        ] {
            assert_eq!(divide(now, deadline, s(300)), Time { work, all }, "{deadline:?}");
        }
    }
}
