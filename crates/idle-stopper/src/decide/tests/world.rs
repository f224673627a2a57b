//! A box as `decide` sees it: evidence that a test changes, and a loop like the daemon's.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use service::clock::Boottime;

use crate::config::{Config, Mode};
use crate::decide::{Action, Event, Input, Phase, Record, State, decide};
use crate::sense::{
    Build, CpuTotals, DiskTotals, Evidence, Hold, Inhibitor, Interface, PackageLock, Reading,
    RemoteCommand, Said, Socket, Terminal,
};

/// Whoever is far away in these tests.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(100, 64, 0, 2));

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const HOUR: Duration = Duration::from_secs(3600);

/// Processors' time in microseconds for `cores` over `span`.
pub(super) fn usec(cores: f64, span: Duration) -> u64 {
    (cores * span.as_secs_f64() * 1e6) as u64
}

pub(super) struct World {
    pub(super) now: Boottime,
    pub(super) config: Config,
    pub(super) evidence: Evidence,
    pub(super) state: State,
    /// Every action, and when it left.
    pub(super) actions: Vec<(Boottime, Action)>,
    /// What logind answers.
    pub(super) power_off: Result<(), String>,
    /// What systemd answers.
    pub(super) force: Result<(), String>,
    /// Whether systemd takes the file.
    pub(super) last_resort: Result<(), String>,
    /// The last look.
    pub(super) looked: Option<Boottime>,
    /// The first order that was taken.
    pub(super) stopped: Option<Boottime>,
    /// What happens while the hooks run, once they have had their time.
    pub(super) during_hooks: fn(&mut Self),
    /// How long the hooks take; ticks go on meanwhile.
    pub(super) hooks_take: Duration,
    /// When those that run now end.
    hooks_end: Option<Boottime>,
    /// When somebody came back while they ran.
    pub(super) came_back: Option<Boottime>,
}

impl World {
    /// A quiet box in mode `stop` that has just booted, with the defaults.
    pub(super) fn new() -> Self {
        Self::with(Config { mode: Mode::Stop, ..Config::default() })
    }

    pub(super) fn with(config: Config) -> Self {
        let now = Boottime::from_millis(5_000);
        Self {
            now,
            state: State::new(now, &config, None),
            config,
            evidence: quiet(),
            actions: Vec::new(),
            power_off: Ok(()),
            force: Ok(()),
            last_resort: Ok(()),
            looked: None,
            stopped: None,
            during_hooks: |_| {},
            hooks_take: Duration::ZERO,
            hooks_end: None,
            came_back: None,
        }
    }

    /// A quiet box whose grace period is just over.
    pub(super) fn settled() -> Self {
        let mut world = Self::new();
        let grace = world.config.grace;
        world.pass(grace, |_, _| {});
        world
    }

    /// Lets time pass. `life` changes the evidence before each look; it is told how much time has
    /// passed since the look before.
    pub(super) fn pass(&mut self, span: Duration, mut life: impl FnMut(&mut Self, Duration)) {
        let end = self.now + span;
        loop {
            let tick = self.state.next_tick(&self.config, self.now);
            let due = self.hooks_end.map_or(tick, |hooks| hooks.clamp(self.now, tick));
            if due > end || self.stopped.is_some() {
                life(self, self.now.until(end));
                self.now = end;
                return;
            }
            life(self, self.now.until(due));
            self.now = due;
            if self.hooks_end.is_some_and(|hooks| hooks <= due) {
                self.hooks_ended();
            } else {
                self.look();
            }
        }
    }

    /// Lets a quiet time pass.
    pub(super) fn wait(&mut self, span: Duration) {
        self.pass(span, |_, _| {});
    }

    /// One tick at this very moment.
    pub(super) fn look(&mut self) {
        let evidence = self.evidence.clone();
        self.looked = Some(self.now);
        self.step(Input::Evidence(&evidence, self.now));
    }

    fn hooks_ended(&mut self) {
        self.hooks_end = None;
        self.looked = Some(self.now);
        (self.during_hooks)(self);
        let evidence = self.evidence.clone();
        self.step(Input::HooksEnded(&evidence));
    }

    fn step(&mut self, input: Input<'_>) {
        let state = std::mem::replace(&mut self.state, State::empty());
        let (state, actions) = decide(state, input, &self.config, self.now);
        self.state = state;
        for action in actions {
            self.actions.push((self.now, action.clone()));
            let acts =
                !matches!(action, Action::Tell(_) | Action::Warn { .. } | Action::Unwarn { .. });
            assert!(!acts || self.config.mode == Mode::Stop, "{action:?} of a box that observes");
            match action {
                Action::RunHooks if self.hooks_take.is_zero() => self.hooks_ended(),
                Action::RunHooks => self.hooks_end = Some(self.now + self.hooks_take),
                Action::PowerOff => self.answer(self.power_off.clone()),
                Action::ForcePowerOff => self.answer(self.force.clone()),
                Action::LastResort => self.answer(self.last_resort.clone()),
                Action::Tell(_) | Action::Warn { .. } | Action::Unwarn { .. } => {}
            }
        }
    }

    fn answer(&mut self, answer: Result<(), String>) {
        match answer {
            Ok(()) => {
                self.stopped.get_or_insert(self.now);
                self.step(Input::PowerOffTaken);
            }
            Err(why) => self.step(Input::PowerOffRefused(why)),
        }
    }

    /// The daemon is killed and starts again.
    pub(super) fn restart(&mut self) {
        let text = serde_json::to_string(&self.state.record()).unwrap();
        let record: Record = serde_json::from_str(&text).unwrap();
        // Whatever it waited for, nobody waits for now.
        self.hooks_end = None;
        self.state = State::new(self.now, &self.config, Some(record));
    }

    pub(super) fn told(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        let is_wanted = |action: &Action| matches!(action, Action::Tell(event) if wanted(event));
        self.actions.iter().filter(|(_, action)| is_wanted(action)).count()
    }

    pub(super) fn count(&self, wanted: impl Fn(&Action) -> bool) -> usize {
        self.actions.iter().filter(|(_, action)| wanted(action)).count()
    }

    /// The terminals were told for `warning` that the box really stops, and not told otherwise
    /// since.
    pub(super) fn was_fairly_warned(&self, warning: Duration) -> bool {
        let Some(stopped) = self.stopped else { return false };
        let mut told = None;
        for (at, action) in self.actions.iter().filter(|(at, _)| *at <= stopped) {
            match action {
                Action::Warn { mode: Mode::Stop, .. } if told.is_none() => told = Some(*at),
                Action::Unwarn { .. } => told = None,
                _ => {}
            }
        }
        told.is_some_and(|told| stopped.since(told) >= warning)
    }

    pub(super) fn is_warned(&self) -> bool {
        matches!(self.state.phase(), Phase::Warned { .. })
    }

    // What can happen in the world.

    pub(super) fn open_terminal(&mut self, name: &str, leader: u32, what: &str) {
        let terminal = Terminal {
            name: name.to_owned(),
            leader,
            leader_start: u64::from(leader) * 100,
            atime: 1_700_000_000_000_000_000,
            what: what.to_owned(),
            host: what.starts_with("ssh").then_some(PEER),
        };
        known(&mut self.evidence.terminals).push(terminal);
    }

    pub(super) fn press_key(&mut self) {
        for terminal in known(&mut self.evidence.terminals) {
            terminal.atime += 8_000_000_000;
        }
    }

    pub(super) fn command(&mut self, what: &str, by_bytes: bool) {
        let command = RemoteCommand {
            pid: 4_000,
            since: self.now,
            what: what.to_owned(),
            host: Some(PEER),
            by_bytes,
        };
        known(&mut self.evidence.commands).push(command);
    }

    pub(super) fn connect(&mut self, cookie: u64, local_port: u16) {
        let socket = Socket {
            cookie,
            local_port,
            remote: PEER,
            remote_port: 50_000,
            acked: 0,
            received: 0,
            unacked: 0,
            backoff: 0,
            last_ack_ms: 0,
        };
        known(&mut self.evidence.sockets).push(socket);
    }

    pub(super) fn flow(&mut self, received: u64, acked: u64) {
        for socket in known(&mut self.evidence.sockets) {
            socket.received += received;
            socket.acked += acked;
        }
    }

    /// `unit` uses `usec` microseconds of processor.
    pub(super) fn burn(&mut self, unit: &str, usec: u64) {
        let cpu = known(&mut self.evidence.cpu);
        cpu.total += usec;
        match cpu.units.iter_mut().find(|(name, _)| name == unit) {
            Some((_, total)) => *total += usec,
            None => cpu.units.push((unit.to_owned(), usec)),
        }
    }

    pub(super) fn transfer(&mut self, interface: &str, bytes: u64) {
        let list = known(&mut self.evidence.network);
        match list.iter_mut().find(|each| each.name == interface) {
            Some(each) => each.bytes += bytes,
            None => list.push(Interface { name: interface.to_owned(), bytes }),
        }
    }

    /// A build that began now, with a cgroup of its own.
    pub(super) fn build(&mut self) {
        let id = format!("system.slice:docker:{}", self.now);
        known(&mut self.evidence.builds).push(Build { id, what: "RUN sleep 600".to_owned() });
    }

    /// A dpkg that began now.
    pub(super) fn package(&mut self) {
        let path = "/var/lib/dpkg/lock".to_owned();
        let lock = PackageLock { path, pid: 900, start: self.now.as_millis() };
        known(&mut self.evidence.packages).push(lock);
    }

    pub(super) fn lock(&mut self, what: &str, mode: &str) {
        let lock = Inhibitor {
            what: what.to_owned(),
            who: "backup".to_owned(),
            why: "copying".to_owned(),
            mode: mode.to_owned(),
            pid: 77,
        };
        known(&mut self.evidence.inhibitors).push(lock);
    }

    pub(super) fn hold(&mut self, span: Duration) {
        let hold = Hold {
            id: 1,
            uid: 1000,
            who: "alice".to_owned(),
            why: "waiting".to_owned(),
            since: self.now,
            until: self.now + span,
            process: None,
        };
        known(&mut self.evidence.holds).push(hold);
    }

    pub(super) fn check(&mut self, said: Said) {
        let check = crate::sense::Check { name: "queue".to_owned(), said };
        self.evidence.checks = Reading::Known(vec![check]);
    }
}

pub(super) fn known<T>(reading: &mut Reading<T>) -> &mut T {
    match reading {
        Reading::Known(value) => value,
        Reading::Unknown(why) => panic!("the test made this unreadable: {why}"),
    }
}

pub(super) fn quiet() -> Evidence {
    Evidence {
        terminals: Reading::Known(Vec::new()),
        commands: Reading::Known(Vec::new()),
        sockets: Reading::Known(Vec::new()),
        cpu: Reading::Known(CpuTotals::default()),
        disk: Reading::Known(DiskTotals { bytes: 0, pressure: Some(0) }),
        network: Reading::Known(Vec::new()),
        builds: Reading::Known(Vec::new()),
        inhibitors: Reading::Known(Vec::new()),
        packages: Reading::Known(Vec::new()),
        holds: Reading::Known(Vec::new()),
        checks: Reading::Known(Vec::new()),
    }
}
