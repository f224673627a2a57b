//! The part that runs in units of its own, outside the daemon's sandbox and, but for the last
//! resort, as root. It takes nothing from the daemon but a message and a request to power off, and
//! trusts neither.

pub mod executables;
pub mod hooks;
pub mod power_off;
pub mod run_checks;
mod run_one;
#[cfg(test)]
mod tests;
pub mod warn;

/// The daemon's state folder. It belongs to the daemon, so nothing in it is trusted.
const STATE_DIR: &str = "/run/guppy-idle-stopper";
