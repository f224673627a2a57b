//! Words with `{placeholders}`, and what they become.

use std::path::Path;

use crate::conversation::Conversation;
use crate::name::SessionName;

/// What may stand in braces.
const KNOWN: [&str; 9] = [
    "argv",
    "conversation",
    "home",
    "name",
    "pid",
    "shell",
    "state",
    "worktree",
    "worktree-dashed",
];

/// What placeholders stand for.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a> {
    /// `{name}`: its file stem.
    pub name: &'a SessionName,
    /// `{conversation}`; empty where it is not known.
    pub conversation: Option<&'a Conversation>,
    /// `{home}`
    pub home: &'a Path,
    /// `{state}`: the keeper's own folder below it.
    pub state: &'a Path,
    /// `{worktree}`; `{worktree-dashed}` has `-` for each character but ASCII letters and digits.
    pub worktree: &'a Path,
    /// `{shell}`: the user's.
    pub shell: &'a Path,
    /// `{pid}`, of a running agent.
    pub pid: Option<u32>,
}

/// Whether all braces of a word are known placeholders; else what would be valid.
pub(super) fn check(word: &str) -> Result<(), String> {
    let mut rest = word;
    while let Some((_, after)) = rest.split_once('{') {
        match after.split_once('}') {
            Some((name, after)) if KNOWN.contains(&name) => rest = after,
            _ => return Err(format!("only these in braces: {{{}}}", KNOWN.join("} {"))),
        }
    }
    if word != "{argv}" && word.contains("{argv}") {
        return Err("{argv} as a word of its own".to_owned());
    }
    Ok(())
}

/// A word with its placeholders filled.
pub fn fill(word: &str, places: Places<'_>) -> String {
    let mut text = String::with_capacity(word.len());
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        match after.split_once('}') {
            Some((name, after)) => {
                text.push_str(&value(name, places));
                rest = after;
            }
            None => rest = after,
        }
    }
    text.push_str(rest);
    text
}

/// A command with its placeholders filled, and the session's own words in the place of `{argv}`.
pub fn words(command: &[String], own: &[String], places: Places<'_>) -> Vec<String> {
    let mut words = Vec::with_capacity(command.len() + own.len());
    for word in command {
        match word.as_str() {
            "{argv}" => words.extend(own.iter().cloned()),
            word => words.push(fill(word, places)),
        }
    }
    words
}

/// The files that are one session's own, by the words of its agent's command: a history in the
/// keeper's folder.
pub fn own_files(agent: &super::Agent, places: Places<'_>) -> Vec<String> {
    let own = |word: &&String| word.starts_with("{state}/") && word.contains("{name}");
    agent.start.iter().filter(own).map(|word| fill(word, places)).collect()
}

fn value(name: &str, places: Places<'_>) -> String {
    let path = |path: &Path| path.to_string_lossy().into_owned();
    match name {
        "conversation" => places.conversation.map(ToString::to_string).unwrap_or_default(),
        "home" => path(places.home),
        "name" => places.name.file_stem(),
        "pid" => places.pid.map(|pid| pid.to_string()).unwrap_or_default(),
        "shell" => path(places.shell),
        "state" => path(places.state),
        "worktree" => path(places.worktree),
        "worktree-dashed" => {
            let dashed = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
            path(places.worktree).chars().map(dashed).collect()
        }
        _ => String::new(),
    }
}
