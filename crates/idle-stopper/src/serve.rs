//! `dev.guppy.IdleStopper` on its socket: who may ask what, and the answers.
//!
//! Authority is the peer's uid and groups, as the kernel tells them. Root may do all. Group
//! `guppy` may ask, hold and release. Any other user of the box (an agent's uid too) may ask, hold,
//! and release what is its own; system users may only ask.

#![allow(missing_docs, reason = "zlink::service makes public types without any")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use service::clock::Boottime;
use service::socket::{Caller, Interface, user_name};
use tokio::sync::Notify;
use tracing::info;
use zlink::connection::socket::Socket;

use crate::act::bus;
use crate::act::tell::{span, wall};
use crate::api::{Error, EvidenceLine, Explanation, HoldLine, Rights};
use crate::config::Mode;
use crate::daemon::Daemon;
use crate::decide::{Kind, Phase, Shown};
use crate::holds::Wish;
use crate::sense::{Hold, Process};

/// Members may release anybody's hold.
const GROUP: &str = "guppy";
/// Below this are system users (login.defs(5), UID_MIN).
const FIRST_PERSON: u32 = 1000;
/// What systemd gives to services for a time (systemd.exec(5), DynamicUser=).
const DYNAMIC: std::ops::RangeInclusive<u32> = 61_184..=65_519;
/// `nobody`.
const NOBODY: u32 = 65_534;

/// What is served.
pub const INTERFACE: Interface =
    Interface { name: "dev.guppy.IdleStopper", methods: &["Explain", "Hold", "Release", "Rights"] };

/// The service; clones share the daemon.
#[derive(Clone, Debug)]
pub struct Service {
    daemon: Rc<RefCell<Daemon>>,
    /// Rung when something was asked that the loop should look at before its next tick.
    wake: Rc<Notify>,
}

impl Service {
    /// A service over this daemon.
    pub const fn new(daemon: Rc<RefCell<Daemon>>, wake: Rc<Notify>) -> Self {
        Self { daemon, wake }
    }

    fn place(
        &self,
        caller: &Caller,
        seconds: Option<u64>,
        why: String,
        with_caller: bool,
    ) -> Result<HoldLine, Error> {
        if !may_hold(caller) {
            let message = format!(
                "uid {} is a system user: only people, agents, root and group {GROUP} may hold a box",
                caller.uid
            );
            return Err(Error::Refused { message });
        }
        let process = if with_caller { Some(process_of(caller)?) } else { None };
        let wish = Wish {
            uid: caller.uid,
            who: name_of(caller.uid),
            why,
            span: seconds.map(Duration::from_secs),
            process,
        };
        let mut daemon = self.daemon.borrow_mut();
        // systemd does not take such an order back: a hold would be a promise that nobody keeps.
        if daemon.state().is_powering_off() {
            let message =
                "this box is powering off: hold it when it is up again, or another one".to_owned();
            return Err(Error::Failed { message });
        }
        let now = daemon.clock.now();
        let at_most = daemon.settings().hold_at_most;
        let hold = daemon
            .holds
            .place(wish, at_most, now)
            .map_err(|denied| Error::Refused { message: denied.to_string() })?;
        daemon.tell_of_hold(hold.uid, || {
            info!(
                guppy_event = "hold",
                guppy_reason = hold.why,
                "hold {} by {} for {} ({})",
                hold.id,
                hold.who,
                span(now.until(hold.until)),
                hold.why
            );
        });
        daemon.save();
        self.wake.notify_one();
        Ok(line_of(&hold, now))
    }

    fn end(&self, caller: &Caller, id: u64) -> Result<HoldLine, Error> {
        let mut daemon = self.daemon.borrow_mut();
        let now = daemon.clock.now();
        let owner = daemon.holds.get(id).ok_or(Error::NoSuchHold { id })?;
        if !(owner.uid == caller.uid || caller.is_root() || caller.in_group(GROUP)) {
            let message = format!(
                "hold {id} belongs to {}: only they, root and group {GROUP} may release it",
                owner.who
            );
            return Err(Error::Refused { message });
        }
        let hold = daemon.holds.release(id).ok_or(Error::NoSuchHold { id })?;
        daemon.tell_of_hold(hold.uid, || {
            info!(
                guppy_event = "hold-released",
                "hold {id} of {} released by {} ({})",
                hold.who,
                name_of(caller.uid),
                hold.why
            );
        });
        daemon.save();
        self.wake.notify_one();
        Ok(line_of(&hold, now))
    }
}

#[zlink::service(
    interface = "dev.guppy.IdleStopper",
    vendor = "guppy",
    product = "guppy-idle-stopper",
    version = env!("CARGO_PKG_VERSION")
)]
impl<Sock> Service
where
    Sock: Socket,
    Sock::ReadHalf: AsRef<Caller>,
{
    async fn explain(&self) -> Result<Explanation, Error> {
        Ok(explain(&self.daemon.borrow()))
    }

    async fn hold(
        &self,
        seconds: Option<u64>,
        why: String,
        process: bool,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<HoldLine, Error> {
        self.place(Caller::of(connection), seconds, why, process)
    }

    async fn release(
        &self,
        id: u64,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<HoldLine, Error> {
        self.end(Caller::of(connection), id)
    }

    async fn rights(&self) -> Result<Rights, Error> {
        let can_power_off = bus::can_power_off().await.unwrap_or_else(|error| error);
        let daemon = self.daemon.borrow();
        let unknown = Kind::ALL
            .into_iter()
            .map(|kind| (kind, daemon.state().kind(kind)))
            .filter(|(_, state)| matches!(state.shown, Shown::Unknown | Shown::Ignored))
            .map(|(kind, state)| format!("{}: {}", kind.name(), state.detail))
            .collect();
        Ok(Rights {
            can_power_off,
            mode: daemon.settings().mode.as_str().to_owned(),
            unknown,
            config_error: daemon.config.error().map(str::to_owned),
        })
    }
}

fn may_hold(caller: &Caller) -> bool {
    let uid = caller.uid;
    let is_person = uid >= FIRST_PERSON && !DYNAMIC.contains(&uid) && uid != NOBODY;
    caller.is_root() || is_person || caller.in_group(GROUP)
}

/// The caller's process. Its number may be another's by now, so its start is read at once; the
/// connection is open, so a caller that waits for the answer is still there.
fn process_of(caller: &Caller) -> Result<Process, Error> {
    crate::sense::holds::start_of(caller.pid)
        .map(|start| Process { pid: caller.pid, start })
        .ok_or_else(|| Error::Failed {
            message: format!(
                "cannot see process {} in /proc: is it in another pid namespace?",
                caller.pid
            ),
        })
}

fn name_of(uid: u32) -> String {
    match user_name(std::path::Path::new("/etc/passwd"), uid) {
        Ok(Some(name)) => name,
        Ok(None) | Err(_) => format!("uid {uid}"),
    }
}

fn line_of(hold: &Hold, now: Boottime) -> HoldLine {
    HoldLine {
        id: hold.id,
        who: hold.who.clone(),
        why: hold.why.clone(),
        since_seconds: now.since(hold.since).as_secs(),
        left_seconds: now.until(hold.until).as_secs(),
        pid: hold.process.map(|process| u64::from(process.pid)),
    }
}

fn explain(daemon: &Daemon) -> Explanation {
    let now = daemon.clock.now();
    let (state, config) = (daemon.state(), daemon.settings());
    let evidence = Kind::ALL
        .into_iter()
        .map(|kind| {
            let seen = state.kind(kind);
            EvidenceLine {
                kind: kind.name().to_owned(),
                state: seen.shown.name().to_owned(),
                state_seconds: now.since(seen.since).as_secs(),
                last_active_seconds: seen.last_active.map(|at| now.since(at).as_secs()),
                detail: seen.detail.clone(),
            }
        })
        .collect();
    Explanation {
        mode: config.mode.as_str().to_owned(),
        phase: state.phase().name().to_owned(),
        phase_seconds: now.since(state.phase().since()).as_secs(),
        summary: summary(daemon, now),
        stops_in_seconds: state.stops_at(config).map(|stop| now.until(stop).as_secs()),
        idle_seconds: now.since(state.last_activity().at).as_secs(),
        last_activity: state.last_activity().what.clone(),
        idle_after_seconds: config.idle_after.as_secs(),
        warning_seconds: config.warning.as_secs(),
        evidence,
        holds: daemon.holds.list().iter().map(|hold| line_of(hold, now)).collect(),
        refused: state.refused().map(str::to_owned),
        config_error: daemon.config.error().map(str::to_owned),
    }
}

fn summary(daemon: &Daemon, now: Boottime) -> String {
    let (state, config) = (daemon.state(), daemon.settings());
    let last = state.last_activity();
    let stops = match config.mode {
        Mode::Stop => "stops",
        Mode::Observe => "would stop, but only observes,",
    };
    match state.phase() {
        Phase::Settling { until, .. } => {
            format!("settling for another {}: nothing is judged yet", span(now.until(*until)))
        }
        Phase::Active { .. } => format!(
            "up because of {}; {stops} {} after the last of it",
            last.what,
            span(config.idle_after + config.warning)
        ),
        Phase::Idle { .. } | Phase::Warned { .. } => {
            let stop = state.stops_at(config).unwrap_or(now);
            format!(
                "idle {} (last: {}); {stops} in {}, at {}",
                span(now.since(last.at)),
                last.what,
                span(now.until(stop)),
                wall(stop, now)
            )
        }
        Phase::Stopping { .. } => match (config.mode, state.refused()) {
            (Mode::Observe, _) => format!(
                "idle {} (last: {}); would have stopped, but only observes",
                span(now.since(last.at)),
                last.what
            ),
            (Mode::Stop, Some(why)) => format!("stopping, but refused so far: {why}"),
            (Mode::Stop, None) => "stopping now".to_owned(),
        },
    }
}
