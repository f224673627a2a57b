//! What is wrong with a config, said so that the reader can mend it: file, line, key, value, and
//! what would be valid.

use std::fmt;
use std::path::{Path, PathBuf};

/// A text from a file or from serde is shown up to this many characters.
const SHOWN_AT_MOST: usize = 60;

/// One mistake in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file, or the folder.
    pub file: PathBuf,
    /// Line and column, from 1; None: the whole file.
    pub at: Option<(usize, usize)>,
    /// What is wrong and what would be valid.
    pub what: String,
}

impl Fault {
    /// A mistake that has no line.
    pub(super) fn of_file(file: &Path, what: String) -> Self {
        Self { file: file.to_owned(), at: None, what }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}", self.what)
    }
}

/// Everything that is wrong with a config; one line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Fault>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// `text` fit for one line of a log: short, and without control characters.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String =
        text.chars().take(SHOWN_AT_MOST).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(SHOWN_AT_MOST).is_some() {
        shown.push('…');
    }
    shown
}

/// serde's words for an unknown name, said for people: with the nearest valid one, and all.
pub(super) fn plainly(message: &str) -> String {
    for (opening, noun) in [("unknown field `", "key"), ("unknown variant `", "value")] {
        let Some(rest) = message.strip_prefix(opening) else { continue };
        let Some((name, rest)) = rest.split_once("`, ") else { continue };
        let valid: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        return unknown(noun, name, &valid);
    }
    // toml gives some messages a second line of context.
    let message = message.lines().map(str::trim).collect::<Vec<_>>().join("; ");
    let valid = message.rsplit_once(", expected ").and_then(|(found, expected)| {
        let is_it = |name: &str| expected == name || name == "struct" && expected.starts_with(name);
        let (_, words) = TYPES.iter().find(|(name, _)| is_it(name))?;
        Some(format!("{found}: say {words}"))
    });
    valid.unwrap_or(message)
}

/// Types as serde names them, and what to write for one.
const TYPES: [(&str, &str); 10] = [
    ("u8", "a whole number from 0 to 255"),
    ("u16", "a whole number from 0 to 65535"),
    ("a nonzero u16", "a whole number from 1 to 65535"),
    ("u32", "a whole number from 0 to 4294967295"),
    ("u64", "a whole number, 0 or more"),
    ("f64", "a number"),
    ("a boolean", "true or false"),
    ("a string", "a text in quotes"),
    ("a sequence", "a list in brackets"),
    // A table of the config; its name follows.
    ("struct", "a table"),
];

fn unknown(noun: &str, name: &str, valid: &[&str]) -> String {
    let mut text = format!("unknown {noun} \"{}\"", shown(name));
    let near = valid
        .iter()
        .map(|valid| (strsim::osa_distance(valid, name), valid))
        .filter(|(distance, valid)| *distance <= 1 + valid.len() / 4)
        .min();
    if let Some((_, near)) = near {
        text.push_str(&format!("; did you mean \"{near}\"?"));
    }
    let join = if near.is_some() { "" } else { ";" };
    if valid.is_empty() {
        return format!("{text}{join} none is valid here");
    }
    format!("{text}{join} valid {noun}s: {}", valid.join(", "))
}
