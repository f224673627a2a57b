//! The agents that are shipped, the layers over them, and what their words become.

#![allow(clippy::unwrap_used)]

use std::path::Path;

use super::*;
use crate::conversation::Conversation;
use crate::name::SessionName;

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");

fn shipped(name: &str) -> Agent {
    Folders(vec![SHIPPED.into()]).read_one(name).unwrap()
}

/// The places of a session that has all of its own below one folder.
pub(crate) fn places_below<'a>(folder: &'a Path, name: &'a SessionName) -> Places<'a> {
    Places {
        name,
        conversation: None,
        home: folder,
        state: folder,
        worktree: folder,
        shell: Path::new("/bin/sh"),
        pid: None,
    }
}

fn command(agent: &str, resume: bool, id: Option<&Conversation>) -> Vec<String> {
    let agent = shipped(agent);
    let name = SessionName::parse("shop/fix.login").unwrap();
    let places = Places {
        name: &name,
        conversation: id,
        home: Path::new("/home/alice"),
        state: Path::new("/home/alice/.local/state/guppy"),
        worktree: Path::new("/home/alice/src/shop.js"),
        shell: Path::new("/bin/zsh"),
        pid: None,
    };
    let own = ["--model".to_owned(), "{home}".to_owned()];
    words(if resume { agent.resume() } else { &agent.start }, &own, places)
}

#[test]
fn all_that_is_shipped_is_valid() {
    let all = Folders(vec![SHIPPED.into()]).read().unwrap();
    let names: Vec<_> = all.keys().map(String::as_str).collect();
    assert_eq!(names, ["aider", "claude", "codex", "opencode", "shell"]);
    for (name, agent) in all {
        assert!(!agent.unwrap_or_else(|why| panic!("{name}: {why}")).about.is_empty());
    }
}

#[test]
fn commands_are_filled_and_a_sessions_own_words_are_not() {
    let id = Conversation::parse("0190f3c2-7a11-7000-8000-00000000000a").unwrap();
    let own = ["--model", "{home}"];
    let begun = command("claude", false, Some(&id));
    assert_eq!(begun, [&["claude", "--session-id", id.as_str()][..], &own].concat());
    let resumed = command("codex", true, Some(&id));
    assert_eq!(resumed, [&["codex", "--no-daemon", "resume", id.as_str()][..], &own].concat());
    assert_eq!(command("shell", true, None), ["/bin/zsh", "-l", "--model", "{home}"]);
    let history = "/home/alice/.local/state/guppy/aider/shop+fix~2elogin.md";
    assert!(command("aider", true, None).contains(&history.to_owned()));
}

#[test]
fn the_transcript_is_where_claude_puts_it() {
    let id = Conversation::parse("0190f3c2-7a11-7000-8000-00000000000a").unwrap();
    let name = SessionName::parse("a/b").unwrap();
    let places = Places {
        name: &name,
        conversation: Some(&id),
        home: Path::new("/home/alice"),
        state: Path::new("/s"),
        worktree: Path::new("/home/alice/shop.js_ö"),
        shell: Path::new("/bin/sh"),
        pid: Some(7),
    };
    assert_eq!(
        fill(&shipped("claude").conversation.transcript, places),
        format!("/home/alice/.claude/projects/-home-alice-shop-js--/{id}.jsonl")
    );
    let registry = fill(&shipped("claude").registry.file, places);
    assert_eq!(registry, "/home/alice/.claude/sessions/7.json");
}

#[test]
fn a_later_folder_sets_what_it_says_and_leaves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let put = |file: &str, text: &str| std::fs::write(folder.path().join(file), text).unwrap();
    put("claude.toml", "probe = \"\"\n[conversation]\nshape = \"word\"\n");
    put("mine.toml", "start = [\"mine\"]\n");
    put("broken.toml", "start = [\"mine\", \"{cwd}\"]\n");
    put("given.toml", "start = [\"mine\"]\n[conversation]\nid = \"given\"\n");
    put("Not-A-Name.toml", "");
    let all = Folders(vec![SHIPPED.into(), folder.path().into()]).read().unwrap();
    let claude = all.get("claude").unwrap().as_ref().unwrap();
    assert_eq!((claude.probe.as_str(), claude.conversation.shape), ("", Shape::Word));
    assert_eq!(claude.start, shipped("claude").start);
    assert_eq!(all.get("mine").unwrap().as_ref().unwrap().resume(), ["mine"]);
    let said = |name: &str| all.get(name).unwrap().as_ref().unwrap_err().clone();
    assert!(said("broken").contains("broken.toml:1:1: start = {cwd} is not valid"));
    assert!(said("given").contains("have {conversation} in start"), "{}", said("given"));
    assert_eq!(all.len(), 8);
    let none = Folders(vec![folder.path().join("nowhere")]);
    assert!(none.read_one("claude").unwrap_err().contains("guppy agents"));
    assert!(none.read_one("../../etc/passwd").is_err());
}

#[test]
fn an_end_means_what_its_status_and_its_last_words_say() {
    let (claude, shell) = (shipped("claude").exits, shipped("shell").exits);
    let lost = "No conversation found with session ID: 0190f3c2";
    for (rules, code, screen, means) in [
        (&claude, Some(0), "", Meaning::Clean),
        (&claude, Some(1), lost, Meaning::NotFound),
        (&claude, Some(1), "Claude AI usage LIMIT reached|1790000000", Meaning::Limit),
        (&claude, Some(1), "Invalid API key · Please run /login", Meaning::Login),
        (&claude, Some(1), "Segmentation fault", Meaning::Crash),
        (&claude, None, "", Meaning::Crash),
        (&claude, None, "the limit reached is 7", Meaning::Crash),
        (&shell, Some(130), "", Meaning::Clean),
        (&shell, Some(127), "", Meaning::Crash),
        (&shell, None, "", Meaning::Crash),
    ] {
        assert_eq!(meaning(rules, code, screen), means, "{code:?} {screen}");
    }
    assert_eq!(reset_of("Claude AI usage limit reached|1790000000\n$"), Some(1_790_000_000));
    assert_eq!(reset_of("a | b |12|x"), None);
}
