//! A new worktree asks nobody whether it may be trusted: what a person has said of its repository
//! holds. The agents do that themselves, and `guppy new` relies on it: were it otherwise, each new
//! session would wait in a dialog.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::process::host;
use lab::{Namespace, ledger, scenario};

use crate::pane::Pane;
use crate::provider::Provider;
use crate::real::{Agent, installed};

const ASKS: &str = "Yes, I trust this folder";

#[test]
fn claudes_answer_in_one_worktree_holds_for_the_next() {
    scenario(|| {
        new_worktree(Agent::Claude, |pane, start| {
            pane.start_in("first", start)?;
            pane.wait_screen("the question", |screen| screen.contains(ASKS))?;
            pane.keys(&["Enter"])?;
            pane.wait_screen("the agent", |screen| Agent::Claude.is_ready(screen))
        })
    });
}

#[test]
fn codex_does_not_ask_in_a_worktree_of_a_trusted_repository() {
    scenario(|| new_worktree(Agent::Codex, |_, _| Ok(())));
}

#[test]
fn opencode_does_not_ask_in_a_new_worktree() {
    scenario(|| new_worktree(Agent::OpenCode, |_, _| Ok(())));
}

/// The agent starts in a second worktree after `first` has been done in the first.
fn new_worktree(agent: Agent, first: impl Fn(&Pane<'_>, &[String]) -> Result<()>) -> Result<()> {
    let programs = installed()?;
    let net = Namespace::new()?;
    let provider = Provider::start(&net)?;
    let (home, _) = ledger::place("gh")?;
    settle(agent, &home, &provider.url())?;
    let pane = Pane::new(&net, &home, &agent.environment(&provider.url()))?;
    let start = agent.start(&programs, &home);
    first(&pane, &start)?;
    pane.start_in("second", &start)?;
    pane.wait_screen("an agent that asks nothing", |screen| agent.is_ready(screen))?;
    let screen = pane.screen()?;
    ensure!(!screen.contains("trust"), "it asks:\n{screen}");
    drop(pane);
    ledger::leave(&home);
    Ok(())
}

/// A repository `work`, which only codex has been told to trust, and two worktrees beside it.
fn settle(agent: Agent, home: &Path, url: &str) -> Result<()> {
    agent.settle(home, url)?;
    if agent == Agent::Claude {
        let path = home.join(".claude.json");
        let text = std::fs::read_to_string(&path)?;
        let untrusted = text.replace("\"hasTrustDialogAccepted\":true", "");
        ensure!(untrusted != text, "{text}");
        std::fs::write(&path, untrusted)?;
    }
    let work = home.join("work").display().to_string();
    let git = |words: &[&str]| {
        let own = ["-C", &work, "-c", "user.name=a", "-c", "user.email=a@b"];
        host("git", &[&own[..], words].concat()).context("git")
    };
    git(&["init", "-q", "-b", "main", "."])?;
    git(&["commit", "-q", "--allow-empty", "-m", "one"])?;
    for branch in ["first", "second"] {
        git(&["worktree", "add", "-q", "-b", branch, &format!("../{branch}")])?;
    }
    Ok(())
}
