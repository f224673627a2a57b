//! What a world's keeper says, and what its agents leave.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, World, text, until};

impl World {
    /// Asks the keeper; an error is its name and its parameters.
    pub(crate) fn call(&self, method: &str, parameters: Value) -> Result<Value, String> {
        let call = json!({
            "method": format!("dev.guppy.SessionKeeper.{method}"),
            "parameters": parameters,
        });
        let text = |error: std::io::Error| error.to_string();
        let mut stream = UnixStream::connect(self.at("keeper.sock")).map_err(text)?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(format!("{call}\0").as_bytes()).map_err(text)?;
        let mut bytes = Vec::new();
        BufReader::new(stream).read_until(0, &mut bytes).map_err(text)?;
        bytes.pop();
        let mut answer: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        match answer.get("error") {
            Some(_) => Err(answer.to_string()),
            None => Ok(answer.get_mut("parameters").map(Value::take).unwrap_or_default()),
        }
    }

    /// What the keeper says of a session.
    pub(crate) fn session(&self, name: &str) -> Value {
        let listing = self.call("List", json!({})).unwrap();
        let sessions = listing.get("sessions").and_then(Value::as_array).unwrap();
        let found = sessions.iter().find(|session| session.get("name") == Some(&json!(name)));
        found.cloned().unwrap_or_default()
    }

    /// Waits until a session is in this state.
    pub(crate) fn until_state(&self, name: &str, state: &str) -> Value {
        let begin = Instant::now();
        loop {
            let session = self.session(name);
            if session.get("state") == Some(&json!(state)) {
                return session;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{name} is not {state}: {session:#}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A session whose agent has been told a word; its conversation.
    pub(crate) fn told(&self, name: &str, word: &str) -> String {
        self.declare(name, |_| {});
        let session = self.until_state(name, "idle");
        let id = text(&session, "conversation").to_owned();
        self.say(name, word);
        self.until_noted(&id, word);
        id
    }

    /// Types a line into a session's agent.
    pub(crate) fn say(&self, name: &str, line: &str) {
        self.say_to(text(&self.session(name), "pane"), line);
    }

    /// The same, of a pane that is known.
    pub(crate) fn say_to(&self, pane: &str, line: &str) {
        assert!(self.tmux(&["send-keys", "-t", pane, "-l", line]).status.success());
        assert!(self.tmux(&["send-keys", "-t", pane, "Enter"]).status.success());
    }

    /// What an agent's conversation holds.
    pub(crate) fn transcript(&self, id: &str) -> String {
        fs::read_to_string(self.transcript_path(id)).unwrap_or_default()
    }

    /// Where it is.
    pub(crate) fn transcript_path(&self, id: &str) -> PathBuf {
        let worktree = fs::canonicalize(self.at("home/src")).unwrap();
        let dashed = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let folder: String = worktree.to_str().unwrap().chars().map(dashed).collect();
        self.at("home/.claude/projects").join(folder).join(format!("{id}.jsonl"))
    }

    /// Every agent that has begun in a session: its conversation and its pid.
    pub(crate) fn births(&self, name: &str) -> Vec<(String, u64)> {
        let all = fs::read_to_string(self.at("home/births")).unwrap_or_default();
        let of = |line: &str| {
            // A name may have spaces.
            let (rest, pid) = line.rsplit_once(' ')?;
            let (session, conversation) = rest.rsplit_once(' ')?;
            (session == name).then(|| (conversation.to_owned(), pid.parse().unwrap()))
        };
        all.lines().filter_map(of).collect()
    }

    /// Waits until an agent has noted a line.
    pub(crate) fn until_noted(&self, id: &str, line: &str) {
        until(&format!("{line:?} in {id}"), || self.transcript(id).lines().any(|l| l == line));
    }
}
