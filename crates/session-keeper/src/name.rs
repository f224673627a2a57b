//! The name of a session, `PROJECT/BRANCH`, and the names that follow from it: of its files, its
//! cgroup and its tmux session.
//!
//! One reversible escape for all of them. ASCII letters, digits, `-` and `_` stand for themselves,
//! as do the letters and digits of other scripts; any other character is `~` and two hexadecimal
//! digits for each of its bytes. So `.` and `:`, which tmux replaces in the name of a session
//! without a word (tmux session.c, `session_check_name`), `#` of its formats, and what a file
//! system or a shell takes for its own never appear. `~` itself is in no name of a branch
//! (git-check-ref-format(1)), so what is escaped is seldom seen. Between project and branch stands
//! `/` for tmux, and `+` where a `/` cannot stand.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The escaped form may have this many bytes. A file's name has 255 (NAME_MAX): the rest is for
/// `.toml`, and for the dot, the `.json` and the `.tmp` of a file that is being written.
pub const STEM_AT_MOST: usize = 200;

/// What stands for the `/` in the name of a file or a cgroup.
const SLASH: char = '+';
/// What begins an escaped byte.
const ESCAPE: char = '~';
/// Begins the name of an agent's cgroup, so that none is called as one of the keeper's own.
const CGROUP_PREFIX: &str = "agent-";

/// A valid name: a project and a git branch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SessionName {
    project: String,
    branch: String,
}

/// Why a text is no name, and what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// There is no slash in it.
    #[error("{0:?} is no session: say PROJECT/BRANCH, for example shop/fix-login")]
    NoSlash(String),
    /// The project's part.
    #[error("{0:?} cannot be a project: {1}")]
    Project(String, &'static str),
    /// The branch's part.
    #[error("{0:?} cannot be a branch: {1} (git-check-ref-format(1))")]
    Branch(String, &'static str),
    /// Too long for the file that would carry it.
    #[error(
        "the name has {0} bytes where it becomes the name of a file, and {STEM_AT_MOST} is the \
         most: choose a shorter one (anything but letters, digits, - and _ counts three a byte)"
    )]
    TooLong(usize),
    /// A file's or a session's name that this escape does not make.
    #[error("{0:?} does not name a session{1}")]
    NotOurs(String, String),
}

impl SessionName {
    /// Reads `PROJECT/BRANCH`. The first slash divides; a branch may have more of them.
    ///
    /// # Errors
    /// What is wrong with it, and what would be valid.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let (project, branch) =
            text.split_once('/').ok_or_else(|| NameError::NoSlash(text.to_owned()))?;
        project_fault(project)
            .map_or(Ok(()), |why| Err(NameError::Project(project.to_owned(), why)))?;
        branch_fault(branch)
            .map_or(Ok(()), |why| Err(NameError::Branch(branch.to_owned(), why)))?;
        let name = Self { project: project.to_owned(), branch: branch.to_owned() };
        match name.file_stem().len() {
            bytes if bytes > STEM_AT_MOST => Err(NameError::TooLong(bytes)),
            _ => Ok(name),
        }
    }

    /// The project.
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The branch as the name says it.
    pub fn branch(&self) -> &str {
        &self.branch
    }

    /// The name of its files without what follows the dot: `shop+fix-login`. At most
    /// [`STEM_AT_MOST`] bytes.
    pub fn file_stem(&self) -> String {
        self.escaped(SLASH)
    }

    /// The name of its cgroup: `agent-shop+fix-login`. Files of the kernel in a cgroup have a dot
    /// in their names (`cgroup.procs`), which this has not.
    pub fn cgroup(&self) -> String {
        format!("{CGROUP_PREFIX}{}", self.file_stem())
    }

    /// The name of its tmux session: `shop/fix-login`.
    pub fn tmux(&self) -> String {
        self.escaped('/')
    }

    /// The session whose files have this name.
    ///
    /// # Errors
    /// No session's have: this escape would have written it otherwise.
    pub fn from_file_stem(stem: &str) -> Result<Self, NameError> {
        Self::unescaped(stem, SLASH, Self::file_stem)
    }

    /// The session whose tmux session has this name.
    ///
    /// # Errors
    /// No session's has.
    pub fn from_tmux(session: &str) -> Result<Self, NameError> {
        Self::unescaped(session, '/', Self::tmux)
    }

    fn escaped(&self, slash: char) -> String {
        let mut text = String::new();
        escape(&self.project, slash, &mut text);
        text.push(slash);
        escape(&self.branch, slash, &mut text);
        text
    }

    /// Only what [`Self::escaped`] writes is read, so that two files never mean one session.
    fn unescaped(text: &str, slash: char, again: fn(&Self) -> String) -> Result<Self, NameError> {
        let not_ours = |hint: String| NameError::NotOurs(text.to_owned(), hint);
        let plain = unescape(text, slash).ok_or_else(|| not_ours(String::new()))?;
        let name = Self::parse(&plain).map_err(|error| not_ours(format!(": {error}")))?;
        match again(&name) {
            written if written == text => Ok(name),
            written => Err(not_ours(format!(": {name} is written {written:?}"))),
        }
    }
}

/// `slash` is what a slash becomes: `/` in a branch is no other than the one before it, since the
/// first divides.
fn escape(text: &str, slash: char, into: &mut String) {
    for letter in text.chars() {
        match letter {
            '/' => into.push(slash),
            '-' | '_' => into.push(letter),
            _ if letter.is_alphanumeric() => into.push(letter),
            _ => {
                for byte in letter.encode_utf8(&mut [0; 4]).bytes() {
                    into.push_str(&format!("{ESCAPE}{byte:02x}"));
                }
            }
        }
    }
}

fn unescape(text: &str, slash: char) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(letter) = rest.next() {
        if letter == slash {
            bytes.push(b'/');
        } else if letter == ESCAPE {
            let digits: String = rest.by_ref().take(2).collect();
            bytes.push(u8::from_str_radix(&digits, 16).ok()?);
        } else {
            bytes.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
    String::from_utf8(bytes).ok()
}

fn project_fault(project: &str) -> Option<&'static str> {
    match project {
        "" => Some("it is empty"),
        _ if project.starts_with('-') => Some("a command would take it for an option"),
        _ if project.starts_with('.') => Some("it would be a hidden folder"),
        _ if project.chars().any(char::is_control) => Some("it has control characters"),
        _ if project.trim() != project => Some("it begins or ends with a space"),
        _ => None,
    }
}

/// The rules of git-check-ref-format(1) for a branch.
fn branch_fault(branch: &str) -> Option<&'static str> {
    let forbidden = |letter: char| letter.is_control() || " ~^:?*[\\".contains(letter);
    match branch {
        "" => Some("it is empty"),
        "@" => Some("\"@\" is git's short form of HEAD"),
        _ if branch.starts_with('-') => Some("a command would take it for an option"),
        _ if branch.chars().any(forbidden) => {
            Some("spaces, control characters and ~ ^ : ? * [ \\ are not allowed")
        }
        _ if branch.contains("..") => Some("\"..\" is not allowed"),
        _ if branch.contains("@{") => Some("\"@{\" is not allowed"),
        _ if branch.ends_with('.') => Some("it ends with a dot"),
        _ if branch.split('/').any(str::is_empty) => Some("it has an empty part between slashes"),
        _ if branch.split('/').any(|part| part.starts_with('.')) => {
            Some("no part of it may begin with a dot")
        }
        _ if branch.split('/').any(|part| part.ends_with(".lock")) => {
            Some("no part of it may end with \".lock\"")
        }
        _ => None,
    }
}

impl fmt::Display for SessionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.project, self.branch)
    }
}

impl FromStr for SessionName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for SessionName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::parse(&text)
    }
}

impl From<SessionName> for String {
    fn from(name: SessionName) -> Self {
        name.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    pub(crate) fn name(text: &str) -> SessionName {
        SessionName::parse(text).unwrap()
    }

    #[test]
    fn a_plain_name_reads_the_same_everywhere() {
        let name = name("shop/fix-login");
        assert_eq!(name.to_string(), "shop/fix-login");
        assert_eq!(name.tmux(), "shop/fix-login");
        assert_eq!(name.file_stem(), "shop+fix-login");
        assert_eq!(name.cgroup(), "agent-shop+fix-login");
    }

    #[test]
    fn what_tmux_and_file_systems_forbid_is_escaped() {
        for (text, tmux, stem) in [
            ("shop.js/v1.2", "shop~2ejs/v1~2e2", "shop~2ejs+v1~2e2"),
            ("a/b/c", "a/b/c", "a+b+c"),
            ("c++/x+y", "c~2b~2b/x~2by", "c~2b~2b+x~2by"),
            ("a:b/c", "a~3ab/c", "a~3ab+c"),
            ("$1/#{pane_id}", "~241/~23~7bpane_id~7d", "~241+~23~7bpane_id~7d"),
            ("~/x", "~7e/x", "~7e+x"),
            ("café/größe", "café/größe", "café+größe"),
            ("🐟/x", "~f0~9f~90~9f/x", "~f0~9f~90~9f+x"),
        ] {
            let name = name(text);
            assert_eq!((name.tmux().as_str(), name.file_stem().as_str()), (tmux, stem), "{text}");
            assert_eq!(SessionName::from_tmux(tmux).unwrap(), name);
            assert_eq!(SessionName::from_file_stem(stem).unwrap(), name);
        }
    }

    #[test]
    fn what_is_no_name_says_what_would_be() {
        for (text, said) in [
            ("shop", "PROJECT/BRANCH"),
            ("", "PROJECT/BRANCH"),
            ("/x", "project: it is empty"),
            ("../x", "hidden"),
            ("-rf/x", "option"),
            ("a\u{1b}[2J/x", "control"),
            ("shop/", "branch: it is empty"),
            ("shop/-d", "option"),
            ("shop/a b", "spaces"),
            ("shop/a..b", "\"..\""),
            ("shop/a//b", "empty part"),
            ("shop/a/", "empty part"),
            ("shop/.git", "begin with a dot"),
            ("shop/a.lock/b", ".lock"),
            ("shop/a\nb", "control"),
            ("shop/@{1}", "@{"),
        ] {
            let error = SessionName::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn the_length_is_bounded_where_it_becomes_a_file() {
        let longest = format!("a/{}", "b".repeat(STEM_AT_MOST - 2));
        assert_eq!(name(&longest).file_stem().len(), STEM_AT_MOST);
        assert_eq!(SessionName::parse(&format!("{longest}b")), Err(NameError::TooLong(201)));
        let error = SessionName::parse(&format!("a/{}", "🐟".repeat(17))).unwrap_err();
        assert!(error.to_string().contains("206 bytes"), "{error}");
    }

    #[test]
    fn only_one_file_means_a_session() {
        for stem in
            ["shop", "shop+fix.login", "shop+~66ix", "shop+~2E", "shop+~2", "shop+~ff", "+x"]
        {
            assert!(SessionName::from_file_stem(stem).is_err(), "{stem}");
        }
        let error = SessionName::from_file_stem("shop+v1.2").unwrap_err().to_string();
        assert!(error.contains("shop/v1.2 is written \"shop+v1~2e2\""), "{error}");
        assert!(SessionName::from_tmux("shop").is_err());
    }

    proptest! {
        #[test]
        fn any_name_comes_back_and_forbids_nothing(text in "\\PC{0,20}/[^\\x00-\\x20]{0,30}") {
            let Ok(name) = SessionName::parse(&text) else { return Ok(()) };
            let (stem, tmux) = (name.file_stem(), name.tmux());
            prop_assert_eq!(&SessionName::from_file_stem(&stem).unwrap(), &name);
            prop_assert_eq!(&SessionName::from_tmux(&tmux).unwrap(), &name);
            prop_assert!(!stem.contains(['/', '.', ':', '\0', '#', '\\', '\'', '"', '$']));
            prop_assert!(!tmux.contains(['.', ':', '#', '\\', '\'', '"', '$', '@']));
            prop_assert!(name.cgroup().len() <= 255);
        }

        #[test]
        fn two_names_never_share_a_file(a in "[a-c~+./]{3,8}", b in "[a-c~+./]{3,8}") {
            let (Ok(one), Ok(two)) = (SessionName::parse(&a), SessionName::parse(&b)) else {
                return Ok(());
            };
            prop_assert_eq!(one == two, one.file_stem() == two.file_stem());
            prop_assert_eq!(one == two, one.tmux() == two.tmux());
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = SessionName::parse(&text);
            let _ = SessionName::from_file_stem(&text);
            let _ = SessionName::from_tmux(&text);
        }
    }
}
