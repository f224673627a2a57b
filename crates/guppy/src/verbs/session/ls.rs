//! `guppy ls`: every session, where it stands and why. Git is asked only when it is asked for.

use std::path::Path;

use guppy_session_keeper::act::git;
use guppy_session_keeper::api::{Listing, SessionLine};
use guppy_session_keeper::paths::Paths;
use serde::Serialize;

use crate::keeper::listing;
use crate::report::{Failure, Report};
use crate::span;
use crate::table::{columns, printable};

/// What git says of a worktree.
#[derive(Debug, Serialize)]
struct Git {
    session: String,
    branch: Option<String>,
    /// Files that differ from the last commit, or are not known to git.
    changes: usize,
    ahead: u64,
    behind: u64,
    error: Option<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    listing: &'a Listing,
    #[serde(skip_serializing_if = "Option::is_none")]
    git: Option<&'a [Git]>,
}

/// Runs the verb.
///
/// # Errors
/// Nothing can be read.
pub(super) async fn run(paths: &Paths, with_git: bool) -> Result<Report, Failure> {
    let listing = listing(paths).await?;
    let mut asked = Vec::new();
    for line in listing.sessions.iter().filter(|_| with_git) {
        asked.push(ask_git(line).await);
    }
    let git = with_git.then_some(asked.as_slice());
    Report::new(text(&listing, git), &Answer { listing: &listing, git })
}

async fn ask_git(line: &SessionLine) -> Git {
    let mut answer = Git {
        session: line.name.clone(),
        branch: None,
        changes: 0,
        ahead: 0,
        behind: 0,
        error: None,
    };
    match git(Path::new(&line.worktree), &["status", "--porcelain=v2", "--branch"]).await {
        Ok(said) => read(&said, &mut answer),
        Err(error) => answer.error = error.lines().next().map(str::to_owned),
    }
    answer
}

fn read(said: &str, answer: &mut Git) {
    for line in said.lines() {
        if let Some(head) = line.strip_prefix("# branch.head ") {
            answer.branch = Some(head.to_owned());
        } else if let Some(counts) = line.strip_prefix("# branch.ab ") {
            let mut counts = counts
                .split(' ')
                .map(|count| count.trim_start_matches(['+', '-']).parse().unwrap_or(0));
            answer.ahead = counts.next().unwrap_or(0);
            answer.behind = counts.next().unwrap_or(0);
        } else if !line.starts_with('#') {
            answer.changes += 1;
        }
    }
}

fn text(listing: &Listing, git: Option<&[Git]>) -> String {
    let mut text = String::new();
    let rows: Vec<_> = listing
        .sessions
        .iter()
        .map(|line| {
            let of_git = git
                .and_then(|all| all.iter().find(|git| git.session == line.name))
                .map(in_words)
                .unwrap_or_default();
            let agent = line.agent.clone();
            [line.name.clone(), agent, line.state.clone(), of_git, why(line)]
        })
        .collect();
    if git.is_some() {
        text.push_str(&columns(&rows));
    } else {
        let narrow: Vec<_> = rows
            .into_iter()
            .map(|[name, agent, state, _, why]| [name, agent, state, why])
            .collect();
        text.push_str(&columns(&narrow));
    }
    if listing.sessions.is_empty() {
        text.push_str("no sessions yet: guppy new PROJECT/BRANCH\n");
    }
    for other in &listing.others {
        let panes = if other.panes == 1 { "pane" } else { "panes" };
        let session = printable(&other.session);
        text.push_str(&format!("{session}  by hand, {} {panes}, not kept\n", other.panes));
    }
    text.push_str(&format!("{}\n", printable(&listing.server)));
    for problem in &listing.problems {
        text.push_str(&format!("! {}\n", printable(problem)));
    }
    text
}

fn why(line: &SessionLine) -> String {
    let mut parts = Vec::new();
    if !line.why.is_empty() {
        parts.push(line.why.clone());
    }
    if let Some(seconds) = line.until_seconds {
        parts.push(format!("in {}", span::text(seconds)));
    }
    if line.attached > 0 {
        parts.push("attached".to_owned());
    }
    parts.extend(line.remarks.iter().cloned());
    parts.join("; ")
}

fn in_words(git: &Git) -> String {
    if let Some(error) = &git.error {
        return error.clone();
    }
    let mut parts = vec![git.branch.clone().unwrap_or_default()];
    for (count, noun) in [(git.ahead, "ahead"), (git.behind, "behind")] {
        if count > 0 {
            parts.push(format!("{count} {noun}"));
        }
    }
    if git.changes > 0 {
        parts.push(format!("{} changed", git.changes));
    }
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, state: &str, why: &str) -> SessionLine {
        SessionLine {
            name: name.to_owned(),
            agent: "claude".to_owned(),
            state: state.to_owned(),
            why: why.to_owned(),
            until_seconds: None,
            worktree: "/w".to_owned(),
            conversation: None,
            history: Vec::new(),
            pid: None,
            pane: None,
            attached: 0,
            starts: 1,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn each_session_is_a_line_and_what_is_wrong_stands_below() {
        let mut due = line("shop/b", "due", "it exited with 1");
        due.until_seconds = Some(28);
        let listing = Listing {
            server: "tmux 3.5a (pid 7)".to_owned(),
            sessions: vec![line("shop/a", "idle", ""), due],
            others: Vec::new(),
            problems: vec!["stray.toml\u{1b}[2J".to_owned()],
        };
        assert_eq!(
            text(&listing, None),
            "shop/a  claude  idle\n\
             shop/b  claude  due   it exited with 1; in 28 s\n\
             tmux 3.5a (pid 7)\n\
             ! stray.toml\u{fffd}[2J\n"
        );
    }

    #[test]
    fn git_is_read_in_its_second_format() {
        let mut answer = Git {
            session: String::new(),
            branch: None,
            changes: 0,
            ahead: 0,
            behind: 0,
            error: None,
        };
        let said = "# branch.oid 12\n# branch.head fix\n# branch.ab +2 -0\n1 .M N... a\n? b\n";
        read(said, &mut answer);
        assert_eq!(in_words(&answer), "fix, 2 ahead, 2 changed");
    }
}
