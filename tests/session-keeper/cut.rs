//! What a keeper finds after a power cut: a conversation whose transcript was fsynced is whole.

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario};

use crate::machine::{Box, HOME, LONG};
use crate::real::CLAUDE_ID;

/// Another conversation, in the same folder.
const SCRIPTED_ID: &str = "5c619000-0000-4000-8000-000000000002";

#[test]
fn agents_have_their_conversations_after_a_power_cut() {
    scenario(|| {
        for release in Release::of_this_run() {
            cut(*release).with_context(|| format!("on {}", release.name()))?;
        }
        Ok(())
    });
}

fn cut(release: Release) -> Result<()> {
    let mut it = Box::bare(release)?;
    let said = it
        .as_user(&format!("claude -p --session-id {CLAUDE_ID} 'your word is maple'"), "")?
        .ok()?;
    ensure!(said.contains("Noted: maple. turns=1"), "{said}");
    let said = it
        .as_user(&format!("scripted --session-id {SCRIPTED_ID}"), "your word is linden\n")?
        .stdout;
    ensure!(said.contains("Noted: linden. turns=1"), "{said}");
    // As a keeper does at each turn's end, agents don't: the transcripts and their folder.
    let transcripts = format!("{HOME}/.claude/projects/-home-dev-work");
    it.vm.sh(&format!("sync {transcripts}/*.jsonl {transcripts} {HOME}/.claude/projects"))?.ok()?;
    let before = it.provider.requests()?.len();
    let lost = it.vm.power_cut()?.context("no volatile disk")?;
    lab::say(format_args!("{}: {lost:?}", release.name()));
    it.vm.start_again()?;
    it.vm.wait_booted(LONG)?;

    let said =
        it.as_user(&format!("claude -p --resume {CLAUDE_ID} 'what was your word?'"), "")?.ok()?;
    ensure!(said.contains("The word is maple. turns=2"), "{said}");
    let said =
        it.as_user(&format!("scripted --resume {SCRIPTED_ID}"), "what was your word?\n")?.stdout;
    ensure!(said.contains("The word is linden. turns=2"), "{said}");
    ensure!(it.provider.requests()?.len() == before + 1, "{:?}", it.provider.requests()?);
    Ok(())
}
