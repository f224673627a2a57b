//! The shim: what a pane runs, `guppy-session-shim STEM` (the name of the session's files). It starts one agent, stays its parent,
//! and tells the keeper what became of it. It depends on no keeper that is there: it reads what to
//! start from a file, and leaves what it saw in one.
//!
//! ```text
//! guppy-session-shim STEM         in server/: the tmux server's child, leader of the terminal's session
//!   guppy-session-shim --login    in agent-NAME/: becomes the user's shell, prints its environment
//!   guppy-session-shim --agent    in agent-NAME/: becomes the agent, in the terminal's foreground
//! ```
//! It stays in the server's control group itself: in the agent's it would die of the agent's OOM
//! and of the kill that clears the group, each time before it could say so; in a group of its own
//! it would cost one more group for each agent, and gain nothing. Only its children enter the
//! agent's group, each before it becomes another program: so nothing of the agent is ever outside.
//!
//! **Architecture Invariant:** no secret is in an argument list, and none in the environment of a
//! process that is not the agent or its login shell.
//!
//! **Architecture Invariant:** the shim links no runtime and starts no thread: there are as many
//! of it as there are agents, and PR_SET_PDEATHSIG is bound to the thread that starts the agent.

/// Writes a line to the terminal, which may have been closed: `eprintln!` would end the shim then,
/// and with it its agent, before it has said so to anybody.
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod child;
mod end;
mod env_file;
mod environment;
mod lock;
mod login;
mod native;
mod server;
mod signals;
mod spawn;
mod start;
mod terminal;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use crate::name::SessionName;

/// The exit status of a shim that started nothing. The reason is on its terminal and in the
/// [report](crate::report::Report).
pub const REFUSED: u8 = 75;

/// The exit status for wrong usage.
const USAGE: u8 = 2;

/// Why nothing was started, with what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Refusal(pub(crate) String);

/// Whether a start would take this file of secrets, so that nobody need wait for a start to know.
///
/// # Errors
/// File, line and remedy; nothing of what it holds.
pub fn check_secrets(path: &Path) -> Result<(), String> {
    if !path.exists() {
        let path = path.display();
        return Err(format!("{path}: not there: write KEY=value lines into it, then chmod 600 it"));
    }
    env_file::read(path).map(drop).map_err(|refusal| refusal.to_string())
}

/// The program, from its arguments to its exit status: that of the agent.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os();
    words.next();
    let first = words.next();
    match first.as_ref().and_then(|word| word.to_str()) {
        Some("--agent") => return child::become_agent(words),
        Some("--login") => return child::become_login(words),
        Some(name) if words.next().is_none() => match SessionName::from_file_stem(name) {
            Ok(name) => return start::run(&name),
            Err(error) => say!("{error}"),
        },
        _ => say!(
            "usage: guppy-session-shim PROJECT+BRANCH (run by guppy-session-keeper in a pane of tmux)"
        ),
    }
    ExitCode::from(USAGE)
}
