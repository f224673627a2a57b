//! What all of guppy-session-keeper rests on, of the agents themselves: killed at once and started
//! again by its id, an agent is in its conversation, and sends it to its provider.
//!
//! No machine and no internet: the agent, its provider and tmux are on one host that has a loopback
//! and no other network.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Namespace, ledger, scenario};

use crate::pane::Pane;
use crate::provider::Provider;
use crate::real::{Agent, installed};

const SOON: Duration = Duration::from_secs(300);
const TOLD: &str = "your word is walnut";
const NOTED: &str = "Noted: walnut.";
const ASKED: &str = "what was your word?";
const KNOWN: &str = "The word is walnut.";

#[test]
fn claude_is_back_in_its_conversation() {
    scenario(|| comes_back(Agent::Claude));
}

#[test]
fn codex_is_back_in_its_conversation() {
    scenario(|| comes_back(Agent::Codex));
}

#[test]
fn opencode_is_back_in_its_conversation() {
    scenario(|| comes_back(Agent::OpenCode));
}

#[test]
fn aider_is_back_in_its_conversation() {
    scenario(|| comes_back(Agent::Aider));
}

fn comes_back(agent: Agent) -> Result<()> {
    let programs = installed()?;
    let host = Namespace::new()?;
    let provider = Provider::start(&host)?;
    let (home, _) = ledger::place("gh")?;
    agent.settle(&home, &provider.url())?;
    let pane = Pane::new(&host, &home, &agent.environment(&provider.url()))?;

    pane.start(&agent.start(&programs, &home))?;
    pane.wait_screen("the agent", |screen| agent.is_ready(screen))?;
    pane.ask(TOLD)?;
    pane.wait_screen("the first answer", |screen| screen.contains(NOTED))?;
    let first = provider.wait_asked(TOLD, SOON)?;
    lab::wait::until_true("the turn to be written down", SOON, || {
        let is_over = |end| agent.has_written(&home, end);
        Ok(agent.has_written(&home, NOTED)? && agent.turn_end().map_or(Ok(true), is_over)?)
    })?;
    pane.kill()?;

    let id = agent.conversation(&programs, &home)?;
    pane.start(&agent.resume(&programs, &home, &id))?;
    pane.wait_screen("the conversation", |screen| {
        agent.is_ready(screen) && agent.is_restored(screen, NOTED)
    })?;
    ensure!(
        agent.conversation(&programs, &home)? == id,
        "{} has begun another conversation",
        agent.name()
    );
    pane.ask(ASKED)?;
    pane.wait_screen("the word", |screen| screen.contains(KNOWN))?;

    let second = provider.wait_asked(ASKED, SOON)?;
    ensure!(second.carries("user", TOLD), "without its first turn: {second:?}");
    ensure!(second.carries("assistant", NOTED), "without its first answer: {second:?}");
    ensure!(second.session == first.session, "of two conversations: {first:?}, {second:?}");
    let answer = second.answer.context("no answer to the question")?;
    ensure!(answer.starts_with(KNOWN), "{answer}");
    drop(pane);
    ledger::leave(&home);
    Ok(())
}
