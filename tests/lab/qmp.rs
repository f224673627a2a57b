//! qemu's own control socket: commands, and events with the time they came.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::wait;

/// Something that happened to the machine.
#[derive(Debug, Clone)]
pub struct Event {
    /// qemu's name for it, such as `SHUTDOWN`.
    pub name: String,
    /// Its details.
    pub data: Value,
    /// When it was heard.
    pub at: Instant,
    /// Its number among all events of this machine.
    pub position: usize,
}

#[derive(Debug, Default)]
struct Heard {
    events: Vec<Event>,
    answers: Vec<Value>,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    heard: Mutex<Heard>,
    news: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to one qemu.
#[derive(Debug)]
pub struct Qmp {
    writer: Mutex<UnixStream>,
    shared: Arc<Shared>,
}

impl Qmp {
    /// Connects as soon as qemu listens; `alive` may end the wait with an error.
    pub fn connect(socket: &Path, mut alive: impl FnMut() -> Result<()>) -> Result<Self> {
        let stream = wait::until("qemu's control socket", Duration::from_secs(120), || {
            alive()?;
            Ok(UnixStream::connect(socket).ok())
        })?;
        let shared = Arc::new(Shared::default());
        let reader = BufReader::new(stream.try_clone().context("cannot share the QMP socket")?);
        let listener = Arc::clone(&shared);
        std::thread::spawn(move || listen(reader, &listener));
        let qmp = Self { writer: Mutex::new(stream), shared };
        qmp.execute("qmp_capabilities", json!({}))?;
        Ok(qmp)
    }

    /// Runs one command and gives what it returned.
    pub fn execute(&self, command: &str, arguments: Value) -> Result<Value> {
        let request = json!({ "execute": command, "arguments": arguments });
        // Held until the answer is there: one question at a time.
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        writer
            .write_all(format!("{request}\n").as_bytes())
            .with_context(|| format!("qemu is gone ({command})"))?;
        let answer = self.hear(Duration::from_secs(180), |heard| heard.answers.pop())?;
        drop(writer);
        let answer = answer.ok_or_else(|| anyhow!("qemu did not answer {command}"))?;
        match answer.get("return") {
            Some(value) => Ok(value.clone()),
            None => bail!("qemu refused {command}: {answer}"),
        }
    }

    /// How many events have been heard so far: a mark for [`Self::event_since`].
    #[must_use]
    pub fn mark(&self) -> usize {
        self.shared.lock().events.len()
    }

    /// The first event after `mark` that `wanted` accepts; None if none came in time or qemu ended.
    pub fn event_since(
        &self,
        mark: usize,
        within: Duration,
        wanted: impl Fn(&Event) -> bool,
    ) -> Result<Option<Event>> {
        self.hear(within, |heard| {
            heard.events.iter().skip(mark).find(|event| wanted(event)).cloned()
        })
    }

    /// Waits for news until `pick` takes something, the time is over or qemu has gone.
    fn hear<T>(
        &self,
        within: Duration,
        mut pick: impl FnMut(&mut Heard) -> Option<T>,
    ) -> Result<Option<T>> {
        let end = Instant::now() + within;
        let mut heard = self.shared.lock();
        loop {
            if let Some(found) = pick(&mut heard) {
                return Ok(Some(found));
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || heard.closed {
                return Ok(None);
            }
            heard = self
                .shared
                .news
                .wait_timeout(heard, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

fn listen(reader: BufReader<UnixStream>, shared: &Shared) {
    for line in reader.lines().map_while(Result::ok) {
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            continue;
        };
        let mut heard = shared.lock();
        if let Some(name) = message.get("event").and_then(Value::as_str) {
            let data = message.get("data").cloned().unwrap_or(Value::Null);
            let position = heard.events.len();
            heard.events.push(Event { name: name.to_owned(), data, at: Instant::now(), position });
        } else if message.get("QMP").is_none() {
            heard.answers.push(message);
        }
        shared.news.notify_all();
    }
    shared.lock().closed = true;
    shared.news.notify_all();
}
