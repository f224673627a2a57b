//! Spans of time as people write them, "30min" or "2h 10min"; for `#[serde(with = "span")]`.

use std::fmt;
use std::time::Duration;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::Serializer;

use super::Invalid;

/// Reads "30min", "2h 10min", "0s".
///
/// # Errors
/// A text for people: what is wrong and what to write.
pub fn parse(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|error| match error {
        humantime::DurationError::UnknownUnit { unit, .. } if unit.is_empty() => unit_missing(text),
        humantime::DurationError::Empty => "say a span, as in \"30min\"".to_owned(),
        error => format!("{error}; say a span as in \"30min\" or \"2h 10min\""),
    })
}

/// Writes it as [`parse`] reads it.
pub fn format(span: Duration) -> String {
    humantime::format_duration(span).to_string()
}

/// Whether `value` lies in `min..=max`.
///
/// # Errors
/// [`Invalid`] for `key`, with both ends in words.
pub fn within(key: &str, value: Duration, min: Duration, max: Duration) -> Result<(), Invalid> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    let valid = format!("a span from {} to {}", format(min), format(max));
    Err(Invalid::new(key, format(value), &valid))
}

fn unit_missing(number: impl fmt::Display) -> String {
    format!("say a unit, as in \"30min\", not {number}")
}

/// For serde.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&humantime::format_duration(*span))
}

/// For serde.
///
/// # Errors
/// Those of [`parse`], and a number without a unit.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    struct Text;

    impl Visitor<'_> for Text {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a span as in \"30min\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(E::custom)
        }

        fn visit_i64<E: de::Error>(self, number: i64) -> Result<Duration, E> {
            Err(E::custom(unit_missing(number)))
        }

        fn visit_u64<E: de::Error>(self, number: u64) -> Result<Duration, E> {
            Err(E::custom(unit_missing(number)))
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<Duration, E> {
            Err(E::custom(unit_missing(number)))
        }
    }

    deserializer.deserialize_any(Text)
}
