//! What a verb says, and the exit status it ends with: one table for all verbs.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Value, json};

/// Exit statuses (see `guppy --help`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// Done, or already so.
    Done,
    /// Failed; the message says what and what to do.
    Failed,
    /// Wrong usage.
    Usage,
    /// Not healthy in time.
    Unhealthy,
    /// Refused by policy.
    Refused,
    /// The command of `guppy hold` was found, but could not be run (as a shell says it).
    NotExecutable,
    /// The command of `guppy hold` was not found (as a shell says it).
    NotFound,
}

impl Code {
    /// The number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unhealthy => 3,
            Self::Refused => 4,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
        }
    }
}

/// What a verb found or did.
#[derive(Debug)]
pub struct Report {
    /// For a terminal, lines with their ends.
    pub text: String,
    /// The same for a program.
    pub json: Value,
    /// Whether that is good.
    pub code: Code,
}

impl Report {
    /// A report that `value` is, and `text` says.
    ///
    /// # Errors
    /// `value` is no JSON, which is a fault of this program.
    pub fn new(text: String, value: &impl Serialize) -> Result<Self, Failure> {
        let json = serde_json::to_value(value).map_err(|error| {
            Failure::new(Code::Failed, format!("the answer is no JSON: {error}"))
        })?;
        Ok(Self { text, json, code: Code::Done })
    }

    /// Prints it, as JSON or for people.
    pub fn print(&self, json: bool) -> ExitCode {
        let printed = if json {
            writeln!(io::stdout(), "{:#}", self.json)
        } else {
            io::stdout().write_all(self.text.as_bytes())
        };
        match printed {
            Ok(()) => self.code.number().into(),
            // Whoever read has enough: `guppy idle | head -1`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.code.number().into(),
            Err(error) => {
                let _ = writeln!(io::stderr(), "guppy: stdout: {error}");
                Code::Failed.number().into()
            }
        }
    }
}

/// Why a verb did not do it.
#[derive(Debug)]
pub struct Failure {
    /// The exit status.
    pub code: Code,
    /// What went wrong, and what to do.
    pub message: String,
}

impl Failure {
    /// A failure that ends the program with `code`.
    pub fn new(code: Code, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Says a failure: as a JSON document on stdout, or for people on stderr.
pub fn failed(failure: &Failure, json: bool) -> ExitCode {
    let message = failure.message.trim_end();
    // There is nobody left to tell when this cannot be written.
    let _ = if json {
        writeln!(io::stdout(), "{:#}", json!({ "error": message }))
    } else {
        writeln!(io::stderr(), "guppy: {message}")
    };
    failure.code.number().into()
}
