//! How soon to look after a hint: at once, but a flood of hints costs few looks.

use std::time::Duration;

use tokio::time::Instant;

/// So many looks in a row come at once; each SPARE gives one back.
const BURST: u32 = 30;
const SPARE: Duration = Duration::from_millis(200);

/// Counts looks.
#[derive(Debug, Default)]
pub(super) struct Pace {
    used: u32,
    last: Option<Instant>,
}

impl Pace {
    /// A look begins.
    pub(super) fn looked(&mut self, now: Instant) {
        if let Some(last) = self.last {
            let spared = now.saturating_duration_since(last).as_millis() / SPARE.as_millis();
            self.used = self.used.saturating_sub(u32::try_from(spared).unwrap_or(u32::MAX));
        }
        self.used = (self.used + 1).min(BURST);
        self.last = Some(now);
    }

    /// When the next may begin.
    pub(super) fn next(&self, now: Instant) -> Instant {
        match self.last {
            Some(last) if self.used >= BURST => now.max(last + SPARE),
            _ => now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_hint_is_followed_at_once_and_a_flood_five_times_a_second() {
        let mut pace = Pace::default();
        let began = Instant::now();
        let mut now = began;
        assert_eq!(pace.next(now), now);
        let mut looks = 0;
        // A hint each millisecond, for ten seconds.
        while now < began + Duration::from_secs(10) {
            if pace.next(now) == now {
                pace.looked(now);
                looks += 1;
            }
            now += Duration::from_millis(1);
        }
        assert!((60..=90).contains(&looks), "{looks}");
        now += Duration::from_secs(60);
        assert_eq!(pace.next(now), now);
    }
}
