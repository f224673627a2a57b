//! While the agent runs: signals in, the agent's end out.

use std::io;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::process::{
    Pid, Signal as Kill, WaitOptions, WaitStatus, kill_process, kill_process_group, waitpid,
};

use super::lock::{Lock, remove};
use super::server::Server;
use super::signals::Event;
use super::start::{Held, Shim};
use super::terminal::Terminal;
use super::{Refusal, end};
use crate::cgroup::{Group, Tree};
use crate::conversation::Conversation;
use crate::process::Identity;
use crate::report::Phase;

/// systemd stops a unit by a signal to every process of it, so the agent has it too.
const SYSTEMD: u32 = 1;
/// A disk that took no report is tried again after this long.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// An agent that ignores one request gets the next; after the last, all of its group is killed.
/// Below TimeoutStopSec= of the tmux unit, so that the report is written.
const AFTER_HANGUP: [(Duration, Step); 2] =
    [(Duration::from_secs(1), Step::Terminate), (Duration::from_secs(5), Step::Kill)];
const AFTER_TERMINATE: [(Duration, Step); 2] =
    [(Duration::from_secs(2), Step::Hangup), (Duration::from_secs(5), Step::Kill)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Terminate,
    Hangup,
    Kill,
}

/// An agent that runs.
pub(super) struct Watch<'a> {
    pub(super) tree: &'a Tree,
    pub(super) group: &'a Group,
    pub(super) terminal: Option<Terminal>,
    /// The tmux server; None: it had gone when the agent was started.
    pub(super) server: Option<Server>,
    pub(super) agent: Identity,
    /// Processes that OOM killers had ended in the group before the start.
    pub(super) kills_before: Option<u64>,
}

/// An agent that has ended.
pub(super) struct Ended {
    pub(super) status: WaitStatus,
}

/// The way to the agent's end, once somebody wants it.
#[derive(Default)]
struct Stopping {
    steps: Vec<(Instant, Step)>,
    by_systemd: bool,
    by_request: bool,
    hung_up: bool,
}

impl Stopping {
    fn has_begun(&self) -> bool {
        self.by_systemd || self.by_request || self.hung_up
    }

    fn plan(&mut self, steps: [(Duration, Step); 2]) {
        if self.steps.is_empty() {
            let now = Instant::now();
            self.steps = steps.map(|(after, step)| (now + after, step)).into();
        }
    }
}

impl Watch<'_> {
    /// Waits for the agent's end, reports it and gives all back.
    pub(super) fn until_the_end(
        mut self,
        shim: &mut Shim<'_>,
        mut held: Held,
    ) -> Result<Ended, Refusal> {
        let mut stopping = Stopping::default();
        let status = self.wait(shim, &mut held, &mut stopping).map_err(|error| {
            // Without its parent's eyes an agent cannot be kept.
            let _ = self.group.kill(AFTER_HANGUP.map(|(after, _)| after).iter().sum());
            Refusal(format!("lost sight of the agent: {error}"))
        })?;
        if let Some(terminal) = self.terminal.take() {
            terminal.take_back();
            // The kernel lets the agent read the end of its terminal a moment before it tells the shim.
            stopping.hung_up |= terminal.is_closed();
        }
        self.clear(&stopping);
        self.describe(shim, &status, &stopping);
        shim.tell(Phase::Ended);
        for lock in [Some(held.session), held.conversation].into_iter().flatten() {
            lock.release();
        }
        let _ = remove(&shim.paths.rotate(shim.name));
        Ok(Ended { status })
    }

    fn wait(
        &self,
        shim: &mut Shim<'_>,
        held: &mut Held,
        stopping: &mut Stopping,
    ) -> io::Result<WaitStatus> {
        let status = loop {
            if let Some(status) = self.reap()? {
                break status;
            }
            let step = stopping.steps.first().map(|(at, _)| *at);
            let again = shim.untold.then(|| Instant::now() + TELL_AGAIN);
            match shim.signals.next(step.into_iter().chain(again).min())? {
                Some(event) => self.take(event, shim, held, stopping, true),
                None if shim.untold => shim.tell(Phase::Started),
                None => {}
            }
            self.go_on(stopping);
        };
        // What has arrived by the agent's end belongs to its cause.
        while let Some(event) = shim.signals.pending()? {
            self.take(event, shim, held, stopping, false);
        }
        Ok(status)
    }

    /// The agent's status if it has ended. One that was stopped goes on: nobody sits at a shell
    /// behind this terminal to say `fg`, so Ctrl-Z would be the end. tmux does the same with what
    /// it starts itself. SIGSTOP is left alone: nobody sends that by mistake.
    fn reap(&self) -> io::Result<Option<WaitStatus>> {
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED;
        let Some((_, status)) = waitpid(self.pid(), options)? else { return Ok(None) };
        match status.stopping_signal() {
            None => return Ok(Some(status)),
            Some(signal) if signal == Kill::TSTP.as_raw() => {
                if let (Some(terminal), Some(agent)) = (&self.terminal, self.pid()) {
                    let _ = terminal.give_to(agent);
                }
                self.signal_group(Kill::CONT);
            }
            Some(_) => {}
        }
        Ok(None)
    }

    fn take(
        &self,
        event: Event,
        shim: &mut Shim<'_>,
        held: &mut Held,
        stopping: &mut Stopping,
        runs: bool,
    ) {
        match event.signal {
            Signal::SIGTERM if event.sender == SYSTEMD => {
                stopping.by_systemd = true;
                stopping.plan(AFTER_TERMINATE);
            }
            Signal::SIGTERM => {
                stopping.by_request = true;
                stopping.plan(AFTER_TERMINATE);
                if runs {
                    self.step(Step::Terminate);
                }
            }
            // The kernel tells the leader of the terminal's session alone: that is the shim.
            Signal::SIGHUP => {
                stopping.hung_up = true;
                stopping.plan(AFTER_HANGUP);
                if runs {
                    self.step(Step::Hangup);
                }
            }
            Signal::SIGUSR1 => self.rotate(shim, held),
            _ => {}
        }
    }

    /// Takes the steps that are due.
    fn go_on(&self, stopping: &mut Stopping) {
        while let Some((at, step)) = stopping.steps.first().copied() {
            if Instant::now() < at {
                return;
            }
            self.step(step);
            stopping.steps.remove(0);
            // The kernel ends it now or never: nothing comes after.
            if step == Step::Kill {
                stopping.steps.clear();
            }
        }
    }

    fn step(&self, step: Step) {
        match step {
            Step::Terminate => {
                if let Some(agent) = self.pid() {
                    let _ = kill_process(agent, Kill::TERM);
                }
            }
            Step::Hangup => self.signal_group(Kill::HUP),
            Step::Kill => {
                if let Err(error) = self.group.kill(Duration::ZERO)
                    && error.kind() != io::ErrorKind::TimedOut
                    && let Some(agent) = self.pid()
                {
                    let _ = kill_process(agent, Kill::KILL);
                }
            }
        }
        // One that is stopped would not see it.
        self.signal_group(Kill::CONT);
    }

    fn signal_group(&self, signal: Kill) {
        if let Some(agent) = self.pid() {
            let _ = kill_process_group(agent, signal);
        }
    }

    /// Follows the agent into another conversation: first the new lock, then the old one is let
    /// go. When another shim holds the new one, the agent has gone where it should not be: that is
    /// for the keeper to judge, so the old lock stays and the report says so.
    fn rotate(&self, shim: &mut Shim<'_>, held: &mut Held) {
        let Ok(text) = std::fs::read_to_string(shim.paths.rotate(shim.name)) else { return };
        let Ok(new) = Conversation::parse(text.trim_end()).map(String::from) else { return };
        if shim.report.conversation.as_ref() == Some(&new) {
            return;
        }
        let path = shim.paths.conversation_lock(&shim.agent, &new);
        match Lock::take(&path, &format!("conversation {new} of {}", shim.agent), &held.holder) {
            Ok(lock) => {
                if let Some(old) = held.conversation.replace(lock) {
                    old.release();
                }
                shim.report.conversation = Some(new);
                shim.report.conflict = None;
            }
            Err(refusal) => shim.report.conflict = Some(refusal.to_string()),
        }
        shim.tell(Phase::Started);
    }

    /// An agent that was to end leaves nothing behind. One that ended by itself may: what it has
    /// started is ended before its next start.
    fn clear(&self, stopping: &Stopping) {
        if stopping.has_begun()
            && let Err(error) = self.group.kill(Duration::from_secs(2))
        {
            say!("guppy: {error}");
        }
    }

    fn describe(&self, shim: &mut Shim<'_>, status: &WaitStatus, stopping: &Stopping) {
        let by_systemd = stopping.by_systemd || self.tree.is_stopping();
        let closed = stopping.hung_up && !by_systemd;
        let gone = closed && self.server.as_ref().is_none_or(Server::has_gone);
        let report = &mut shim.report;
        report.exit_code = status.exit_status();
        report.signal = status.terminating_signal();
        let kills = self.group.memory_events().ok().map(|events| events.oom_kill);
        report.oom_kills =
            kills.zip(self.kills_before).map(|(now, before)| now.saturating_sub(before));
        report.oom_killed =
            report.oom_kills.map(|kills| kills > 0 && report.signal == Some(Kill::KILL.as_raw()));
        report.unit_stopping = by_systemd || gone;
        report.server_gone = gone;
        report.pane_closed = closed && !gone;
        report.asked = stopping.by_request;
        // Empty unless the agent left something there.
        let _ = self.group.remove();
        end::say(shim.name, status, report.oom_killed);
    }

    fn pid(&self) -> Option<Pid> {
        i32::try_from(self.agent.pid).ok().and_then(Pid::from_raw)
    }
}
