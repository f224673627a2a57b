//! The scripted agent does what was measured of claude, since what session-keeper does with it
//! stands for what it does with claude.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Namespace, Output, ledger, scenario};
use serde_json::{Value, json};

use crate::pane::Pane;

const SOON: Duration = Duration::from_secs(300);
const READY: &str = "? for shortcuts";
const ID: &str = "5c619000-0000-4000-8000-000000000001";

/// A home with a hook for every event, and a pane in its trusted folder `work`.
struct Stage {
    host: Namespace,
    home: PathBuf,
}

impl Stage {
    fn new() -> Result<Self> {
        let (home, _) = ledger::place("gh")?;
        fs::create_dir_all(home.join("work"))?;
        let stage = Self { host: Namespace::new()?, home };
        stage.trust(&[&stage.home.join("work")])?;
        let log = stage.home.join("hooks").display().to_string();
        let hook = json!([{ "hooks": [{ "type": "command",
            "command": format!("event=$(cat); printf '%s\\n' \"$event\" >>{log}") }] }]);
        let events = ["SessionStart", "SessionEnd", "UserPromptSubmit", "PermissionRequest"];
        let events = events.into_iter().chain(["Stop", "StopFailure"]);
        let hooks: serde_json::Map<_, _> =
            events.map(|event| (event.to_owned(), hook.clone())).collect();
        fs::create_dir_all(stage.home.join(".claude"))?;
        fs::write(stage.home.join(".claude/settings.json"), json!({ "hooks": hooks }).to_string())?;
        fs::write(&log, "")?;
        Ok(stage)
    }

    fn trust(&self, folders: &[&Path]) -> Result<()> {
        let trusted = |folder: &&Path| {
            (folder.display().to_string(), json!({ "hasTrustDialogAccepted": true }))
        };
        let projects: serde_json::Map<_, _> = folders.iter().map(trusted).collect();
        let text = json!({ "projects": projects }).to_string();
        fs::write(self.home.join(".claude.json"), text).context("cannot write the trust")
    }

    fn pane(&self, at_start: &str) -> Result<Pane<'_>> {
        Pane::new(&self.host, &self.home, &[("SCRIPTED", at_start.to_owned())])
    }

    /// Runs it on no terminal, typing these prompts. (What a program says at its very end is not to
    /// be had from a pane: tmux 3.3a forgets what it has not read when the program is gone.)
    fn run(&self, words: &[&str], prompts: &str) -> Result<Output> {
        let mut command = self.host.command("env");
        command.args(["-i", "PATH=/usr/bin:/bin"]).arg(format!("HOME={}", self.home.display()));
        command.args(line(words)).current_dir(self.home.join("work"));
        lab::process::run(command, prompts.as_bytes(), SOON)
    }

    fn transcript(&self, id: &str) -> PathBuf {
        let work = self.home.join("work").display().to_string();
        let folder = work.replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        self.home.join(".claude/projects").join(folder).join(format!("{id}.jsonl"))
    }

    /// What the hooks were given so far, oldest first.
    fn hooks(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(self.home.join("hooks"))?;
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_str(line).context("a hook's line")).collect()
    }

    fn events(&self) -> Result<Vec<String>> {
        Ok(self.hooks()?.iter().map(|hook| word(hook, "hook_event_name")).collect())
    }

    /// What the registry says of a process.
    fn registered(&self, pid: i32) -> Result<Value> {
        let path = self.home.join(format!(".claude/sessions/{pid}.json"));
        let text = fs::read_to_string(path).context("no entry in the registry")?;
        serde_json::from_str(&text).context("the registry's entry")
    }

    fn wait_status(&self, pane: &Pane<'_>, status: &str) -> Result<Value> {
        let pid = pane.pid()?;
        lab::wait::until(&format!("the agent to be {status}"), SOON, || {
            Ok(self.registered(pid).ok().filter(|entry| word(entry, "status") == status))
        })
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        ledger::leave(&self.home);
    }
}

fn word(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn line(words: &[&str]) -> Vec<String> {
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/scripted");
    let words = words.iter().map(|word| (*word).to_owned());
    ["/usr/bin/python3".to_owned(), program.display().to_string()]
        .into_iter()
        .chain(words)
        .collect()
}

/// Starts it and waits until it takes a prompt.
fn ready(pane: &Pane<'_>, words: &[&str]) -> Result<()> {
    pane.start(&line(words))?;
    pane.wait_screen("the agent", |screen| screen.contains(READY))
}

fn says(pane: &Pane<'_>, prompt: &str, answer: &str) -> Result<()> {
    pane.ask(prompt)?;
    pane.wait_screen(answer, |screen| screen.contains(answer))
}

#[test]
fn it_knows_of_its_conversation_what_stands_in_its_transcript() {
    scenario(|| {
        let stage = Stage::new()?;
        let pane = stage.pane("")?;
        ready(&pane, &["--session-id", ID])?;
        ensure!(!stage.transcript(ID).exists(), "a transcript before the first prompt");
        let entry = stage.wait_status(&pane, "idle")?;
        ensure!(word(&entry, "sessionId") == ID, "{entry}");
        let stat = fs::read_to_string(format!("/proc/{}/stat", pane.pid()?))?;
        let started = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(19));
        ensure!(Some(word(&entry, "procStart").as_str()) == started, "{entry}, {stat}");

        says(&pane, "your word is alder", "Noted: alder. turns=1")?;
        let pid = pane.pid()?;
        pane.kill()?;
        ensure!(word(&stage.registered(pid)?, "sessionId") == ID, "SIGKILL has tidied up");
        let again = stage.run(&["--session-id", ID], "")?;
        ensure!(again.status == 1 && again.stdout.contains("is already in use"), "{again:?}");
        ready(&pane, &["--resume", ID])?;
        says(&pane, "what was\nyour word?\nwhat was your word?", "The word is alder. turns=2")?;
        // The state follows the last hook, the hook what is shown.
        stage.wait_status(&pane, "idle")?;
        let events = stage.events()?;
        let turn = ["SessionStart", "UserPromptSubmit", "Stop"];
        ensure!(events == [turn, turn].concat(), "{events:?}");
        // What stands in the transcript, and only that.
        fs::write(stage.transcript(ID), "{\"type\": \"mode\"}\n")?;
        says(&pane, "what was your word", "Nobody told me a word. turns=1")?;
        // A line behind half of one is lost, and no other.
        fs::write(stage.transcript(ID), "{\"type\": \"user\", \"te")?;
        says(&pane, "your word is ash", "Done. turns=0")?;
        says(&pane, "what was your word?", "Nobody told me a word. turns=1")
    });
}

#[test]
fn clear_begins_another_conversation() {
    scenario(|| {
        let stage = Stage::new()?;
        let pane = stage.pane("")?;
        ready(&pane, &["--session-id", ID])?;
        says(&pane, "your word is aspen", "Noted: aspen.")?;
        says(&pane, "/clear", "cleared")?;
        let new = word(&stage.wait_status(&pane, "idle")?, "sessionId");
        ensure!(new != ID, "the same id");
        let hooks = stage.hooks()?;
        let [.., ended, started] = hooks.as_slice() else { anyhow::bail!("{hooks:?}") };
        ensure!(word(ended, "session_id") == ID && word(ended, "reason") == "clear", "{ended}");
        ensure!(word(started, "session_id") == new && word(started, "source") == "clear");
        ensure!(!stage.transcript(&new).exists(), "a transcript before the first prompt");
        says(&pane, "what was your word?", "Nobody told me a word. turns=1")?;
        pane.kill()?;
        ready(&pane, &["--resume", ID])?;
        says(&pane, "what was your word?", "The word is aspen. turns=2")
    });
}

#[test]
fn it_ends_as_it_is_told() {
    scenario(|| {
        let stage = Stage::new()?;
        for (command, code, event) in [
            ("/exit", 0, "SessionEnd"),
            ("/end 7", 7, "SessionStart"),
            ("/signal SEGV", 128 + 11, "SessionStart"),
            ("/limit 90", 1, "SessionEnd"),
            ("/logout", 1, "SessionEnd"),
        ] {
            let pane = stage.pane("")?;
            ready(&pane, &[])?;
            // An end may come sooner than the prompt is seen.
            pane.keys(&["-l", command])?;
            pane.keys(&["Enter"])?;
            let ended = pane.wait_end()?;
            ensure!(ended == code, "{command} ended with {ended}");
            let events = stage.events()?;
            ensure!(events.last().is_some_and(|last| last == event), "{command}: {events:?}");
        }
        for (signal, code) in [("HUP", 129), ("TERM", 143)] {
            let pane = stage.pane("")?;
            ready(&pane, &[])?;
            let pid = pane.pid()?;
            lab::process::host("kill", &[&format!("-{signal}"), &pid.to_string()])?;
            let ended = pane.wait_end()?;
            ensure!(ended == code, "{signal}: {ended}");
            ensure!(stage.registered(pid).is_err(), "an orderly end leaves its entry");
        }
        let pane = stage.pane("!end 3")?;
        pane.start(&line(&["--session-id", ID]))?;
        ensure!(pane.wait_end()? == 3);
        for (command, text) in
            [("/limit 90\n", "usage limit reached|"), ("/logout\n", "Not logged in")]
        {
            let ended = stage.run(&[], command)?;
            ensure!(ended.status == 1 && ended.stdout.contains(text), "{ended:?}");
        }
        let failed = stage.run(&["--resume", ID], "")?;
        let text = "No conversation found with session ID";
        ensure!(failed.status == 1 && failed.stdout.contains(text), "{failed:?}");
        let last = stage.hooks()?.pop().context("no hook")?;
        ensure!(word(&last, "hook_event_name") == "SessionEnd", "{last}");
        ensure!(word(&last, "session_id") != ID, "the failed start has the id that it looked for");
        Ok(())
    });
}

#[test]
fn it_asks_before_it_works_in_a_folder_that_nobody_trusts() {
    scenario(|| {
        let stage = Stage::new()?;
        stage.trust(&[])?;
        let asks = |pane: &Pane<'_>| -> Result<()> {
            pane.start(&line(&["--session-id", ID]))?;
            pane.wait_screen("the dialog", |screen| screen.contains("Yes, I trust this folder"))
        };
        let pane = stage.pane("")?;
        asks(&pane)?;
        ensure!(stage.hooks()?.is_empty(), "a hook before the answer: {:?}", stage.hooks()?);
        pane.keys(&["Escape"])?;
        ensure!(pane.wait_end()? == 1);
        let ended = stage.hooks()?.pop().context("no hook")?;
        ensure!(word(&ended, "session_id") != ID, "{ended}");
        asks(&pane)?;
        pane.keys(&["Enter"])?;
        pane.wait_screen("the agent", |screen| screen.contains(READY))?;

        // Trust is inherited: from a parent, and by a worktree from its repository.
        stage.trust(&[&stage.home])?;
        ready(&pane, &[])?;
        let repository = stage.home.join("repository");
        stage.trust(&[&repository])?;
        let link = format!("gitdir: {}/.git/worktrees/work\n", repository.display());
        fs::write(stage.home.join("work/.git"), link)?;
        ready(&pane, &[])
    });
}

#[test]
fn its_state_is_what_a_person_would_see() {
    scenario(|| {
        let stage = Stage::new()?;
        let pane = stage.pane("")?;
        ready(&pane, &["--session-id", ID])?;
        pane.ask("/ask")?;
        let entry = stage.wait_status(&pane, "waiting")?;
        ensure!(word(&entry, "waitingFor") == "permission prompt", "{entry}");
        pane.wait_screen("the dialog", |screen| screen.contains("Do you want to proceed?"))?;
        let asked = stage.events()?;
        ensure!(asked.last().is_some_and(|event| event == "PermissionRequest"), "{asked:?}");
        pane.keys(&["Escape"])?;
        stage.wait_status(&pane, "idle")?;
        ensure!(stage.events()? == asked, "Escape has no hook");

        says(&pane, "/fail rate_limit", "API Error: rate_limit")?;
        stage.wait_status(&pane, "idle")?;
        let failed = stage.hooks()?.pop().context("no hook")?;
        ensure!(word(&failed, "error") == "rate_limit", "{failed}");

        // Killed in mid-turn, the turn is there and its answer is not.
        pane.ask("/long 600 your word is beech")?;
        stage.wait_status(&pane, "busy")?;
        lab::wait::until_true("the turn to be written down", SOON, || {
            Ok(fs::read_to_string(stage.transcript(ID)).is_ok_and(|text| text.contains("beech")))
        })?;
        pane.kill()?;
        let text = fs::read_to_string(stage.transcript(ID))?;
        ensure!(!text.contains("Noted"), "{text}");
        ready(&pane, &["--resume", ID])?;
        says(&pane, "what was your word?", "The word is beech. turns=2")?;

        says(&pane, "/late 2", "hooks are 2 s late")?;
        let before = stage.events()?.len();
        says(&pane, "anything", "Done. turns=3")?;
        stage.wait_status(&pane, "idle")?;
        ensure!(stage.events()?.len() == before, "a late hook came at once");
        lab::wait::until_true("the late hooks", SOON, || Ok(stage.events()?.len() == before + 2))
    });
}

#[test]
fn it_is_as_stubborn_as_it_is_told_and_so_are_its_children() {
    scenario(|| {
        let stage = Stage::new()?;
        let pane = stage.pane("stubborn; eat 1")?;
        ready(&pane, &["--session-id", ID])?;
        let screen = pane.screen()?;
        ensure!(screen.contains("the child ended with 0"), "{screen}");
        let pid = pane.pid()?.to_string();
        for signal in ["-HUP", "-TERM"] {
            lab::process::host("kill", &[signal, &pid])?;
        }
        says(&pane, "anything", "Done. turns=1")?;

        says(&pane, "/orphan", "orphan ")?;
        let screen = pane.screen()?;
        let orphan = screen.lines().find_map(|line| line.trim().strip_prefix("orphan "));
        let orphan = orphan.context("no orphan's id")?.to_owned();
        pane.kill()?;
        // It goes on: as a zombie it would have no command line.
        let alive = fs::read_to_string(format!("/proc/{orphan}/cmdline"))?;
        let stat = fs::read_to_string(format!("/proc/{orphan}/stat"))?;
        lab::process::host("kill", &["-KILL", &orphan])?;
        ensure!(alive.contains("SIGHUP"), "the orphan has gone with the agent");
        let session = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(3));
        ensure!(session == Some(orphan.as_str()), "in the agent's own session: {stat}");
        Ok(())
    });
}
