//! The environment of a login and interactive shell: `-l` alone reads no .bashrc, which is where
//! version managers put their `PATH`. A shell's files are anybody's code: they may hang, print,
//! start daemons, end the shell. So it runs in the agent's control group, with nothing to read, no
//! terminal to take and a deadline; if it does not answer, the agent gets the known environment.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, WaitOptions, WaitStatus, waitpid};

use super::child::Orders;
use super::environment::Variables;
use super::signals::{Event, Signals};
use crate::cgroup::Group;

/// More than any shell prints; bytes.
const AT_MOST: u64 = 4 * 1024 * 1024;

/// How long what was killed may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// How the asking ended.
#[derive(Debug)]
pub(super) enum Answer {
    /// The shell's environment.
    Environment(Variables),
    /// There is none, and why.
    None(String),
    /// Somebody wants the shim to end, and nothing to be started.
    Cancelled(Event),
}

/// Asks the shell that `known` names.
pub(super) fn ask(known: &Variables, group: &Group, signals: &Signals, within: Duration) -> Answer {
    match try_ask(known, group, signals, within) {
        Ok(answer) => answer,
        Err(error) => Answer::None(format!("your login shell could not be asked: {error}")),
    }
}

fn try_ask(
    known: &Variables,
    group: &Group,
    signals: &Signals,
    within: Duration,
) -> io::Result<Answer> {
    let shell = known.get(OsStr::new("SHELL")).filter(|shell| !shell.is_empty());
    let shell = shell.cloned().unwrap_or_else(|| "/bin/sh".into());
    let mark = fs::read_to_string("/proc/sys/kernel/random/uuid")?.trim_end().to_owned();
    // Each by its path: a shell's files define functions and aliases. `'%s\0'` is the same text in
    // every shell.
    let script =
        format!("/usr/bin/printf '%s\\0' {mark}; /usr/bin/env -0; /usr/bin/printf '%s\\0' {mark}");
    let orders = Orders {
        parent: std::process::id(),
        door: group.door().into(),
        news: "/dev/null".into(),
        program: shell.clone(),
        argv: vec![shell.clone(), "-lic".into(), script.into()],
    };
    // A file and no pipe: a daemon that the shell starts may keep writing for as long as it lives.
    let mut said = File::from(memfd_create("login", MemfdFlags::CLOEXEC)?);
    let home = known.get(OsStr::new("HOME")).cloned().unwrap_or_else(|| "/".into());
    let mut command = orders.command("--login");
    command.env_clear().envs(known).current_dir(home);
    command.stdin(Stdio::null()).stdout(said.try_clone()?).stderr(Stdio::null());
    let child = command.spawn()?;
    let shell = shell.to_string_lossy();

    let status = match wait(child.id(), signals, Instant::now() + within)? {
        Waited::Ended(status) => status,
        Waited::Cancelled(event) => {
            end(child.id(), group)?;
            return Ok(Answer::Cancelled(event));
        }
        Waited::Late => {
            end(child.id(), group)?;
            let late = within.as_secs_f64();
            return Ok(Answer::None(format!(
                "{shell} -lic had not printed its environment after {late} s"
            )));
        }
    };
    said.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    said.take(AT_MOST).read_to_end(&mut bytes)?;
    Ok(match parse(&bytes, mark.as_bytes()) {
        Some(variables) => Answer::Environment(variables),
        None => {
            let how = match (status.exit_status(), status.terminating_signal()) {
                (Some(code), _) => format!("with status {code}"),
                (_, Some(signal)) => format!("by signal {signal}"),
                _ => String::new(),
            };
            Answer::None(format!("{shell} -lic ended {how} and did not print its environment"))
        }
    })
}

/// All that the shell has started ends with it: the agent has not begun, so nothing else is there.
fn end(shell: u32, group: &Group) -> io::Result<()> {
    // The shell itself may not have entered the group yet.
    crate::process::Identity::of(shell).and_then(|shell| shell.kill(KILLED_WITHIN))?;
    if let Some(shell) = pid(shell) {
        waitpid(Some(shell), WaitOptions::empty())?;
    }
    group.kill(KILLED_WITHIN)
}

enum Waited {
    Ended(WaitStatus),
    Cancelled(Event),
    Late,
}

fn wait(shell: u32, signals: &Signals, end: Instant) -> io::Result<Waited> {
    loop {
        let Some(event) = signals.next(Some(end))? else { return Ok(Waited::Late) };
        match event.signal {
            Signal::SIGCHLD => {
                if let Some((_, status)) = waitpid(pid(shell), WaitOptions::NOHANG)? {
                    return Ok(Waited::Ended(status));
                }
            }
            signal if ends_a_start(signal) => return Ok(Waited::Cancelled(event)),
            _ => {}
        }
    }
}

/// What makes a shim give up that has started nothing yet. Until there is an agent, the shim is in
/// the foreground, so Ctrl-C is for it.
pub(super) fn ends_a_start(signal: Signal) -> bool {
    matches!(signal, Signal::SIGTERM | Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT)
}

/// As rustix takes it.
pub(super) fn pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

/// What stands between the two marks; the shell's files may have printed before and after.
fn parse(bytes: &[u8], mark: &[u8]) -> Option<Variables> {
    let mark = [mark, b"\0"].concat();
    let after = |text: &[u8]| text.windows(mark.len()).position(|window| window == mark);
    let begin = after(bytes)? + mark.len();
    let rest = bytes.get(begin..)?;
    let between = rest.get(..after(rest)?)?;
    let variables = between.split(|byte| *byte == 0).filter_map(|entry| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        let (name, value) = (entry.get(..equals)?, entry.get(equals + 1..)?);
        let text = |bytes| OsStr::from_bytes(bytes).to_owned();
        (!name.is_empty()).then(|| (text(name), text(value)))
    });
    Some(variables.collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_is_the_environment() {
        let said = b"motd A=1\0 no newlinemark\0PATH=/nvm\0TEXT=two\nlines=2\0EMPTY=\0bad\0=bad\0mark\0logout B=2\0";
        let variables = parse(said, b"mark").unwrap();
        let found: Vec<_> = variables
            .iter()
            .map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap()))
            .collect();
        assert_eq!(found, [("EMPTY", ""), ("PATH", "/nvm"), ("TEXT", "two\nlines=2")]);
        assert!(parse(b"mark\0A=1\0", b"mark").is_none());
        assert!(parse(b"", b"mark").is_none());
    }
}
