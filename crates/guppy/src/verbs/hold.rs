//! `guppy hold`: keeps this box up, for a time or while a command runs.
//!
//! The command takes this process's place instead of being its child, so that its pid, terminal,
//! signals and exit status are its own. The agent watches the process, whatever runs in it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use idle_stopper::api::{HoldLine, IdleStopper};
use jiff::Zoned;

use crate::agent::IDLE_STOPPER;
use crate::cli::Hold;
use crate::report::{Code, Failure, Report};
use crate::table::printable;
use crate::verbs::wait_for;
use crate::{span, wall};

/// The reason of a command's hold is its command line, up to here.
const WHY_AT_MOST: usize = 200;

/// Runs the verb. Where a command was given and the hold is in place, this does not return: the
/// command runs instead.
///
/// # Errors
/// The hold cannot be placed, in which case no command runs; or the command cannot be run, in
/// which case the hold is released.
pub fn run(socket: Option<&Path>, arguments: Hold) -> Result<Report, Failure> {
    let why = reason(arguments.why, &arguments.command);
    let seconds = arguments.span.map(|span| span.as_secs());
    let process = !arguments.command.is_empty();
    let hold = wait_for(
        IDLE_STOPPER.ask(socket, async |mut agent| agent.hold(seconds, &why, process).await),
    )?;
    let Some((program, words)) = arguments.command.split_first() else {
        return Report::new(text(&hold, &Zoned::now()), &hold);
    };

    let error = Command::new(program).args(words).exec();
    let mut message = format!("{}: {error}", program.display());
    let released = IDLE_STOPPER.ask(socket, async |mut agent| agent.release(hold.id).await);
    if let Err(failure) = wait_for(released) {
        // It ends with this process anyway.
        message.push_str(&format!("; hold {} was not released: {failure}", hold.id));
    }
    let code = match error.kind() {
        io::ErrorKind::NotFound => Code::NotFound,
        _ => Code::NotExecutable,
    };
    Err(Failure::new(code, message))
}

fn reason(why: Option<String>, command: &[OsString]) -> String {
    why.unwrap_or_else(|| {
        if command.is_empty() {
            return "no reason given".to_owned();
        }
        let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
        let line = words.join(" ");
        match line.char_indices().nth(WHY_AT_MOST) {
            Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
            None => line,
        }
    })
}

fn text(hold: &HoldLine, now: &Zoned) -> String {
    format!(
        "hold {id}: this box stays up for {span}, until {end} ({why})\nend it earlier with: guppy \
         release {id}\n",
        id = hold.id,
        span = span::text(hold.left_seconds),
        end = wall::after(now, hold.left_seconds),
        why = printable(&hold.why),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hold_says_until_when_and_how_to_end_it() {
        let hold = HoldLine {
            id: 3,
            who: "alice".to_owned(),
            why: "demo".to_owned(),
            since_seconds: 0,
            left_seconds: 14_400,
            pid: None,
        };
        let now: Zoned = "2026-11-21T14:02:11+00:00[UTC]".parse().expect("a time");
        assert_eq!(
            text(&hold, &now),
            "hold 3: this box stays up for 4 h 00 min, until 18:02:11 UTC (demo)\n\
             end it earlier with: guppy release 3\n"
        );
    }

    #[test]
    fn the_reason_is_what_was_given_else_the_command() {
        let command = ["make", "-j8"].map(OsString::from);
        assert_eq!(reason(Some("demo".to_owned()), &command), "demo");
        assert_eq!(reason(None, &command), "make -j8");
        assert_eq!(reason(None, &[]), "no reason given");

        let long = reason(None, &["é".repeat(300).into()]);
        assert_eq!(long.chars().count(), WHY_AT_MOST + 1);
        assert!(long.ends_with('…'));
    }
}
