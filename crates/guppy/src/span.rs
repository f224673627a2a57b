//! Durations, as people write and read them.

use std::time::Duration;

/// Parses what `guppy hold` takes: `45min`, `4h`, `1h 30min`. A part of a second counts as one.
///
/// # Errors
/// In words for the command line, with what would be valid.
pub fn parse(text: &str) -> Result<Duration, String> {
    let valid = "write a number and a unit: 45min, 4h, \"1h 30min\", 1d";
    let span = humantime::parse_duration(text).map_err(|error| {
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            format!("{error}; {valid}")
        } else {
            format!("not a duration; {valid}. To hold while a command runs: guppy hold -- {text}")
        }
    })?;
    if span.is_zero() {
        return Err(format!("a hold of no time holds nothing; {valid}"));
    }
    let seconds = span.as_secs().saturating_add(u64::from(span.subsec_nanos() > 0));
    Ok(Duration::from_secs(seconds))
}

/// `45 s`, `30 min 04 s`, `2 h 05 min`, `3 d 4 h`: two units at most.
pub fn text(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {:02} s", seconds % 60),
        (0, _, _) => format!("{hours} h {:02} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

/// The same with one unit, for a column: `45s`, `30min`, `2h`, `3d`.
pub fn short(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}min", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [
            ("4h", 14_400),
            ("90min", 5400),
            ("1h 30min", 5400),
            ("1h30m", 5400),
            ("1d", 86_400),
            ("45s", 45),
            ("1500ms", 2),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_says_what_would_be() {
        for text in ["", "4", "0s", "0h", "-1h", "4 parsecs", "h", "99999999999999999999h"] {
            let said = parse(text).expect_err(text);
            assert!(said.contains("45min"), "{text}: {said}");
        }
    }

    #[test]
    fn durations_are_written_with_two_units_at_most() {
        for (seconds, long, brief) in [
            (0, "0 s", "0s"),
            (59, "59 s", "59s"),
            (60, "1 min 00 s", "1min"),
            (1804, "30 min 04 s", "30min"),
            (7500, "2 h 05 min", "2h"),
            (86_399, "23 h 59 min", "23h"),
            (273_600, "3 d 4 h", "3d"),
        ] {
            assert_eq!(text(seconds), long);
            assert_eq!(short(seconds), brief);
        }
    }
}
