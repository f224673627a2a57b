//! What one kind of evidence comes to at one tick.

use service::clock::Boottime;

use crate::sense::Reading;

/// The judgement over one reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Something works, or somebody is there.
    Active {
        /// When it was last so: for a rate, the end of the interval in which it was high.
        at: Boottime,
        /// What, with its numbers.
        detail: String,
    },
    /// Nothing that counts.
    Quiet(String),
    /// It could not be read.
    Unknown(String),
}

/// Judges a reading that may have failed.
pub(super) fn known<T>(reading: &Reading<T>, judge: impl FnOnce(&T) -> Verdict) -> Verdict {
    match reading {
        Reading::Known(value) => judge(value),
        Reading::Unknown(why) => Verdict::Unknown(why.clone()),
    }
}

/// The first of a few things and how many more there are: `a, b and 3 more`.
pub(super) fn some_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const SHOWN: usize = 2;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
