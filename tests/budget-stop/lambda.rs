//! Lambda, as far as a function sees it: the Runtime API, with real deadlines.
//! <https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html>

use std::fs::File;
use std::io::BufReader;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use lab::process::Spawned;
use serde_json::Value;

use crate::account::Account;
use crate::http::{self, Message};

/// So often Lambda delivers an asynchronous event again: template.yaml says so too.
const RETRIES: usize = 2;

/// The function's answer to one event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answer {
    Done(Value),
    /// It said that it failed, and why.
    Failed(String),
    /// It died, or said nothing by its deadline and was killed as Lambda does.
    Dead,
}

impl Answer {
    pub(crate) fn done(self) -> Result<Value> {
        match self {
            Answer::Done(value) => Ok(value),
            other => bail!("the function did not succeed: {other:?}"),
        }
    }
}

/// What is on its way to the function.
struct Invocation {
    id: String,
    event: Vec<u8>,
    deadline: SystemTime,
}

/// The function in an execution environment of its own: one process, one event at a time.
pub(crate) struct Function {
    process: Spawned,
    events: Sender<Invocation>,
    answers: Receiver<(String, Answer)>,
    /// When it asked for an event.
    polled: Receiver<Instant>,
    started: Instant,
    log: PathBuf,
    number: u32,
}

/// The function's program for an architecture, built by tests/run.
pub(crate) fn program(architecture: &str) -> Result<PathBuf> {
    let folder = std::env::var_os("GUPPY_LAMBDA")
        .context("GUPPY_LAMBDA names no folder with the built function: run tests/run lambda")?;
    Ok(Path::new(&folder).join(format!("budget-stop-{architecture}/bootstrap")))
}

impl Function {
    /// Starts it with the settings that the template gives it.
    pub(crate) fn start(account: &Account) -> Result<Self> {
        Self::start_with(account, &[])
    }

    /// The same, with some of its environment changed.
    pub(crate) fn start_with(account: &Account, change: &[(&str, &str)]) -> Result<Self> {
        Self::start_program(account, Command::new(program("amd64")?), change)
    }

    /// The same, of any program.
    pub(crate) fn start_program(
        account: &Account,
        mut command: Command,
        change: &[(&str, &str)],
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").context("no port for the Runtime API")?;
        let api = listener.local_addr()?.to_string();
        let (events, waiting) = channel();
        let (answering, answers) = channel();
        let (polling, polled) = channel();
        serve(listener, waiting, answering, polling);
        let log = account.place.join(format!("log-{}", api.rsplit(':').next().unwrap_or_default()));
        command
            .env_clear()
            .env("AWS_LAMBDA_RUNTIME_API", api)
            .env("AWS_LAMBDA_FUNCTION_NAME", "guppy-budget-stop")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128")
            .env("AWS_LAMBDA_LOG_GROUP_NAME", "/aws/lambda/guppy-budget-stop")
            .env("AWS_LAMBDA_LOG_STREAM_NAME", "1")
            .envs(account.environment())
            .envs(change.iter().copied())
            .stdin(Stdio::null())
            .stdout(File::create(&log)?)
            .stderr(File::options().append(true).open(&log)?);
        let started = Instant::now();
        let process = Spawned::start(&mut command)?;
        Ok(Self { process, events, answers, polled, started, log, number: 0 })
    }

    /// Sends an event, and waits for the answer at most until the deadline, `within` from now.
    pub(crate) fn invoke(&mut self, event: &Value, within: Duration) -> Result<Answer> {
        let id = self.send(event, within)?;
        self.answer(&id, within)
    }

    /// Sends an event and does not wait.
    pub(crate) fn send(&mut self, event: &Value, within: Duration) -> Result<String> {
        self.send_bytes(event.to_string().into_bytes(), SystemTime::now() + within)
    }

    /// Sends what need not be JSON, with any deadline.
    pub(crate) fn send_bytes(&mut self, event: Vec<u8>, deadline: SystemTime) -> Result<String> {
        self.number += 1;
        let id = format!("{:08x}-0000-4000-8000-000000000000", self.number);
        self.events
            .send(Invocation { id: id.clone(), event, deadline })
            .context("the Runtime API has ended")?;
        Ok(id)
    }

    /// Waits for the answer to an event. Who has none at the deadline is killed.
    pub(crate) fn answer(&mut self, id: &str, within: Duration) -> Result<Answer> {
        let end = SystemTime::now() + within;
        loop {
            // A process that dies says nothing: look at it now and then.
            match self.answers.recv_timeout(Duration::from_millis(50)) {
                Ok((of, answer)) if of == id => return Ok(answer),
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the Runtime API has ended"),
                Err(RecvTimeoutError::Timeout) => {
                    if self.process.ended()?.is_some() {
                        return Ok(Answer::Dead);
                    }
                    if SystemTime::now() >= end {
                        self.kill()?;
                        return Ok(Answer::Dead);
                    }
                }
            }
        }
    }

    /// An asynchronous event, as SNS and the schedule send them: delivered again when it fails.
    /// Gives each try's answer; where all failed, the failure destination has the last.
    pub(crate) fn deliver(&mut self, event: &Value, within: Duration) -> Result<Vec<Answer>> {
        let mut answers = Vec::new();
        while answers.len() <= RETRIES {
            let answer = self.invoke(event, within)?;
            let done = matches!(answer, Answer::Done(_));
            answers.push(answer);
            if done {
                break;
            }
        }
        Ok(answers)
    }

    /// From exec to the first question for an event.
    pub(crate) fn first_poll(&self, within: Duration) -> Result<Duration> {
        let first = self.polled.recv_timeout(within).context("it asks for no event")?;
        Ok(first - self.started)
    }

    /// The most memory that it has had resident, in kB.
    pub(crate) fn peak_kb(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kb = line.and_then(|line| line.trim().strip_suffix(" kB")).context("no VmHWM")?;
        kb.trim().parse().context("VmHWM is no number")
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.child.kill().context("cannot kill the function")?;
        self.process.wait(Duration::from_secs(10))?;
        Ok(())
    }

    /// What it has written so far.
    pub(crate) fn log(&self) -> Result<String> {
        std::fs::read_to_string(&self.log).context("no log")
    }
}

/// Serves the Runtime API on a thread, until the process ends.
fn serve(
    listener: TcpListener,
    waiting: Receiver<Invocation>,
    answering: Sender<(String, Answer)>,
    polling: Sender<Instant>,
) {
    let waiting = Arc::new(Mutex::new(waiting));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (waiting, answering) = (Arc::clone(&waiting), answering.clone());
            let polling = polling.clone();
            // A function that was killed breaks its connection off.
            thread::spawn(move || speak(stream, &waiting, &answering, &polling));
        }
    });
}

fn speak(
    stream: TcpStream,
    waiting: &Mutex<Receiver<Invocation>>,
    answering: &Sender<(String, Answer)>,
    polling: &Sender<Instant>,
) -> Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(request) = http::read(&mut reader)? {
        let path = request.path().trim_start_matches("/2018-06-01/runtime/").to_owned();
        let parts: Vec<&str> = path.split('/').collect();
        let reply = match (request.method(), parts.as_slice()) {
            ("GET", ["invocation", "next"]) => {
                // Nobody may want to know.
                let _ = polling.send(Instant::now());
                let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                // The test is over.
                let Ok(next) = next else { return Ok(()) };
                let deadline = next.deadline.duration_since(UNIX_EPOCH)?.as_millis();
                Message::reply(200, "application/json", next.event)
                    .with("lambda-runtime-aws-request-id", next.id)
                    .with("lambda-runtime-deadline-ms", deadline.to_string())
                    .with("lambda-runtime-trace-id", "Root=1-0-0;Sampled=0")
                    .with(
                        "lambda-runtime-invoked-function-arn",
                        "arn:aws:lambda:us-east-1:1:function:guppy-budget-stop",
                    )
            }
            ("POST", ["invocation", id, outcome @ ("response" | "error")]) => {
                let answer = match *outcome {
                    "response" => Answer::Done(serde_json::from_slice(&request.body)?),
                    _ => Answer::Failed(request.text()),
                };
                // Nobody may be waiting any more.
                let _ = answering.send(((*id).to_owned(), answer));
                Message::reply(202, "application/json", "{\"status\":\"OK\"}")
            }
            _ => Message::reply(404, "application/json", "{}"),
        };
        http::write(&stream, &reply)?;
    }
    Ok(())
}
