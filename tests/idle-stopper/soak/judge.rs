//! Which stops are right, given what ran and when. By the guest's clock, in seconds.

use anyhow::{Result, ensure};

use crate::machine::{IDLE, STAMP_STEP, TICK, WARNING};

/// A box is gone this long after the last work at the latest: its window of rates is over by then
/// (6 s), its times have passed, and a slow tick is forgiven.
pub(super) const BOUND: f64 = IDLE + WARNING + STAMP_STEP + 6.0 + TICK + 8.0;

/// One piece of work.
#[derive(Debug, Clone)]
pub(super) struct Span {
    /// What it was, for people.
    pub(super) what: String,
    /// When it began at the earliest.
    pub(super) began: f64,
    /// From here on every look sees it …
    pub(super) seen_from: f64,
    /// … until here.
    pub(super) seen_until: f64,
    /// When it had ended at the latest.
    pub(super) ended: f64,
}

impl Span {
    /// Whether a look must have fallen into it.
    fn was_seen(&self) -> bool {
        self.seen_until - self.seen_from > 2.0 * TICK
    }
}

/// Fails on a stop too early after work, and on a rest without its stop.
pub(super) fn judge(spans: &[Span], stops: &[f64], until: f64) -> Result<()> {
    for span in spans.iter().filter(|span| span.was_seen()) {
        // The last look that saw it may have been a tick before its end, a rate's one more.
        let earliest = span.seen_until - 2.0 * TICK + IDLE + WARNING;
        for stop in stops {
            ensure!(
                !(span.seen_from..earliest).contains(stop),
                "stopped at {stop:.1}, {:.1} s after {}: {span:?}",
                stop - span.seen_until,
                span.what
            );
        }
    }
    let mut spans = spans.to_vec();
    spans.sort_by(|one, other| one.began.total_cmp(&other.began));
    // Work that overlaps is followed by one rest. Nobody need stop a second time after work that
    // no look has seen.
    let (mut busy_until, mut was_seen) = (f64::MIN, false);
    for (span, next) in spans.iter().zip(spans.iter().skip(1).map(Some).chain([None])) {
        busy_until = span.ended.max(busy_until);
        was_seen |= span.was_seen();
        let rest_until = next.map_or(until, |next| next.began);
        if rest_until <= busy_until {
            continue;
        }
        let is_long = rest_until - busy_until >= BOUND;
        let has_stopped = stops.iter().any(|stop| (busy_until..rest_until).contains(stop));
        ensure!(
            !(is_long && was_seen) || has_stopped,
            "no stop from {busy_until:.1} to {rest_until:.1}, after {}: {span:?}",
            span.what
        );
        was_seen = false;
    }
    Ok(())
}

/// A judge that finds nothing is no judge.
#[test]
fn the_judge_finds_a_stop_too_early_and_one_that_is_missing() {
    let span = |began: f64, ended: f64| Span {
        what: String::new(),
        began,
        seen_from: began + 1.0,
        seen_until: ended - 1.0,
        ended,
    };
    let spans = [span(10.0, 50.0), span(20.0, 60.0), span(300.0, 330.0)];
    let right = [60.0 + IDLE + WARNING, 330.0 + IDLE + WARNING];
    assert!(judge(&spans, &right, 330.0 + BOUND).is_ok());
    assert!(judge(&spans, &[right[0]], 330.0 + BOUND).is_err(), "the second is missing");
    assert!(judge(&spans, &[right[1]], 330.0 + BOUND).is_err(), "the first is missing");
    assert!(judge(&spans, &[right[0]], 330.0 + IDLE).is_ok(), "the second is not due");
    for early in [30.0, 55.0, 60.0 + IDLE, 310.0, 340.0] {
        let stops = [early, right[0], right[1]];
        assert!(judge(&spans, &stops, 330.0 + BOUND).is_err(), "{early} is too early");
    }
    let glimpse = [span(10.0, 12.0)];
    assert!(judge(&glimpse, &[], 500.0).is_ok(), "nobody saw it");
}
