//! How many lines of the journal the holds get. Whoever may hold may place and release thousands a
//! second, and journald drops what a service says beyond its rate (journald.conf(5),
//! RateLimitBurst=): the line that tells why the box stopped must not be among that.

use std::collections::BTreeMap;
use std::time::Duration;

use service::clock::Boottime;

/// Each of these begins a new count.
const PERIOD: Duration = Duration::from_secs(600);
/// Lines about one user's holds in a period: more than people and agents make.
const PER_UID: u32 = 100;
/// Of all users together.
const IN_ALL: u32 = 500;

/// The lines of this period.
#[derive(Debug, Default)]
pub struct HoldLines {
    since: Boottime,
    in_all: u32,
    per_uid: BTreeMap<u32, u32>,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// It is written.
    Written,
    /// It is written, and then that no more will be.
    Last,
    /// It is not.
    Dropped,
}

impl HoldLines {
    /// Counts one more line about a hold of this user.
    pub fn take(&mut self, uid: u32, now: Boottime) -> Line {
        if now.since(self.since) >= PERIOD {
            *self = Self { since: now, ..Self::default() };
        }
        if self.in_all >= IN_ALL {
            return Line::Dropped;
        }
        // So no more users are kept than lines.
        let of_uid = self.per_uid.entry(uid).or_default();
        if *of_uid >= PER_UID {
            return Line::Dropped;
        }
        *of_uid += 1;
        self.in_all += 1;
        if *of_uid == PER_UID || self.in_all == IN_ALL { Line::Last } else { Line::Written }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Boottime {
        Boottime::from_millis(seconds * 1000)
    }

    /// How many of so many lines are written.
    fn written(lines: &mut HoldLines, uid: u32, of: u32, now: Boottime) -> usize {
        (0..of).filter(|_| lines.take(uid, now) != Line::Dropped).count()
    }

    #[test]
    fn a_user_who_floods_is_cut_off_and_nobody_else() {
        let mut lines = HoldLines::default();
        assert_eq!(written(&mut lines, 1000, 99, at(5)), 99);
        assert_eq!(lines.take(1000, at(6)), Line::Last);
        assert_eq!(written(&mut lines, 1000, 5000, at(7)), 0);
        assert_eq!(lines.take(1001, at(8)), Line::Written);
        // Nobody for ever.
        assert_eq!(lines.take(1000, at(600)), Line::Written);
    }

    #[test]
    fn a_user_with_many_numbers_is_cut_off_too() {
        let mut lines = HoldLines::default();
        let told: usize = (100_000..165_536).map(|uid| written(&mut lines, uid, 2, at(5))).sum();
        assert_eq!(told, 500);
        assert!(lines.per_uid.len() <= 500);
    }
}
