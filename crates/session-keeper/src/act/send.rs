//! Gives text to an agent as if it were typed. As `send-keys -l`, never as a paste buffer: with one,
//! tmux 3.3a dies of a pane that ends in between, and all sessions with it.
//!
//! Enter comes when the text is on the screen, as a person would press it. An agent that reads both
//! before it has drawn the text finds an empty input line at Enter, and the prompt stays unsent in
//! it: claude 2.1.197 with a twelfth of a processor, in 8 of 12 first prompts with Enter 0.3 s after
//! the text, and in none of 12 with Enter after it was drawn (which took up to 2.5 s).

use std::ffi::OsStr;
use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::agents::Agent;
use crate::sense::Activity;
use crate::tmux::{Tmux, TmuxError};

/// A client's message to its server has 16 KiB (tmux, imsg.h).
const CHUNK: usize = 8 * 1024;
/// Who has not drawn the text within this shows none (a password's prompt), or shows it in a way of
/// its own: then Enter comes all the same. It is long for the sake of machines that are slow.
const DRAWN_WITHIN: Duration = Duration::from_secs(20);
/// Between two looks at the screen: the first pause, and the longest. A look is a client of tmux's.
const PAUSES: [Duration; 2] = [Duration::from_millis(20), Duration::from_millis(500)];
/// So much of a text's end is looked for.
const END: usize = 24;
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
    /// It does not wait for text; nothing was typed.
    #[error("it {0}")]
    NotReady(String),
    /// A question has come while the text was typed. The text stands there, and was not entered.
    #[error("it {0}; the text was typed and not entered")]
    NotEntered(String),
    /// It has ended before Enter. What was typed went with it.
    #[error("it has ended")]
    Ended,
    /// tmux could not, before anything was typed.
    #[error("{0}")]
    NotTyped(TmuxError),
    /// tmux could not, and what of the text was typed nobody knows.
    #[error("{0}")]
    Tmux(#[from] TmuxError),
}

/// Sends a text as one prompt, and Enter. `activity` looks what the agent does at that moment: what
/// the last look has seen may be a tick old, and Enter in a dialog that has opened since would be a
/// person's consent.
///
/// # Errors
/// [`SendError`].
pub async fn send<F: Future<Output = Activity>>(
    tmux: &Tmux,
    pane: &str,
    agent: &Agent,
    text: &str,
    activity: impl Fn() -> F,
) -> Result<(), SendError> {
    let text = cleaned(text);
    if text.trim().is_empty() {
        return Err(SendError::Empty);
    }
    if text.contains('\n') && !agent.input.brackets {
        return Err(SendError::ManyLines);
    }
    let typed = match agent.input.brackets {
        true => format!("{PASTE}{text}{PASTED}"),
        false => text.clone(),
    };
    match activity().await {
        Activity::Idle => {}
        Activity::Waiting(what) => return Err(SendError::NotReady(waits(&what))),
        Activity::Working => return Err(SendError::NotReady("is in its turn".to_owned())),
        Activity::Starting | Activity::Unknown => {
            return Err(SendError::NotReady("is not ready".to_owned()));
        }
    }
    for key in &agent.input.clear {
        keys(tmux, pane, &[key]).await.map_err(SendError::NotTyped)?;
    }
    let before = match screen(tmux, pane).await {
        Err(SendError::Tmux(error)) => return Err(SendError::NotTyped(error)),
        before => before?,
    };
    for chunk in chunks(&typed) {
        keys(tmux, pane, &["-l", "--", chunk]).await?;
    }
    let end = Instant::now() + DRAWN_WITHIN;
    let [mut pause, longest] = PAUSES;
    while !shows(&before, &screen(tmux, pane).await?, &text, &agent.input.pasted) {
        if Instant::now() >= end {
            tracing::debug!("{pane}: the text is not on the screen; Enter all the same");
            break;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
    if let Activity::Waiting(what) = activity().await {
        return Err(SendError::NotEntered(waits(&what)));
    }
    keys(tmux, pane, &["Enter"]).await?;
    Ok(())
}

/// To a dead pane tmux says that keys were sent, and it has a screen.
async fn screen(tmux: &Tmux, pane: &str) -> Result<String, SendError> {
    let dead = ["display-message", "-p", "-t", pane, "#{pane_dead}"].map(OsStr::new);
    let capture = ["capture-pane", "-p", "-t", pane].map(OsStr::new);
    let said = tmux.run(&[&dead, &capture]).await?;
    match said.split_once('\n') {
        Some(("0", screen)) => Ok(screen.to_owned()),
        _ => Err(SendError::Ended),
    }
}

/// Whether a screen shows a text that it did not show before: its end, wherever the agent breaks its
/// lines, or one more of what the agent shows in the place of a long one.
fn shows(before: &str, after: &str, text: &str, pasted: &str) -> bool {
    let packed = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
    let text = packed(text);
    let begin = text.char_indices().rev().nth(END - 1).map_or(0, |(at, _)| at);
    let end = text.get(begin..).unwrap_or(&text);
    let times = |screen: &str, text: &str| screen.matches(text).count();
    if times(&packed(after), end) > times(&packed(before), end) {
        return true;
    }
    // Of a short text there may be more in what an agent takes off the screen for it.
    let lines = |screen: &str| -> Vec<String> {
        screen.lines().map(packed).filter(|line| line.ends_with(end)).collect()
    };
    let (before_it, after_it) = (lines(before), lines(after));
    let of = |lines: &[String], one: &String| lines.iter().filter(|line| *line == one).count();
    after_it.iter().any(|line| of(&after_it, line) > of(&before_it, line))
        || (!pasted.is_empty() && times(after, pasted) > times(before, pasted))
}

fn waits(what: &str) -> String {
    format!("waits for a person ({what})")
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
    fn a_text_is_drawn_when_its_end_is_there_once_more() {
        let box_of = |shown: &str| format!("● Noted: the word\n────────\n❯ {shown}\n────────\n");
        let empty = format!("{}  ? for shortcuts\n", box_of(""));
        let drawn = |shown: &str, text: &str| shows(&empty, &box_of(shown), text, "[Pasted");
        assert!(!drawn("", "the word"), "what stood there before");
        assert!(!drawn("the w", "the word"), "the beginning alone");
        assert!(drawn("the word", "the word"));
        // The footer, which has the letter too, gives way to it.
        assert!(drawn("s", "s"));
        let long = "a line that is broken where the window ends, for it is long";
        assert!(drawn("a line that is broken where the window en\n  ds, for it is long", long));
        assert!(drawn("[Pasted text #1 +29 lines]", "many\nlines"));
        assert!(!shows(&empty, &box_of("[Pasted"), "many\nlines", ""));
        let second = box_of("[Pasted text #1 +9 lines]");
        assert!(!shows(&second, &second, "many\nlines", "[Pasted"));
    }

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
