//! Wall time, which is only for people: never used to decide or to measure.

use std::time::Duration;

use jiff::Zoned;

/// The time of day `seconds` after `now`, with its zone; with the date where that is another day.
pub fn after(now: &Zoned, seconds: u64) -> String {
    let Ok(then) = now.checked_add(Duration::from_secs(seconds)) else {
        return "beyond the calendar".to_owned();
    };
    if then.date() == now.date() {
        then.strftime("%H:%M:%S %Z").to_string()
    } else {
        then.strftime("%Y-%m-%d %H:%M:%S %Z").to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_day_is_named() {
        let now: Zoned = "2026-11-21T23:30:00+00:00[UTC]".parse().expect("a time");
        assert_eq!(after(&now, 60), "23:31:00 UTC");
        assert_eq!(after(&now, 3600), "2026-11-22 00:30:00 UTC");
        assert_eq!(after(&now, u64::MAX), "beyond the calendar");
    }
}
