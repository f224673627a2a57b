//! The id of an agent's conversation. It comes from files and hooks that an agent writes and goes
//! into an argv and into the name of a lock, so it has one of two strict shapes and no other form.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// An id may have this many bytes: it becomes the name of a file.
pub const ID_AT_MOST: usize = 128;

/// What the ids of an agent look like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Shape {
    /// RFC 9562 in lower case: `0190f3c2-…`, 36 characters.
    #[default]
    Uuid,
    /// ASCII letters, digits, `_` and `-`; it begins with a letter or a digit, so that no program
    /// takes it for an option.
    Word,
}

/// A valid id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Conversation(String);

/// A text that is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not the id of a conversation")]
pub struct NotAnId(String);

impl Conversation {
    /// An id of this shape.
    ///
    /// # Errors
    /// The text is none.
    pub fn of_shape(shape: Shape, text: &str) -> Result<Self, NotAnId> {
        let id = Self::parse(text)?;
        match shape {
            Shape::Uuid if !is_uuid(text) => Err(NotAnId(text.to_owned())),
            Shape::Uuid | Shape::Word => Ok(id),
        }
    }

    /// An id of any shape.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse(text: &str) -> Result<Self, NotAnId> {
        let fit = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
        let first = text.chars().next().is_some_and(|letter| letter.is_ascii_alphanumeric());
        match first && text.len() <= ID_AT_MOST && text.chars().all(fit) {
            true => Ok(Self(text.to_owned())),
            false => Err(NotAnId(text.to_owned())),
        }
    }

    /// A new one, random: a UUID of version 4 made by the kernel (random(4)).
    ///
    /// # Errors
    /// Those of reading /proc/sys/kernel/random/uuid.
    pub fn random() -> io::Result<Self> {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid")?;
        Self::of_shape(Shape::Uuid, text.trim_end())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        })
}

impl fmt::Display for Conversation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Conversation {
    type Error = NotAnId;

    fn try_from(text: String) -> Result<Self, NotAnId> {
        Self::parse(&text)
    }
}

impl From<Conversation> for String {
    fn from(id: Conversation) -> Self {
        id.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_random_id_is_a_uuid_and_never_the_same() {
        let one = Conversation::random().unwrap();
        assert!(is_uuid(one.as_str()), "{one}");
        assert_ne!(one, Conversation::random().unwrap());
    }

    #[test]
    fn what_could_be_an_option_a_path_or_a_command_is_no_id() {
        let uuid = "0190f3c2-7a11-7000-8000-00000000000a";
        assert!(Conversation::of_shape(Shape::Uuid, uuid).is_ok());
        assert!(Conversation::of_shape(Shape::Word, "ses_4Fq").is_ok());
        assert!(Conversation::of_shape(Shape::Uuid, "ses_4Fq").is_err());
        assert!(Conversation::of_shape(Shape::Uuid, &uuid.to_uppercase()).is_err());
        let long = "a".repeat(ID_AT_MOST + 1);
        for text in
            ["", "-x", "--help", "../x", "a/b", "a b", "a\nb", "$(x)", "a.b", "ä", "a~", &long]
        {
            assert!(Conversation::of_shape(Shape::Word, text).is_err(), "{text:?}");
        }
    }
}
