//! Running totals over a sliding window: how much of what moved since about one window ago, and
//! when it last moved in earnest.

use std::collections::VecDeque;
use std::time::Duration;

use service::clock::Boottime;

/// One reading: totals sorted by key.
type Sample<K> = (Boottime, Vec<(K, u64)>);

/// The readings of the last window, and one from just before it.
#[derive(Clone, Debug)]
pub(super) struct Meter<K> {
    samples: VecDeque<Sample<K>>,
}

/// What one key moved within the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved<K> {
    pub(super) key: K,
    pub(super) amount: u64,
}

impl<K> Default for Meter<K> {
    fn default() -> Self {
        Self { samples: VecDeque::new() }
    }
}

impl<K: Ord + Clone> Meter<K> {
    /// Adds a reading and forgets those that the window has left behind.
    pub(super) fn push(&mut self, now: Boottime, window: Duration, mut totals: Vec<(K, u64)>) {
        totals.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.samples.push_back((now, totals));
        while self.samples.get(1).is_some_and(|second| now.since(second.0) >= window) {
            self.samples.pop_front();
        }
    }

    /// Forgets everything: after a gap, a rate would be about time nobody watched.
    pub(super) fn clear(&mut self) {
        self.samples.clear();
    }

    /// The time that the readings span, at least `window`: a floor is an amount over this.
    pub(super) fn span(&self, window: Duration) -> Duration {
        match (self.samples.front(), self.samples.back()) {
            (Some(first), Some(last)) => last.0.since(first.0).max(window),
            _ => window,
        }
    }

    /// What every key of the newest reading has moved since the oldest. A key that was not there
    /// yet began at zero; one that fell was made anew (an interface, a cgroup of the same name).
    pub(super) fn moved(&self) -> Vec<Moved<K>> {
        let (Some((_, oldest)), Some((_, newest))) = (self.samples.front(), self.samples.back())
        else {
            return Vec::new();
        };
        if self.samples.len() < 2 {
            return Vec::new();
        }
        let mut before = oldest.iter().peekable();
        newest
            .iter()
            .map(|(key, total)| {
                while before.next_if(|(old, _)| old < key).is_some() {}
                let base = before.peek().filter(|(old, _)| old == key).map_or(0, |(_, base)| *base);
                Moved { key: key.clone(), amount: grown(base, *total) }
            })
            .collect()
    }

    /// The end of the latest interval between two readings in which `key` moved more than `rate`
    /// a second: that is when the activity was, however long the window still shows it.
    pub(super) fn last_above(&self, key: &K, rate: f64) -> Option<Boottime> {
        let newer = self.samples.iter().rev();
        let older = self.samples.iter().rev().skip(1);
        newer.zip(older).find_map(|((at, after), (from, before))| {
            let amount = grown(total_of(before, key), total_of(after, key));
            let floor = rate * at.since(*from).as_secs_f64();
            (amount as f64 > floor).then_some(*at)
        })
    }
}

fn total_of<K: Ord>(sorted: &[(K, u64)], key: &K) -> u64 {
    sorted
        .binary_search_by(|(candidate, _)| candidate.cmp(key))
        .ok()
        .and_then(|index| sorted.get(index))
        .map_or(0, |(_, total)| *total)
}

/// From one total to a later one; a total that fell began anew at zero.
pub(super) const fn grown(before: u64, after: u64) -> u64 {
    if after >= before { after - before } else { after }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Boottime {
        Boottime::from_millis(seconds * 1000)
    }

    #[test]
    fn amounts_are_over_the_window_and_no_longer() {
        let mut meter = Meter::default();
        for second in (0..=200).step_by(20) {
            meter.push(at(second), WINDOW, vec![("a", second * 10)]);
        }
        assert_eq!(meter.moved(), vec![Moved { key: "a", amount: 600 }]);
        assert_eq!(meter.span(WINDOW), WINDOW);
    }

    #[test]
    fn the_first_reading_moves_nothing_and_a_new_key_counts_from_zero() {
        let mut meter = Meter::default();
        meter.push(at(0), WINDOW, vec![("old", 1_000)]);
        assert!(meter.moved().is_empty());
        meter.push(at(20), WINDOW, vec![("old", 1_000), ("new", 7)]);
        assert_eq!(
            meter.moved(),
            vec![Moved { key: "new", amount: 7 }, Moved { key: "old", amount: 0 }]
        );
    }

    #[test]
    fn a_total_that_fell_was_made_anew() {
        let mut meter = Meter::default();
        meter.push(at(0), WINDOW, vec![("eth0", 5_000)]);
        meter.push(at(20), WINDOW, vec![("eth0", 300)]);
        assert_eq!(meter.moved(), vec![Moved { key: "eth0", amount: 300 }]);
    }

    #[test]
    fn the_moment_of_the_activity_is_not_the_moment_of_the_look() {
        let mut meter = Meter::default();
        meter.push(at(0), WINDOW, vec![("a", 0)]);
        meter.push(at(20), WINDOW, vec![("a", 1_000)]);
        meter.push(at(40), WINDOW, vec![("a", 1_001)]);
        assert_eq!(meter.last_above(&"a", 1.0), Some(at(20)));
        assert_eq!(meter.last_above(&"a", 1_000.0), None);
        assert_eq!(meter.last_above(&"b", 0.0), None);
    }
}
