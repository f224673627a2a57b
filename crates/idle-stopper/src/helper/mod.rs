//! The part that runs as root, in units of its own, outside the daemon's sandbox. It takes nothing
//! from the daemon but one message, which it does not trust.

mod executables;
pub mod hooks;
pub mod run_checks;
mod run_one;
pub mod warn;
