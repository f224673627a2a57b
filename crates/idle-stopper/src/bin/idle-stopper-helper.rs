//! What guppy-idle-stopper has others do, one verb for each oneshot unit:
//! `warn` writes the daemon's message to every terminal, `checks` runs the operator's checks,
//! `hooks` runs the pre-stop hooks, `power-off` grants the last resort. Installed as
//! /usr/libexec/guppy/idle-stopper-helper.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use idle_stopper::helper::{hooks, power_off, run_checks, warn};

const USAGE: &str = "usage: idle-stopper-helper warn|checks|hooks|power-off (run by the units of \
     guppy-idle-stopper)";

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let verb = words.next();
    if words.next().is_some() {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    }
    let done = match verb.as_deref() {
        Some("warn") => warn::run(),
        Some("checks") => run_checks::run(),
        Some("hooks") => hooks::run(),
        Some("power-off") => power_off::run(),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
