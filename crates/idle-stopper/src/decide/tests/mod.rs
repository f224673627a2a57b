//! `decide` on a world made of values: hours pass in microseconds.

#![allow(clippy::unwrap_used)]

use proptest::test_runner::Config as ProptestConfig;

mod attacks;
mod incidents;
mod kinds;
mod phases;
mod restarts;
mod traces;
mod world;

/// A property is tried on a few cases; on a hundred times as many in the whole matrix
/// (`tests/run --full`).
pub(crate) fn cases(few: u32) -> ProptestConfig {
    let full = std::env::var_os("GUPPY_FULL").is_some_and(|value| value == "1");
    ProptestConfig::with_cases(if full { 100 * few } else { few })
}
