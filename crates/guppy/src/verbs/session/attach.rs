//! `guppy attach`: becomes a tmux client, which plain `tmux attach -t =NAME` would be too. Where an
//! upgrade has left the server an older program than the client, the server's own is taken.

use std::os::unix::process::CommandExt;
use std::process::Command;

use guppy_session_keeper::api::Listing;
use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;

use crate::keeper::listing;
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
    let error = Command::new(program(&listing)).args(["-N", "-u", verb, "-t", &target]).exec();
    Err(Failure::new(Code::NotExecutable, format!("tmux: {error}")))
}

/// `tmux`, or what the server was started from if that one does not understand it.
fn program(listing: &Listing) -> String {
    let asks = Command::new("tmux").args(["-N", "display-message", "-p", "x"]).output();
    let understands = asks.is_ok_and(|output| output.status.success());
    match server_pid(&listing.server) {
        Some(pid) if !understands => format!("/proc/{pid}/exe"),
        _ => "tmux".to_owned(),
    }
}

fn server_pid(server: &str) -> Option<u32> {
    let (_, rest) = server.split_once("(pid ")?;
    rest.split_once(')')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_pid_is_where_the_keeper_puts_it() {
        assert_eq!(server_pid("tmux 3.5a (pid 812)"), Some(812));
        assert_eq!(server_pid("no tmux server"), None);
    }
}
