//! The one place that waits: a condition, a deadline, and a short pause between two looks.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Longest pause between two looks that cost nothing. Short enough that no measured time suffers.
const PAUSE_AT_MOST: Duration = Duration::from_millis(250);

/// Longest pause after a look that took long: an emulated guest that is asked all the time does
/// nothing else, and disturbs those beside it.
const PAUSE_AFTER_LONG_LOOK: Duration = Duration::from_secs(1);

/// Looks until `look` gives a value, at most `within`. An error from `look` ends the wait.
pub fn until<T>(
    what: &str,
    within: Duration,
    look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    until_with(what, within, Duration::from_millis(5), look)
}

/// The same with a longer first pause, for looks that cost the guest something.
pub(crate) fn until_with<T>(
    what: &str,
    within: Duration,
    mut pause: Duration,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let start = Instant::now();
    let most = pause.max(PAUSE_AT_MOST);
    loop {
        let began = Instant::now();
        if let Some(value) = look().with_context(|| format!("while waiting for {what}"))? {
            return Ok(value);
        }
        let rest = (2 * began.elapsed()).min(PAUSE_AFTER_LONG_LOOK).max(pause);
        if start.elapsed() >= within {
            bail!("{what}: not within {:.1} s", within.as_secs_f64());
        }
        std::thread::sleep(rest.min(within.saturating_sub(start.elapsed())));
        pause = (pause * 2).min(most);
    }
}

/// Looks until `look` says true, at most `within`.
pub fn until_true(
    what: &str,
    within: Duration,
    mut look: impl FnMut() -> Result<bool>,
) -> Result<()> {
    until(what, within, || Ok(look()?.then_some(())))
}
