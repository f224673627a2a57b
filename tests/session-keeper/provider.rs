//! The models' provider: `tests/agents/provider` on a host, its faults and what it was asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::process::Spawned;
use lab::{Namespace, ledger};
use serde_json::Value;

use crate::machine::LONG;

const PORT: u16 = 9912;

/// A provider, until dropped.
pub(crate) struct Provider {
    place: PathBuf,
    address: String,
    _server: Spawned,
}

/// One request of an agent's that was for an answer.
#[derive(Debug)]
pub(crate) struct Request {
    /// The conversation's id, where the agent says it: claude and codex do.
    pub(crate) session: Option<String>,
    /// Who said what, oldest first; who is `user` or `assistant`.
    pub(crate) turns: Vec<(String, String)>,
    /// The answer that was given, if it was one of words.
    pub(crate) answer: Option<String>,
}

impl Request {
    /// Whether the user's last turn is this one: opencode may put quotes around it, aider says
    /// more after it, and a turn that asks for a title holds it in its middle.
    pub(crate) fn asks(&self, text: &str) -> bool {
        let same = |said: &str| said.trim().trim_matches('"').starts_with(text);
        self.turns.last().is_some_and(|(role, said)| role == "user" && same(said))
    }

    /// Whether any turn before the last says this.
    pub(crate) fn carries(&self, role: &str, text: &str) -> bool {
        let earlier = self.turns.split_last().map_or(&[][..], |(_, earlier)| earlier);
        earlier.iter().any(|(who, said)| who == role && said.contains(text))
    }
}

impl Provider {
    /// Serves on a host: at its address, or on the loopback of a host without a link.
    pub(crate) fn start(host: &Namespace) -> Result<Self> {
        let (place, _) = ledger::place("ga")?;
        let address = match host.address() {
            "" => "127.0.0.1",
            address => address,
        };
        let address = format!("{address}:{PORT}");
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/provider");
        let mut command = host.command("python3");
        command.arg(program).args(["--listen", &address, "--folder"]).arg(&place);
        let log = fs::File::create(place.join("errors")).context("cannot make the log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let mut server = Spawned::start(&mut command)?;
        let errors = place.join("errors");
        let probe = format!(": <'/dev/tcp/{}'", address.replace(':', "/"));
        lab::wait::until_true("the provider to listen", LONG, || {
            if let Some(code) = server.ended()? {
                let said = fs::read_to_string(&errors).unwrap_or_default();
                anyhow::bail!("the provider ended with {code}: {said}");
            }
            Ok(host.sh(&format!("{{ {probe}; }} 2>/dev/null"))?.status == 0)
        })?;
        Ok(Self { place, address, _server: server })
    }

    /// Where agents find it: no path, no slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, this fails (see the program for the words); `{}` ends it.
    pub(crate) fn fault(&self, fault: &Value) -> Result<()> {
        // Renamed into place: a request may come at any moment.
        let half = self.place.join("faults.half");
        fs::write(&half, fault.to_string()).context("cannot write the fault")?;
        fs::rename(&half, self.place.join("faults.json")).context("cannot set the fault")
    }

    /// Every line of the log, oldest first.
    pub(crate) fn log(&self) -> Result<Vec<Value>> {
        let text =
            fs::read_to_string(self.place.join("requests.jsonl")).context("the provider's log")?;
        text.lines().map(|line| serde_json::from_str(line).context("a line of the log")).collect()
    }

    /// The requests for an answer, oldest first.
    pub(crate) fn requests(&self) -> Result<Vec<Request>> {
        let log = self.log()?;
        let asked = log.iter().filter_map(|line| Some((line, line.get("turns")?.as_array()?)));
        let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_owned());
        let requests = asked.map(|(line, turns)| Request {
            session: text(line, "session"),
            turns: turns
                .iter()
                .filter_map(|turn| Some((text(turn, "role")?, text(turn, "text")?)))
                .collect(),
            answer: text(line, "answer"),
        });
        Ok(requests.collect())
    }

    /// The newest request whose user's last turn is a text, once there is one.
    pub(crate) fn wait_asked(&self, text: &str, within: Duration) -> Result<Request> {
        lab::wait::until(&format!("a request that asks {text:?}"), within, || {
            Ok(self.requests()?.into_iter().rev().find(|request| request.asks(text)))
        })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        ledger::leave(&self.place);
    }
}
