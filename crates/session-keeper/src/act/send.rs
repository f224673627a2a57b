//! Gives text to an agent as if it were typed. As `send-keys -l`, never as a paste buffer: with one,
//! tmux 3.3a dies of a pane that ends in between, and all sessions with it.

use std::ffi::OsStr;
use std::time::Duration;

use crate::agents::Agent;
use crate::tmux::{Tmux, TmuxError};

/// A client's message to its server has 16 KiB (tmux, imsg.h).
const CHUNK: usize = 8 * 1024;
/// An agent that has not taken the end of a paste takes Enter for a part of it; measured.
const BEFORE_ENTER: Duration = Duration::from_millis(300);
const PASTE: &str = "\x1b[200~";
const PASTED: &str = "\x1b[201~";

/// Why text was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is none.
    #[error("there is nothing to send")]
    Empty,
    /// It takes no more than a line.
    #[error("this agent takes one line at a time: send one")]
    ManyLines,
    /// tmux could not.
    #[error("{0}")]
    Tmux(#[from] TmuxError),
}

/// Sends a text as one prompt, and Enter.
///
/// # Errors
/// [`SendError`].
pub async fn send(tmux: &Tmux, pane: &str, agent: &Agent, text: &str) -> Result<(), SendError> {
    let text = cleaned(text);
    if text.trim().is_empty() {
        return Err(SendError::Empty);
    }
    if text.contains('\n') && !agent.input.brackets {
        return Err(SendError::ManyLines);
    }
    let typed = match agent.input.brackets {
        true => format!("{PASTE}{text}{PASTED}"),
        false => text,
    };
    for key in &agent.input.clear {
        keys(tmux, pane, &[key]).await?;
    }
    for chunk in chunks(&typed) {
        keys(tmux, pane, &["-l", "--", chunk]).await?;
    }
    tokio::time::sleep(BEFORE_ENTER).await;
    keys(tmux, pane, &["Enter"]).await?;
    Ok(())
}

async fn keys(tmux: &Tmux, pane: &str, words: &[&str]) -> Result<(), TmuxError> {
    let mut command: Vec<&OsStr> = ["send-keys", "-t", pane].map(OsStr::new).to_vec();
    command.extend(words.iter().map(OsStr::new));
    tmux.run(&[&command]).await.map(drop)
}

/// Without what a terminal would take for a command, the brackets' own ends among them.
fn cleaned(text: &str) -> String {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let kept = |letter: &char| !letter.is_control() || matches!(letter, '\n' | '\t');
    text.trim_end().chars().filter(kept).collect()
}

fn chunks(text: &str) -> Vec<&str> {
    let mut chunks = Vec::new();
    let mut rest = text;
    while rest.len() > CHUNK {
        let end = (0..=CHUNK).rev().find(|at| rest.is_char_boundary(*at)).unwrap_or(0);
        let (chunk, after) = rest.split_at(end);
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);
    chunks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_its_brackets_or_moves_the_cursor() {
        assert_eq!(cleaned("a\x1b[201~rm -rf /\r\nb\tc\x07\n\n"), "a[201~rm -rf /\nb\tc");
    }

    #[test]
    fn a_long_text_comes_in_parts_that_are_text() {
        let text = format!("a{}", "ä".repeat(CHUNK));
        let parts = chunks(&text);
        assert!(parts.len() > 2 && parts.iter().all(|part| part.len() <= CHUNK));
        assert_eq!(parts.concat(), text);
        assert_eq!(chunks("a"), ["a"]);
    }
}
