//! The way to tmux: one client a call, with a deadline, and never one that makes a server of its
//! own (`-N`). It runs in `/`, with an environment that is known: `XDG_RUNTIME_DIR` would let a
//! tmux built with systemd move panes out of our unit, and a pane inherits the PATH of the client
//! that made it.

use std::cell::{Cell, RefCell};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::rc::Rc;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Semaphore;

/// tmux answers in milliseconds, or something is wrong; but an emulated machine on which twenty agents
/// start has taken more than 5 s to run its client. The most; see [`Tmux::within`].
const DEADLINE: Duration = Duration::from_secs(20);
/// So many clients are asked to do something at a time: the unit lets the keeper have no more than 128
/// tasks, and each of them is one.
const AT_ONCE: usize = 8;
/// What a client may pass of its environment.
const PASSED: [&str; 6] = ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "TMUX_TMPDIR"];

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TmuxError {
    /// Nobody listens on the socket.
    #[error("no tmux server listens on the socket")]
    Absent,
    /// tmux says no.
    #[error("tmux: {0}")]
    Refused(String),
    /// It cannot be run, or does not answer.
    #[error("tmux does not answer: {0}")]
    Unknown(String),
}

/// The client that is installed.
const INSTALLED: &str = "tmux";

/// How tmux is called. Clones call it in the same way.
#[derive(Clone, Debug)]
pub struct Tmux {
    program: Rc<RefCell<PathBuf>>,
    /// It has not answered within its time, nor since: see [`Tmux::run_anew`].
    hangs: Rc<Cell<bool>>,
    turns: Rc<Semaphore>,
    answers: Rc<Cell<u64>>,
    deadline: Rc<Cell<Duration>>,
}

impl Default for Tmux {
    fn default() -> Self {
        Self::of(INSTALLED.into())
    }
}

impl Tmux {
    fn of(program: PathBuf) -> Self {
        let program = Rc::new(RefCell::new(program));
        let deadline = Rc::new(Cell::new(DEADLINE));
        let turns = Rc::new(Semaphore::new(AT_ONCE));
        Self { program, hangs: Rc::default(), turns, answers: Rc::default(), deadline }
    }

    /// Each call waits no longer than this from now on, nor longer than [`DEADLINE`].
    pub fn within(&self, deadline: Duration) {
        self.deadline.set(deadline.min(DEADLINE));
    }

    /// Whether calls are not made: see [`Tmux::run_anew`].
    pub fn hangs(&self) -> bool {
        self.hangs.get()
    }

    /// How many calls were answered, by a yes or a no.
    pub fn answers(&self) -> u64 {
        self.answers.get()
    }

    /// For the server that has this process.
    pub async fn for_server(server: u32) -> Self {
        let tmux = Self::default();
        tmux.follow(server).await;
        tmux
    }

    /// Takes the client that understands this server, from the next call on. An upgrade may have
    /// replaced its program, and a newer client need not understand it (3.6 and a server of 3.5a:
    /// tmux#4711). Then it is the server's own program, which the kernel keeps while it runs; or
    /// the installed one after all, where that one's libraries are gone, or it does not answer.
    ///
    /// Whether this is another client than before.
    pub async fn follow(&self, server: u32) -> bool {
        let own = PathBuf::from(format!("/proc/{server}/exe"));
        if *self.program.borrow() == own {
            return false;
        }
        let its_own = is_replaced(server) && self.runs(&own).await;
        let program = if its_own { own } else { INSTALLED.into() };
        self.program.replace(program.clone()) != program
    }

    /// The client's program.
    pub fn program(&self) -> PathBuf {
        self.program.borrow().clone()
    }

    /// Runs commands, each an array of words, one after the other in one call; returns what they
    /// print.
    ///
    /// # Errors
    /// [`TmuxError`]. Commands before the one that failed were done.
    pub async fn run(&self, commands: &[&[&OsStr]]) -> Result<String, TmuxError> {
        let _turn = self.turns.acquire().await;
        if self.hangs() {
            return Err(TmuxError::Unknown("it has not when it was last asked".to_owned()));
        }
        self.call(commands).await
    }

    /// The same, whatever came of the calls before. After one that was not answered the others are not
    /// made until this one is: each of them would wait as long, and with many sessions a look would
    /// last for a quarter of an hour.
    ///
    /// # Errors
    /// Those of [`Tmux::run`].
    pub async fn run_anew(&self, commands: &[&[&OsStr]]) -> Result<String, TmuxError> {
        self.call(commands).await
    }

    async fn call(&self, commands: &[&[&OsStr]]) -> Result<String, TmuxError> {
        let mut words: Vec<OsString> = vec!["-N".into(), "-u".into()];
        for (at, command) in commands.iter().enumerate() {
            if at > 0 {
                words.push(";".into());
            }
            words.extend(command.iter().map(|word| unparted(word)));
        }
        let mut command = Command::new(self.program());
        command.args(&words).env_clear().env("LANG", "C.UTF-8").current_dir("/");
        for name in PASSED {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        let output = match self.output(command).await {
            Some(Ok(output)) => output,
            Some(Err(error)) => return Err(TmuxError::Unknown(error.to_string())),
            None => {
                self.hangs.set(true);
                let why = format!("not within {:?}", self.deadline.get());
                return Err(TmuxError::Unknown(why));
            }
        };
        self.answers.set(self.answers.get() + 1);
        self.hangs.set(false);
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.code() {
            Some(0) => Ok(printed),
            Some(_) if is_absent(&said) => Err(TmuxError::Absent),
            // What was printed before the command that failed is worth having: see `panes`.
            Some(_) if said == NO_SESSIONS => Ok(printed),
            Some(_) => Err(TmuxError::Refused(said)),
            None => Err(TmuxError::Unknown(format!("{} {said}", output.status))),
        }
    }

    async fn runs(&self, program: &Path) -> bool {
        let mut command = Command::new(program);
        command.arg("-V");
        let answer = self.output(command).await;
        answer.is_some_and(|output| output.is_ok_and(|output| output.status.success()))
    }

    /// What a program prints; None: it has not ended in time, and is killed.
    async fn output(&self, mut command: Command) -> Option<std::io::Result<Output>> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        tokio::time::timeout(self.deadline.get(), command.output()).await.ok()
    }
}

/// Whether the program that a process was started from is no longer what its path leads to.
pub fn is_replaced(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe"))
        .is_ok_and(|path| path.as_os_str().as_bytes().ends_with(b" (deleted)"))
}

/// What a server without sessions answers to a command that wants one.
const NO_SESSIONS: &str = "no current target";

/// The words of 3.3a and 3.5a for a socket that is not there, and for one that nobody serves.
fn is_absent(said: &str) -> bool {
    said.starts_with("no server running on")
        || said.starts_with("error connecting to")
            && (said.contains("No such file or directory") || said.contains("Connection refused"))
}

/// tmux takes a `;` at the end of a word for the end of the command.
fn unparted(word: &OsStr) -> OsString {
    match word.as_bytes().strip_suffix(b";") {
        Some(rest) => {
            let mut word = OsStr::from_bytes(rest).to_owned();
            word.push("\\;");
            word
        }
        None => word.to_owned(),
    }
}

/// A text that tmux expands as a format, so that it stays as it is.
pub fn literal(text: &OsStr) -> OsString {
    use std::os::unix::ffi::OsStringExt;

    let mut bytes = Vec::with_capacity(text.len());
    for byte in text.as_bytes() {
        bytes.extend(std::iter::repeat_n(*byte, if *byte == b'#' { 2 } else { 1 }));
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn words_reach_tmux_as_they_are() {
        let unparted = |word: &str| unparted(OsStr::new(word)).into_string().unwrap_or_default();
        assert_eq!(unparted("a;b;"), "a;b\\;");
        assert_eq!(unparted("a;b"), "a;b");
        assert_eq!(literal(OsStr::new("/a#{b}#")), OsString::from("/a##{b}##"));
    }

    #[test]
    fn only_a_socket_without_a_server_is_absent() {
        assert!(is_absent("no server running on /tmp/tmux-0/default"));
        assert!(is_absent("error connecting to /tmp/x (No such file or directory)"));
        assert!(is_absent("error connecting to /tmp/x (Connection refused)"));
        assert!(!is_absent("error connecting to /tmp/x (Permission denied)"));
        assert!(!is_absent("protocol version mismatch (client 8, server 7)"));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_that_is_not_there_says_nothing_of_the_server() {
        let tmux = Tmux::of("/nonexistent/tmux".into());
        let list: &[&OsStr] = &[OsStr::new("list-sessions")];
        assert!(matches!(tmux.run(&[list]).await, Err(TmuxError::Unknown(_))));
    }

    /// A process of a program that is nobody else's.
    fn process(program: &Path, copy_of: &str, words: &[&str]) -> std::process::Child {
        fs::copy(copy_of, program).unwrap();
        std::process::Command::new(program).args(words).stdin(Stdio::piped()).spawn().unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_server_whose_program_was_replaced_is_asked_by_its_own() {
        let folder = tempfile::tempdir().unwrap();
        // dash takes -V for a mode, and ends well with no input.
        let path = folder.path().join("server");
        let mut child = process(&path, "/bin/sh", &["-c", "read -r _"]);
        let tmux = Tmux::default();
        assert!(!tmux.follow(child.id()).await);
        fs::remove_file(&path).unwrap();
        assert!(tmux.follow(child.id()).await && !tmux.follow(child.id()).await);
        assert_eq!(tmux.clone().program(), PathBuf::from(format!("/proc/{}/exe", child.id())));
        child.kill().unwrap();
        child.wait().unwrap();
        // Its successor is of the program that is installed.
        assert!(tmux.follow(std::process::id()).await);
        assert_eq!(tmux.program(), PathBuf::from(INSTALLED));
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_program_that_cannot_run_any_more_is_no_client() {
        let folder = tempfile::tempdir().unwrap();
        // It knows no -V, as little as one without its libraries.
        let path = folder.path().join("server");
        let mut child = process(&path, "/bin/sleep", &["60"]);
        fs::remove_file(&path).unwrap();
        assert!(is_replaced(child.id()) && !Tmux::default().follow(child.id()).await);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    #[tokio::test(flavor = "current_thread")]
    async fn a_program_that_hangs_is_no_client_and_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hangs");
        fs::write(&path, "#!/bin/sh\nexec sleep 3600\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let tmux = Tmux::of(path.clone());
        tmux.within(Duration::from_millis(50));
        assert!(!tmux.runs(&path).await);
        // The commands of a look are another matter: the first says for all of them that it hangs.
        assert!(!tmux.hangs());
        let list: &[&OsStr] = &[OsStr::new("list-sessions")];
        let why = tmux.run(&[list]).await.unwrap_err().to_string();
        assert!(why.ends_with("not within 50ms") && tmux.hangs(), "{why}");
        tmux.within(Duration::MAX);
        assert_eq!(tmux.deadline.get(), DEADLINE);
    }
}
