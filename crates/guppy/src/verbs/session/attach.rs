//! `guppy attach`: becomes a tmux client, which plain `tmux attach -t =NAME` would be too. Where an
//! upgrade has replaced the server's program since its start, that one is the client.

use std::os::unix::process::CommandExt;
use std::process::Command;

use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;

use crate::keeper::{listing, tmux};
use crate::report::{Code, Failure, Report};
use crate::verbs::wait_for;

/// Runs the verb; when all is well this does not return.
///
/// # Errors
/// There is no such session, or it has no pane.
pub(super) fn run(paths: &Paths, name: &SessionName) -> Result<Report, Failure> {
    let listing = wait_for(listing(paths))?;
    let text = name.to_string();
    let line = listing.sessions.iter().find(|line| line.name == text);
    let Some(line) = line else {
        let why = format!("no file declares a session {name} (see: guppy ls)");
        return Err(Failure::new(Code::Failed, why));
    };
    if line.pane.is_none() {
        let why = format!("{name} has no pane now: it is {} ({})", line.state, line.why);
        return Err(Failure::new(Code::Failed, why));
    }
    let target = format!("={}", name.tmux());
    // From within tmux, a client inside a client helps nobody.
    let verb = if std::env::var_os("TMUX").is_some() { "switch-client" } else { "attach-session" };
    let error =
        Command::new(tmux(&listing).program()).args(["-N", "-u", verb, "-t", &target]).exec();
    Err(Failure::new(Code::NotExecutable, format!("tmux: {error}")))
}
