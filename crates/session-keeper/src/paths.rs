//! Where a user's keeper, shims and hooks find what they leave for each other. Each place may be
//! overridden by environment, which is how tests get a world of their own; the pane hands the same
//! environment to the agent's hooks, so all of them agree.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::name::SessionName;

/// Overrides the config folder.
pub const CONFIG_DIR: &str = "GUPPY_CONFIG_DIR";
/// Overrides the state folder.
pub const STATE_DIR: &str = "GUPPY_STATE_DIR";
/// Overrides the keeper's socket.
pub const SOCKET: &str = "GUPPY_SOCKET";
/// Overrides the folder of the tmux unit's control group.
pub const CGROUP: &str = "GUPPY_CGROUP";
/// Overrides `/usr/libexec/guppy`, where shim and hook are.
pub const LIBEXEC: &str = "GUPPY_LIBEXEC";

/// The places of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// What a person writes, and `guppy new`: `~/.config/guppy`.
    pub config: PathBuf,
    /// What the keeper and the shims write: `~/.local/state/guppy`.
    pub state: PathBuf,
    /// Where the keeper listens: `/run/guppy/session-keeper/USER.sock`.
    pub socket: PathBuf,
}

/// Why a user has no places.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// There is no home.
    #[error("HOME is not set to an absolute path: set it")]
    NoHome,
    /// The user has no name.
    #[error("cannot find the name of uid {0} in /etc/passwd or $USER: {1}")]
    NoUser(u32, String),
}

impl Paths {
    /// The places of the user that this process runs as.
    ///
    /// # Errors
    /// [`PathsError`] when nothing says where the home is or who the user is.
    pub fn of_this_user() -> Result<Self, PathsError> {
        Self::from(|name| std::env::var_os(name))
    }

    fn from(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, PathsError> {
        let given = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || given("HOME").ok_or(PathsError::NoHome);
        let config = given(CONFIG_DIR).map_or_else(|| Ok(home()?.join(".config/guppy")), Ok)?;
        let state = given(STATE_DIR).map_or_else(|| Ok(home()?.join(".local/state/guppy")), Ok)?;
        let socket = match given(SOCKET) {
            Some(socket) => socket,
            None => socket_of(&user(variable("USER"))?),
        };
        Ok(Self { config, state, socket })
    }

    /// Where the keepers of all users say what they have started, beside their sockets.
    pub fn starts(&self) -> PathBuf {
        self.socket.with_file_name("starts")
    }

    /// What the keeper tells the shim of a session: [`Launch`](crate::launch::Launch).
    pub fn launch(&self, name: &SessionName) -> PathBuf {
        self.state.join("launch").join(name.file_stem() + ".json")
    }

    /// What the shim leaves for the keeper: [`Report`](crate::report::Report).
    pub fn report(&self, name: &SessionName) -> PathBuf {
        self.state.join("reports").join(name.file_stem() + ".json")
    }

    /// The new id of a session's conversation, which a shim reads at SIGUSR1.
    pub fn rotate(&self, name: &SessionName) -> PathBuf {
        self.state.join("rotate").join(name.file_stem())
    }

    /// Between the shim and the process that is to become the agent, while it does.
    pub fn fifo(&self, name: &SessionName) -> PathBuf {
        self.state.join("launch").join(name.file_stem() + ".fifo")
    }

    /// Held by the one shim that a session may have.
    pub fn session_lock(&self, name: &SessionName) -> PathBuf {
        self.state.join("running").join(name.file_stem() + ".lock")
    }

    /// Held by the shim whose agent is in this conversation. The first word must be
    /// [plain](is_plain_word), the second a [`Conversation`](crate::conversation::Conversation).
    pub fn conversation_lock(&self, agent: &str, conversation: &str) -> PathBuf {
        self.state.join("locks").join(agent).join(format!("{conversation}.lock"))
    }
}

/// Where the keeper of a user listens.
pub fn socket_of(user: &str) -> PathBuf {
    Path::new("/run/guppy/session-keeper").join(format!("{user}.sock"))
}

/// Whether a text may be one component of a path and one word of an argument list, wherever it
/// comes from: 1 to 128 letters, digits, `-`, `_` and `.`, and it begins with a letter or a digit.
pub fn is_plain_word(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    text.len() <= 128
        && text.bytes().all(plain)
        && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
}

/// The name of the user that this process runs as. By uid first: `su` without a login keeps another
/// user's $USER. One of a directory (LDAP) is in no file: what systemd has made of `User=` counts.
///
/// # Errors
/// Neither says it.
pub fn user_name() -> Result<String, PathsError> {
    user(std::env::var_os("USER"))
}

fn user(variable: Option<OsString>) -> Result<String, PathsError> {
    name_of(rustix::process::getuid().as_raw(), variable)
}

fn name_of(uid: u32, variable: Option<OsString>) -> Result<String, PathsError> {
    let found = service::socket::user_name(Path::new("/etc/passwd"), uid);
    let why = match found {
        Ok(Some(name)) => return Ok(name),
        Ok(None) => "no such line".to_owned(),
        Err(error) => io::Error::to_string(&error),
    };
    variable
        .and_then(|name| name.into_string().ok())
        .filter(|name| !name.is_empty() && !name.contains('/'))
        .ok_or(PathsError::NoUser(uid, why))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn paths(set: &[(&str, &str)]) -> Result<Paths, PathsError> {
        Paths::from(|name| {
            set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn all_is_below_home_unless_said_otherwise() {
        let name = SessionName::parse("shop/fix-login").unwrap();
        let paths = paths(&[("HOME", "/home/alice"), (STATE_DIR, "/tmp/state")]).unwrap();
        assert_eq!(paths.config, Path::new("/home/alice/.config/guppy"));
        assert!(paths.socket.starts_with("/run/guppy/session-keeper"), "{paths:?}");
        let launch = paths.launch(&name);
        assert_eq!(launch.parent(), Some(Path::new("/tmp/state/launch")));
        let lock = paths.conversation_lock("claude", "0f-1");
        assert_eq!(lock, Path::new("/tmp/state/locks/claude/0f-1.lock"));
    }

    #[test]
    fn a_relative_home_is_none() {
        assert!(matches!(paths(&[("HOME", "alice")]), Err(PathsError::NoHome)));
        assert!(matches!(paths(&[]), Err(PathsError::NoHome)));
    }

    #[test]
    fn a_user_of_a_directory_has_the_name_that_the_session_says() {
        let alice = || Some(OsString::from("alice"));
        assert_eq!(name_of(0, alice()).unwrap(), "root");
        assert_eq!(name_of(u32::MAX - 7, alice()).unwrap(), "alice");
        for none in [None, Some(""), Some("../x")] {
            assert!(name_of(u32::MAX - 7, none.map(OsString::from)).is_err(), "{none:?}");
        }
    }

    #[test]
    fn only_plain_words_become_paths() {
        for good in ["a", "0f8a2c1e-0000-4000-8000-0123456789ab", "ses_1.2"] {
            assert!(is_plain_word(good), "{good}");
        }
        let long = "a".repeat(129);
        for bad in ["", ".", "..", "-r", "a/b", "a b", "ä", "a\n", "a\0", &long] {
            assert!(!is_plain_word(bad), "{bad:?}");
        }
    }
}
