//! Programs that a test starts on this machine: run to the end, or kept and ended with the test.

use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::ledger;
use crate::wait;

/// How long a command may take when the test does not say.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// What a command left behind, wherever it ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Exit code; 128 + N when a signal N ended it.
    pub status: i32,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Output {
    /// Standard output without the last line end, or an error with everything if it failed.
    pub fn ok(self) -> Result<String> {
        if self.status != 0 {
            bail!("exit {}: {}{}", self.status, self.stdout, self.stderr);
        }
        Ok(self.stdout.trim_end().to_owned())
    }
}

/// Runs a command to its end. It is killed, with all it started, at the deadline.
pub fn run(mut command: Command, input: &[u8], within: Duration) -> Result<Output> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Spawned::start(&mut command)?;
    let mut stdin = child.child.stdin.take();
    let stdout = collect(child.child.stdout.take());
    let stderr = collect(child.child.stderr.take());
    if let Some(mut stdin) = stdin.take() {
        // A program that does not want its input may close it.
        let _ = stdin.write_all(input);
    }
    let status = child.wait(within)?;
    Ok(Output { status, stdout: text(stdout), stderr: text(stderr) })
}

/// Runs a program of this machine that has to succeed, and gives its output.
pub fn host(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    run(command, b"", PATIENCE)?.ok().with_context(|| format!("{program} {}", arguments.join(" ")))
}

/// Runs a clean-up command whose failure nobody can act on.
pub(crate) fn quietly(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Reads a pipe to its end on a thread of its own, so that neither side can block the other.
fn collect(pipe: Option<impl std::io::Read + Send + 'static>) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        bytes
    })
}

fn text(reader: JoinHandle<Vec<u8>>) -> String {
    String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
}

/// A running program of this machine. Dropping it kills it and all of its process group.
#[derive(Debug)]
pub struct Spawned {
    /// The process itself, for its pipes.
    pub child: Child,
    name: String,
    status: Option<i32>,
    kept: bool,
}

impl Spawned {
    /// Starts a program as leader of its own process group and notes its pid in the ledger.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        let child =
            command.process_group(0).spawn().with_context(|| format!("cannot start {name}"))?;
        ledger::note_process(child.id())?;
        Ok(Self { child, name, status: None, kept: false })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit code if it has ended.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        if self.status.is_none()
            && let Some(status) = self.child.try_wait().context("waiting for a child")?
        {
            self.status = Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }
        Ok(self.status)
    }

    /// Waits for its end; kills it at the deadline and says so.
    pub fn wait(&mut self, within: Duration) -> Result<i32> {
        let name = self.name.clone();
        let ended = wait::until(&name, within, || self.ended());
        if ended.is_err() {
            self.kill();
        }
        ended
    }

    /// Kills the whole process group now, without a chance to clean up.
    pub fn kill(&mut self) {
        if let Ok(None) = self.ended() {
            if let Some(pid) =
                i32::try_from(self.pid()).ok().and_then(rustix::process::Pid::from_raw)
            {
                let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
            let _ = self.ended();
        }
    }

    /// Leaves the program running when this value goes.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for Spawned {
    fn drop(&mut self) {
        if !self.kept {
            self.kill();
        }
    }
}
