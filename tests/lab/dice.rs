//! Numbers for random walks that a seed repeats.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

/// A number from the environment; nothing if the variable is not set.
pub fn number_of(variable: &str) -> Result<Option<u64>> {
    match std::env::var(variable) {
        Ok(text) => text.parse().map(Some).with_context(|| format!("{variable}={text}")),
        Err(_) => Ok(None),
    }
}

/// splitmix64 (Steele and others 2014).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Thrown anew each time, unless `GUPPY_SEED` repeats a run; with the seed to print.
    pub fn new() -> Result<(Self, u64)> {
        let seed = match number_of("GUPPY_SEED")? {
            Some(seed) => seed,
            None => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
        };
        Ok((Self(seed), seed))
    }

    /// A number from 0 up to, not including, `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % limit.max(1)
    }
}
