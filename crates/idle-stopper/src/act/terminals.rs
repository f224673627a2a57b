//! What the terminals are told.

use std::time::Duration;

use crate::config::Mode;

/// No message is longer; root reads no more of it.
pub const MESSAGE_AT_MOST: usize = 1024;

/// The warning.
pub fn warning_text(left: Duration, idle: &str, mode: Mode) -> String {
    let left = humantime::format_duration(left);
    match mode {
        Mode::Stop => format!(
            "guppy: this box stops in {left} ({idle}). Press a key here to keep it up, \
             or: guppy hold 1h --why \"...\""
        ),
        Mode::Observe => {
            format!("guppy: this box would stop in {left} ({idle}), but only observes.")
        }
    }
}

/// The warning taken back.
pub fn withdrawal_text(why: &str) -> String {
    format!("guppy: this box stays up ({why}).")
}
