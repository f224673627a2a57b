//! The last step of a start, in the process that is to become the agent: it moves itself where the
//! agent belongs, and only then becomes it. A program of its own, and not code between fork and
//! exec, because there almost nothing is allowed (signal-safety(7)).

use std::env::ArgsOs;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal, setpgid, setsid};

use super::signals::unblock;
use super::terminal::Terminal;

/// The exit status when it could not become the agent.
const NOT_STARTED: u8 = 126;

/// How to become another program, as words of a command line.
#[derive(Clone, Debug)]
pub(super) struct Orders {
    /// The shim's pid.
    pub(super) parent: u32,
    /// [`Group::door`](crate::cgroup::Group::door).
    pub(super) door: OsString,
    /// Where to write why it failed: open until the child becomes the program.
    pub(super) news: OsString,
    /// The program's path.
    pub(super) program: OsString,
    /// All its words, the first included.
    pub(super) argv: Vec<OsString>,
}

impl Orders {
    /// A command of this same program, by a path that holds when an upgrade has replaced it.
    pub(super) fn command(&self, what: &str) -> Command {
        let mut command = Command::new("/proc/self/exe");
        command.arg(what).arg(self.parent.to_string());
        command.args([&self.door, &self.news, &self.program]).args(&self.argv);
        command
    }

    fn read(mut words: ArgsOs) -> Option<Self> {
        let parent = words.next()?.to_str()?.parse().ok()?;
        let (door, news, program) = (words.next()?, words.next()?, words.next()?);
        Some(Self { parent, door, news, program, argv: words.collect() })
    }

    /// Joins the agent's group, bound to the shim's life.
    fn enter(&self) -> io::Result<()> {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // It may have died before that was in force.
        if getppid().map(|parent| parent.as_raw_pid().unsigned_abs()) != Some(self.parent) {
            return Err(io::Error::other("the shim has died"));
        }
        fs::write(&self.door, "0").map_err(|error| {
            let door = Path::new(&self.door).display();
            io::Error::new(
                error.kind(),
                format!("cannot enter the control group by {door}: {error}"),
            )
        })?;
        reset_oom_score()
    }

    fn exec(&self) -> io::Error {
        if let Err(error) = unblock() {
            return error;
        }
        let mut words = self.argv.iter();
        let mut command = Command::new(&self.program);
        if let Some(first) = words.next() {
            command.arg0(first);
        }
        let error = command.args(words).exec();
        io::Error::new(error.kind(), format!("{}: {error}", Path::new(&self.program).display()))
    }
}

/// Becomes the agent, in the foreground of the terminal.
pub(super) fn become_agent(words: ArgsOs) -> ExitCode {
    become_program(words, || {
        setpgid(None, None)?;
        match Terminal::of_stdin() {
            Some(terminal) => terminal.give_to(getpid()),
            None => Ok(()),
        }
    })
}

/// Becomes a shell that has no terminal: one that could take the pane's from the shim, or stop.
pub(super) fn become_login(words: ArgsOs) -> ExitCode {
    become_program(words, || Ok(setsid().map(drop)?))
}

fn become_program(words: ArgsOs, place: impl FnOnce() -> io::Result<()>) -> ExitCode {
    let Some(orders) = Orders::read(words) else { return ExitCode::from(super::USAGE) };
    // Close-on-exec, as all that std opens.
    let Ok(mut news) = OpenOptions::new().write(true).open(&orders.news) else {
        return ExitCode::from(NOT_STARTED);
    };
    let error = match orders.enter().and_then(|()| place()) {
        Ok(()) => orders.exec(),
        Err(error) => error,
    };
    let _ = news.write_all(error.to_string().as_bytes());
    ExitCode::from(NOT_STARTED)
}

/// The tmux server is protected from OOM killers, and its children inherit that: an agent must
/// not. Raising the score needs no right; one that is above zero is somebody's intent.
fn reset_oom_score() -> io::Result<()> {
    const SCORE: &str = "/proc/self/oom_score_adj";
    let now: i32 = fs::read_to_string(SCORE)?.trim().parse().unwrap_or(-1);
    if now < 0 { fs::write(SCORE, "0") } else { Ok(()) }
}
