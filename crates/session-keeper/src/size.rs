//! Sizes of memory in the config: `"512MiB"`, `"4GiB"`, or bytes as a number.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

const UNITS: [(&str, u32); 4] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];

fn parse(text: &str) -> Option<u64> {
    let text = text.trim();
    for (unit, shift) in UNITS {
        if let Some(number) = text.strip_suffix(unit) {
            let number: u64 = number.trim_end().parse().ok()?;
            return number.checked_mul(1 << shift);
        }
    }
    text.parse().ok()
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let whole = |shift: u32| self.0 >= 1 << shift && self.0.is_multiple_of(1 << shift);
        match UNITS.into_iter().rev().find(|(_, shift)| whole(*shift)) {
            Some((unit, shift)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Bytes;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size, for example \"4GiB\" or \"512MiB\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Bytes, E> {
                let wrong = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                parse(text).map(Bytes).ok_or_else(wrong)
            }

            fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<Bytes, E> {
                let wrong = |_| E::invalid_value(serde::de::Unexpected::Signed(bytes), &self);
                u64::try_from(bytes).map(Bytes).map_err(wrong)
            }

            fn visit_u64<E: serde::de::Error>(self, bytes: u64) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }

        from.deserialize_any(Visitor)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written() {
        for (text, bytes, written) in [
            ("4GiB", 4 << 30, "4GiB"),
            ("1536 MiB", 1536 << 20, "1536MiB"),
            ("1024KiB", 1 << 20, "1MiB"),
            ("1000", 1000, "1000"),
        ] {
            assert_eq!(parse(text), Some(bytes));
            assert_eq!(Bytes(bytes).to_string(), written);
        }
        for text in ["", "4GB", "-1", "GiB", "99999999TiB", "4G", "1.5GiB"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
