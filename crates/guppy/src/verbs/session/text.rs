//! `guppy logs` and `guppy send`: text out of a session, and into it.

use std::ffi::OsStr;
use std::io::Read;
use std::time::Duration;

use guppy_session_keeper::api::SessionKeeper;
use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;
use serde_json::json;

use zlink::tokio::unix::Connection;

use crate::keeper::{ask_within, listing, tmux};
use crate::report::{Code, Failure, Report};

/// The keeper waits up to 20 s for the text to be on the agent's screen (its `act::send`), and each
/// of its calls to tmux may take as long.
const SENT_WITHIN: Duration = Duration::from_secs(120);
/// More than this is no prompt.
const TEXT_AT_MOST: u64 = 256 * 1024;

/// The screen of a session's pane, dead or alive, and `lines` above it.
///
/// # Errors
/// It has no pane.
pub(super) async fn logs(paths: &Paths, name: &SessionName, lines: u32) -> Result<Report, Failure> {
    let listing = listing(paths).await?;
    let text = name.to_string();
    let line = listing.sessions.iter().find(|line| line.name == text);
    let pane = line.and_then(|line| line.pane.as_deref()).ok_or_else(|| {
        let stands = line.map_or_else(
            || "no file declares it (see: guppy ls)".to_owned(),
            |line| format!("it is {} ({})", line.state, line.why),
        );
        Failure::new(Code::Failed, format!("{name} has no pane now: {stands}"))
    })?;
    let from = format!("-{lines}");
    let capture = ["capture-pane", "-p", "-J", "-S", &from, "-t", pane].map(OsStr::new);
    let screen = tmux(&listing).await.run(&[&capture]).await;
    let screen = screen.map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    // capture-pane gives text without escape sequences.
    let screen = closed_up(&screen);
    let shown = format!("{screen}\n");
    Report::new(shown, &json!({ "name": text, "text": screen }))
}

/// tmux writes the line that says how a pane died at the foot of its screen: between it and what the
/// agent said last there is nothing to read.
fn closed_up(screen: &str) -> String {
    let screen = screen.trim_end();
    match screen.rsplit_once('\n') {
        Some((said, last)) if last.starts_with("Pane is dead") => {
            format!("{}\n{last}", said.trim_end())
        }
        _ => screen.to_owned(),
    }
}

/// Gives text to an agent.
///
/// # Errors
/// The agent is not ready (exit status 4), or the keeper is away.
pub(super) async fn send(
    paths: &Paths,
    name: &SessionName,
    words: &[String],
) -> Result<Report, Failure> {
    let text = match words {
        [one] if one == "-" => {
            let mut text = String::new();
            std::io::stdin()
                .take(TEXT_AT_MOST + 1)
                .read_to_string(&mut text)
                .map_err(|error| Failure::new(Code::Failed, format!("stdin: {error}")))?;
            text
        }
        words => words.join(" "),
    };
    // A part of a prompt may say the opposite of the whole.
    if text.len() as u64 > TEXT_AT_MOST {
        let why = format!(
            "the text is longer than {TEXT_AT_MOST} bytes, and nothing of it was sent: put it into \
             a file of the worktree, and send its name"
        );
        return Err(Failure::new(Code::Usage, why));
    }
    let session = name.to_string();
    let sent = async |mut keeper: Connection| keeper.send(&session, &text).await;
    ask_within(SENT_WITHIN, paths, sent).await?;
    Report::new(format!("{name} has it\n"), &json!({ "name": session, "sent": true }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_of_a_dead_pane_has_no_gap() {
        let dead = "$ make\n\nfailed\n\n\n\nPane is dead (status 2, Sat Nov 21 21:00:00 2026)\n";
        let shown = "$ make\n\nfailed\nPane is dead (status 2, Sat Nov 21 21:00:00 2026)";
        assert_eq!(closed_up(dead), shown);
        assert_eq!(closed_up("a\n\n\nb\n\n"), "a\n\n\nb");
        assert_eq!(closed_up(""), "");
    }
}
