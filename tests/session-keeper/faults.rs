//! The provider's faults are what they are called, and an agent cut in mid-turn has lost nothing
//! that was said before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Namespace, ledger, scenario};
use serde_json::json;

use crate::pane::Pane;
use crate::provider::Provider;
use crate::real::{Agent, CLAUDE_ID, installed};

const SOON: Duration = Duration::from_secs(300);

#[test]
fn claude_cut_in_mid_turn_has_the_turns_before_it() {
    scenario(|| {
        let (programs, agent) = (installed()?, Agent::Claude);
        let host = Namespace::new()?;
        let provider = Provider::start(&host)?;
        let (home, _) = ledger::place("gh")?;
        agent.settle(&home, &provider.url())?;
        let pane = Pane::new(&host, &home, &agent.environment(&provider.url()))?;
        pane.start(&agent.start(&programs, &home))?;
        pane.wait_screen("the agent", |screen| agent.is_ready(screen))?;
        pane.ask("your word is hazel")?;
        pane.wait_screen("the first answer", |screen| screen.contains("Noted: hazel."))?;

        provider.fault(&json!({ "only": "a story", "hang": true }))?;
        pane.ask("tell me a story")?;
        let cut = provider.wait_asked("tell me a story", SOON)?;
        ensure!(cut.answer.is_none(), "answered: {cut:?}");
        lab::wait::until_true("the turn to be written down", SOON, || {
            agent.has_written(&home, "tell me a story")
        })?;
        pane.kill()?;
        provider.fault(&json!({}))?;

        let id = agent.conversation(&programs, &home)?;
        pane.start(&agent.resume(&programs, &home, &id))?;
        pane.wait_screen("the conversation", |screen| {
            agent.is_ready(screen) && screen.contains("tell me a story")
        })?;
        pane.ask("what was your word?")?;
        pane.wait_screen("the word", |screen| screen.contains("The word is hazel."))?;
        let next = provider.wait_asked("what was your word?", SOON)?;
        ensure!(next.carries("user", "tell me a story"), "the cut turn is gone: {next:?}");
        drop(pane);
        ledger::leave(&home);
        Ok(())
    });
}

/// Killed within some tens of milliseconds of its first prompt, claude leaves such a transcript:
/// it has said its modes and no turn. A power cut may leave an empty one.
#[test]
fn claude_neither_begins_nor_resumes_a_conversation_without_turns() {
    scenario(|| {
        let (programs, agent) = (installed()?, Agent::Claude);
        let host = Namespace::new()?;
        let provider = Provider::start(&host)?;
        let (home, _) = ledger::place("gh")?;
        agent.settle(&home, &provider.url())?;
        let told = |words: &[&str]| {
            let mut command = host.command("env");
            command.args(["-i", "PATH=/usr/bin:/bin"]).arg(format!("HOME={}", home.display()));
            let environment = agent.environment(&provider.url());
            command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
            command.arg(programs.join("claude")).args(words).args(["-p", "your word is elder"]);
            command.current_dir(home.join("work"));
            lab::process::run(command, b"", SOON)
        };
        let work = home.join("work").display().to_string();
        let folder = work.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let folder = home.join(".claude/projects").join(folder);
        let transcript = folder.join(format!("{CLAUDE_ID}.jsonl"));
        std::fs::create_dir_all(&folder)?;
        let modes = format!(
            "{}\n{}\n",
            json!({ "type": "mode", "mode": "normal", "sessionId": CLAUDE_ID }),
            json!({ "type": "permission-mode", "permissionMode": "default",
                "sessionId": CLAUDE_ID })
        );
        for content in [modes, String::new()] {
            std::fs::write(&transcript, content)?;
            let resumed = told(&["--resume", CLAUDE_ID])?;
            let said = format!("{}{}", resumed.stdout, resumed.stderr);
            let why = "No conversation found with session ID";
            ensure!(resumed.status == 1 && said.contains(why), "{resumed:?}");
            let begun = told(&["--session-id", CLAUDE_ID])?;
            let said = format!("{}{}", begun.stdout, begun.stderr);
            ensure!(begun.status == 1 && said.contains("is already in use"), "{begun:?}");
        }
        ensure!(provider.requests()?.is_empty(), "{:?}", provider.requests()?);
        // With the file away the id is new again.
        std::fs::remove_file(&transcript)?;
        ensure!(told(&["--session-id", CLAUDE_ID])?.ok()?.contains("Noted: elder."));
        ensure!(agent.has_written(&home, "elder")?);
        ledger::leave(&home);
        Ok(())
    });
}

/// Asks with a plain client, in one of the APIs; gives the status, the headers and what was read
/// within two seconds of the last byte.
fn asked(host: &Namespace, provider: &Provider, path: &str, body: &str) -> Result<String> {
    let script = "import sys, urllib.request, urllib.error, socket\n\
        request = urllib.request.Request(sys.argv[1], sys.argv[2].encode())\n\
        try:\n    answer = urllib.request.urlopen(request, timeout=2)\n\
        except urllib.error.HTTPError as error:\n    answer = error\n\
        print(answer.status, dict(answer.headers))\n\
        try:\n    \x20   for line in answer: print(line.decode(), end='')\n    \x20   print('the end')\n\
        except (socket.timeout, TimeoutError): print('nothing more')\n";
    let url = format!("{}{path}", provider.url());
    let mut command = host.command("python3");
    command.args(["-c", script, &url, body]);
    lab::process::run(command, b"", SOON)?.ok().context("the client")
}

#[test]
fn the_provider_fails_as_it_is_told() {
    scenario(|| {
        let host = Namespace::new()?;
        let provider = Provider::start(&host)?;
        let body = json!({ "model": "m", "stream": true, "messages": [
            { "role": "user", "content": "your word is rowan" },
            { "role": "assistant", "content": "Noted." },
            { "role": "user", "content": [{ "type": "text", "text": "what is your word?" },
                { "type": "text", "text": "<system-reminder>your word is none</system-reminder>" }] },
        ] })
        .to_string();
        for path in ["/v1/messages", "/v1/chat/completions"] {
            let said = asked(&host, &provider, path, &body)?;
            ensure!(said.starts_with("200") && said.ends_with("the end"), "{said}");
            ensure!(said.contains("rowan") && said.contains("turns=2"), "{said}");
        }
        let last = provider.requests()?.pop().context("no request in the log")?;
        ensure!(last.answer.as_deref() == Some("The word is rowan. turns=2"), "{last:?}");

        for (status, kind) in
            [(401, "authentication_error"), (429, "rate_limit_error"), (529, "overloaded_error")]
        {
            provider.fault(&json!({ "status": status, "reset": 90 }))?;
            let said = asked(&host, &provider, "/v1/messages", &body)?;
            ensure!(said.starts_with(&status.to_string()) && said.contains(kind), "{said}");
            ensure!(said.contains("'retry-after': '90'") == (status == 429), "{said}");
        }
        provider.fault(&json!({ "hang": true }))?;
        let said = asked(&host, &provider, "/v1/messages", &body)?;
        ensure!(said.contains("message_start") && said.ends_with("nothing more"), "{said}");
        ensure!(!said.contains("rowan"), "{said}");

        provider.fault(&json!({ "status": 401, "only": "another" }))?;
        ensure!(asked(&host, &provider, "/v1/messages", &body)?.contains("rowan"));
        provider.fault(&json!({ "delay": 1.0 }))?;
        let start = std::time::Instant::now();
        ensure!(asked(&host, &provider, "/v1/messages", &body)?.contains("rowan"));
        ensure!(start.elapsed() >= Duration::from_secs(1), "no delay");
        ensure!(provider.requests()?.len() == 8, "{:?}", provider.log()?);
        Ok(())
    });
}
