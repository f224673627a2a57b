//! A mistake in a file of the customer's. No text of a line is in it unless it is known to be no
//! secret: these files hold keys.

use std::fmt;

/// One mistake.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    /// From 1; None: the whole file.
    pub(super) line: Option<usize>,
    /// What is wrong and what to write instead.
    pub(super) what: String,
}

impl Wrong {
    pub(super) fn at(line: usize, what: impl Into<String>) -> Self {
        Self { line: Some(line), what: what.into() }
    }

    pub(super) fn of_file(what: impl Into<String>) -> Self {
        Self { line: None, what: what.into() }
    }

    /// With the file that it is in.
    pub(super) fn within(&self, file: &str) -> String {
        format!("{file}:{self}")
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{line}: {}", self.what),
            None => write!(f, " {}", self.what),
        }
    }
}

/// A word of a file for people: as it is where it looks like a name, for a key does not.
pub(super) fn shown(word: &str) -> String {
    let name = (1..=32).contains(&word.len())
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if name { format!("\"{word}\"") } else { "what stands here (not shown)".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_file_line_and_what() {
        assert_eq!(Wrong::at(3, "x").within("a.conf"), "a.conf:3: x");
        assert_eq!(Wrong::of_file("x").within("a.conf"), "a.conf: x");
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(shown("PostUp"), "\"PostUp\"");
        let key = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=";
        for secret in [key, key.trim_end_matches('='), "s p", ""] {
            assert_eq!(shown(secret), "what stands here (not shown)");
        }
    }
}
