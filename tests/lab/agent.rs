//! The qemu guest agent: how the lab asks a guest anything without being seen as a user.
//!
//! Its commands run in `qemu-guest-agent.service`, on no terminal and in no session.

use std::io::ErrorKind::{Interrupted, WouldBlock};
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use crate::process::Output;
use crate::{base64, wait};

/// How long one question to a living agent may take on a busy emulated machine.
const ANSWER: Duration = Duration::from_secs(120);

/// A connection to one guest's agent, made when first needed and made anew after a reboot.
#[derive(Debug)]
pub struct Agent {
    socket: PathBuf,
    line: Mutex<Option<Line>>,
}

#[derive(Debug)]
struct Line {
    stream: UnixStream,
    /// Read, but not yet a whole line.
    rest: Vec<u8>,
}

/// A command that the agent has started.
#[derive(Debug, Clone, Copy)]
pub struct Running {
    pid: u64,
}

impl Running {
    /// Its process id in the guest.
    #[must_use]
    pub fn pid(self) -> u64 {
        self.pid
    }
}

impl Agent {
    /// For the agent behind a socket of qemu's.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), line: Mutex::new(None) }
    }

    fn line(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops the connection: the guest was restarted and what was asked is forgotten.
    pub fn forget(&self) {
        *self.line() = None;
    }

    /// Waits until the agent answers.
    pub fn wait_ready(&self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        let mut line = self.line();
        *line = None;
        self.connect(&mut line, end)
    }

    /// Connects and brings question and answer into step: whatever an earlier connection left
    /// in the pipe is skipped up to our own number.
    fn connect(&self, line: &mut Option<Line>, end: Instant) -> Result<()> {
        static NUMBER: AtomicU64 = AtomicU64::new(1);
        let stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("no agent socket {}", self.socket.display()))?;
        let mut new = Line { stream, rest: Vec::new() };
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = u64::from(std::process::id()) << 20 | number;
        // 0xff makes the agent's parser drop a half-read question.
        let mut question = vec![0xff];
        question.extend(request("guest-sync", &json!({ "id": id })));
        new.stream.write_all(&question).context("cannot write to the agent")?;
        loop {
            let answer = new.read(end)?;
            if answer.get("return").and_then(Value::as_u64) == Some(id) {
                *line = Some(new);
                return Ok(());
            }
        }
    }

    /// Asks one question.
    pub fn execute(&self, command: &str, arguments: &Value) -> Result<Value> {
        let end = Instant::now() + ANSWER;
        let mut line = self.line();
        if line.is_none() {
            self.connect(&mut line, end)?;
        }
        let open = line.as_mut().ok_or_else(|| anyhow!("no line to the agent"))?;
        let answer = open
            .stream
            .write_all(&request(command, arguments))
            .context("cannot write to the agent")
            .and_then(|()| open.read(end));
        match answer {
            Ok(answer) => match answer.get("return") {
                Some(value) => Ok(value.clone()),
                None => bail!("the guest agent refused {command}: {answer}"),
            },
            Err(error) => {
                *line = None;
                Err(error.context(format!("the guest agent did not answer {command}")))
            }
        }
    }

    /// Starts a shell command and does not wait for it.
    pub fn start(&self, shell: &str, input: &[u8]) -> Result<Running> {
        let arguments = json!({
            "path": "/bin/bash",
            "arg": ["-c", shell],
            "capture-output": true,
            "input-data": base64::encode(input),
        });
        let answer = self.execute("guest-exec", &arguments)?;
        let pid = answer.get("pid").and_then(Value::as_u64);
        Ok(Running { pid: pid.ok_or_else(|| anyhow!("no pid in {answer}"))? })
    }

    /// What a started command left behind, once it has ended. To be had once only.
    pub fn ended(&self, running: Running) -> Result<Option<Output>> {
        let answer = self.execute("guest-exec-status", &json!({ "pid": running.pid }))?;
        if answer.get("exited").and_then(Value::as_bool) != Some(true) {
            return Ok(None);
        }
        let number = |key: &str| answer.get(key).and_then(Value::as_i64);
        let text = |key: &str| {
            let coded = answer.get(key).and_then(Value::as_str).unwrap_or_default();
            String::from_utf8_lossy(&base64::decode(coded)).into_owned()
        };
        let status = number("exitcode").or_else(|| Some(128 + number("signal")?)).unwrap_or(-1);
        Ok(Some(Output {
            status: i32::try_from(status).unwrap_or(-1),
            stdout: text("out-data"),
            stderr: text("err-data"),
        }))
    }

    /// Runs a shell command to its end.
    pub fn run(&self, shell: &str, input: &[u8], within: Duration) -> Result<Output> {
        let running = self.start(shell, input)?;
        // The agent has no event for the end of a command. Each look costs the guest a
        // millisecond of processor time: few of them, so that the observer stays quiet.
        let first = Duration::from_millis(30);
        let ended = wait::until_with(shell, within, first, || self.ended(running));
        if ended.is_err() {
            // Best effort: a command past its deadline must not go on beside the next one.
            let _ = self.start(&format!("pkill -9 -P {0}; kill -9 {0}", running.pid), b"");
        }
        ended
    }
}

fn request(command: &str, arguments: &Value) -> Vec<u8> {
    format!("{}\n", json!({ "execute": command, "arguments": arguments })).into_bytes()
}

impl Line {
    /// One line of JSON; lines that are none are what a restarted guest left behind.
    fn read(&mut self, end: Instant) -> Result<Value> {
        let mut chunk = vec![0u8; 64 * 1024];
        loop {
            if let Some(length) = self.rest.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.rest.drain(..=length).collect();
                line.retain(|byte| *byte != 0xff);
                match serde_json::from_slice(&line) {
                    Ok(value) => return Ok(value),
                    Err(_) => continue,
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("the guest agent is silent");
            }
            self.stream.set_read_timeout(Some(left)).context("cannot set a time limit")?;
            match self.stream.read(&mut chunk) {
                Ok(0) => bail!("qemu has closed the agent's socket"),
                Ok(count) => self.rest.extend(chunk.iter().take(count)),
                // A limit of time makes a signal end the wait: another test's child has (signal(7)).
                Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => {}
                Err(error) => return Err(error).context("cannot read from the agent"),
            }
        }
    }
}
