//! `guppy attach`: becomes a tmux client, which plain `tmux attach -t =NAME` would be too. Where an
//! upgrade has replaced the server's program since its start, that one is the client.

use std::os::unix::process::CommandExt;
use std::process::Command;

use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;

use crate::keeper::{listing, server_pid, tmux};
use crate::report::{Code, Failure, Report};
use crate::table::printable;
use crate::verbs::wait_for;

/// Runs the verb; when all is well this does not return.
///
/// # Errors
/// There is no such session, or it has no pane.
pub(super) fn run(paths: &Paths, name: &SessionName) -> Result<Report, Failure> {
    let (listing, tmux) = wait_for(async {
        let listing = listing(paths).await?;
        let tmux = tmux(&listing).await;
        Ok((listing, tmux))
    })?;
    let text = name.to_string();
    let line = listing.sessions.iter().find(|line| line.name == text);
    let Some(line) = line else {
        let why = format!("no file declares a session {name} (see: guppy ls)");
        return Err(Failure::new(Code::Failed, why));
    };
    // By its pane: a person may have given the session another name, or moved the pane.
    let Some(pane) = &line.pane else {
        let why = format!("{name} has no pane now: it is {} ({})", line.state, line.why);
        return Err(Failure::new(Code::Failed, printable(&why)));
    };
    let within = std::env::var("TMUX").ok();
    let verb = match within.as_deref().and_then(server_of) {
        // From within its own server, a client inside a client helps nobody.
        Some(server) if Some(server) == server_pid(&listing.server) => "switch-client",
        _ => "attach-session",
    };
    let mut command = Command::new(tmux.program());
    if verb == "attach-session" {
        // Within another server, that is what is wanted.
        command.env_remove("TMUX");
    }
    let error = command.args(["-N", "-u", verb, "-t", pane]).exec();
    Err(Failure::new(Code::NotExecutable, format!("tmux: {error}")))
}

/// The server of `$TMUX`: its socket, its pid and the session, with commas between. Only the socket
/// may hold a comma itself.
fn server_of(variable: &str) -> Option<u32> {
    variable.rsplit(',').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_of_a_pane_is_known_by_its_pid() {
        assert_eq!(server_of("/tmp/tmux-1000/default,812,3"), Some(812));
        assert_eq!(server_of("/tmp/a,b/work,7,0"), Some(7));
        assert_eq!(server_of("x"), None);
    }
}
