//! The loop: when to look, what came of it, the signals, the watchdog. Between two changes it sleeps.

mod pace;

use std::cell::RefCell;
use std::collections::HashSet;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use service::clock::Timer;
use service::memory;
use service::notify::{self, Watchdog};
use service::signals::{Signal, Signals};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::act;
use crate::daemon::Daemon;
use crate::decide::{Action, Phase};
use crate::rtnl::Handle;
use crate::sense::hints::Hints;
use crate::sense::units::Units;
use crate::sense::{Evidence, Network, Reading, Unit, netlink, nft, probe};
use pace::Pace;

/// What failed is tried again after this, then after twice that, up to RETRY_AT_MOST.
const RETRY_AFTER: Duration = Duration::from_secs(1);
const RETRY_AT_MOST: Duration = Duration::from_secs(30);
/// Filters that the kernel has refused are tried again, at a change, no sooner than after this: a
/// module may have been installed.
const REFUSED_AGAIN: Duration = Duration::from_secs(600);
/// A tunnel that came up is asked through until it answers, so often at most.
const PROBE_AGAIN: Duration = Duration::from_secs(10);

type Probing = Pin<Box<dyn Future<Output = Result<probe::Answer, String>>>>;

/// The loop and what it owns.
pub struct Round {
    daemon: Rc<RefCell<Daemon>>,
    wake: Rc<Notify>,
    handle: Handle,
    routing: Hints,
    nftables: Hints,
    units: Option<Units>,
    signals: Signals,
    timer: Timer,
    watchdog: Watchdog,
    pace: Pace,
    /// When to look next; None: when something changes.
    due: Option<Instant>,
    retry_after: Duration,
    /// What has failed since all was well, so that it is said once.
    failed: HashSet<String>,
    /// Filters that this kernel does not take, and when: it says so by events that look like changes.
    refused: Vec<(Action, Instant)>,
    table_is_stale: bool,
    units_are_stale: bool,
    probing: Option<Probing>,
    probed: Option<Result<(), String>>,
    status: String,
}

impl std::fmt::Debug for Round {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Round").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Round {
    /// A loop over this daemon. It hears of changes from now on, so nothing is missed before the
    /// first look.
    ///
    /// # Errors
    /// Sockets or signal handlers cannot be had.
    pub async fn new(daemon: Rc<RefCell<Daemon>>, wake: Rc<Notify>) -> std::io::Result<Self> {
        let units = Units::connect().await;
        if let Err(why) = &units {
            warn!(
                guppy_event = "no-bus",
                "{why}; no tunnel can be started or ended, peers stay blocked"
            );
        }
        Ok(Self {
            daemon,
            wake,
            handle: Handle::connect()?,
            routing: Hints::of_routing()?,
            nftables: Hints::of_nftables()?,
            units: units.ok(),
            signals: Signals::new()?,
            timer: Timer::new()?,
            watchdog: Watchdog::from_env(),
            pace: Pace::default(),
            due: None,
            retry_after: RETRY_AFTER,
            failed: HashSet::new(),
            refused: Vec::new(),
            table_is_stale: true,
            units_are_stale: true,
            probing: None,
            probed: None,
            status: String::new(),
        })
    }

    /// Looks once, so that what must hold does before anybody is told that the daemon is ready.
    pub async fn look(&mut self) {
        self.due = None;
        self.pace.looked(Instant::now());
        let evidence = self.read().await;
        let (actions, again) = self.daemon.borrow_mut().decide(evidence);
        if let Some(again) = again {
            self.look_at(Instant::now() + again);
        }
        let left = self.perform(actions).await;
        let all_done = left.is_empty();
        self.daemon.borrow_mut().actions = left;
        if all_done {
            self.retry_after = RETRY_AFTER;
            if self.due.is_none() && self.refused.is_empty() {
                self.failed.clear();
            }
        } else {
            self.look_at(Instant::now() + self.retry_after);
            self.retry_after = (self.retry_after * 2).min(RETRY_AT_MOST);
        }
        self.begin_probe();
        let status = self.daemon.borrow().status();
        if status != self.status {
            notify::status(&status);
            self.status = status;
        }
        // Thousands of somebody's rules are listed as a whole, and until the next look nobody needs them.
        memory::give_back();
    }

    /// Goes on until SIGTERM, and then leaves the kernel as it is.
    pub async fn go_on(&mut self) -> std::io::Result<()> {
        loop {
            let now = Instant::now();
            let ping = self.watchdog.interval().map(|interval| now + interval);
            let until = [self.due, ping].into_iter().flatten().min();
            let until =
                until.map_or(Duration::MAX / 4, |until| until.saturating_duration_since(now));
            tokio::select! {
                () = self.timer.after(until) => {
                    if self.due.is_some_and(|due| Instant::now() >= due) {
                        self.look().await;
                    }
                }
                heard = self.routing.next() => { heard?; self.look_soon(); }
                heard = self.nftables.next() => { heard?; self.table_is_stale = true; self.look_soon(); }
                () = heard_of_units(&mut self.units) => { self.units_are_stale = true; self.look_soon(); }
                () = self.wake.notified() => { self.units_are_stale = true; self.look_soon(); }
                answer = answered(&mut self.probing) => self.probe_answered(answer),
                signal = self.signals.next() => match signal {
                    Signal::Reload => self.reload(),
                    Signal::Stop => return Ok(()),
                },
            }
            if self.due.is_some_and(|due| Instant::now() >= due) {
                self.look().await;
            }
            self.watchdog.ping();
        }
    }

    fn look_soon(&mut self) {
        let soon = self.pace.next(Instant::now());
        self.look_at(soon);
    }

    fn look_at(&mut self, at: Instant) {
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    async fn read(&mut self) -> Evidence {
        let (mut table, mut units) = {
            let daemon = self.daemon.borrow();
            (daemon.evidence.table.clone(), daemon.evidence.units.clone())
        };
        if self.table_is_stale {
            self.table_is_stale = false;
            table = nft::table().await.into();
        }
        let network: Reading<Network> = netlink::read(&self.handle).await.into();
        if self.units_are_stale {
            self.units_are_stale = false;
            units = self.read_units().await.into();
        }
        for (what, why) in [
            ("routing", unknown(&network)),
            ("nftables", unknown(&table)),
            ("units", unknown(&units)),
        ] {
            if let Some(why) = why {
                self.complain(&format!("{what} cannot be read: {why}; nothing of it is changed"));
                self.look_at(Instant::now() + self.retry_after);
                self.table_is_stale |= what == "nftables";
                self.units_are_stale |= what == "units";
            }
        }
        Evidence { network, table, units }
    }

    async fn read_units(&mut self) -> Result<Vec<Unit>, String> {
        if self.units.is_none() {
            self.units = Units::connect().await.ok();
        }
        let wanted = self.daemon.borrow().intent.profile.clone();
        let units = self.units.as_mut().ok_or("there is no system bus")?;
        if let Some(profile) = wanted {
            units.watch(&profile).await?;
        }
        units.read().await
    }

    /// In order, each whatever came of the one before; what is left to do.
    async fn perform(&mut self, actions: Vec<Action>) -> Vec<Action> {
        let links = self.daemon.borrow().network().map(|network| network.links.clone());
        let links = links.unwrap_or_default();
        self.refused.retain(|(_, at)| at.elapsed() < REFUSED_AGAIN);
        let mut left = Vec::new();
        for action in actions {
            if self.refused.iter().any(|(refused, _)| *refused == action) {
                continue;
            }
            let text = act::text(&action, &links);
            match self.perform_one(&action).await {
                Ok(()) => {
                    info!(guppy_event = "act", "{text}");
                    if let Action::ReplaceTable(table) = action {
                        self.remember_table(table).await;
                    }
                }
                Err(why) if matches!(action, Action::Filters { .. }) => {
                    self.complain(&format!("{text}: {why}; the other two layers hold"));
                    self.refused.push((action, Instant::now()));
                }
                Err(why) => {
                    self.complain(&format!("{text}: {why}; tried again"));
                    left.push(action);
                }
            }
        }
        left
    }

    async fn perform_one(&mut self, action: &Action) -> Result<(), String> {
        let (Action::StartUnit(profile) | Action::StopUnit(profile)) = action else {
            return act::perform(action, &self.handle).await;
        };
        self.units_are_stale = true;
        match (&self.units, action) {
            (Some(systemd), Action::StartUnit(_)) => systemd.start(profile).await,
            (Some(systemd), _) => systemd.stop(profile).await,
            (None, _) => Err("there is no system bus".to_owned()),
        }
    }

    /// What nft(8) lists right after it was put: whatever differs from it later was not us.
    async fn remember_table(&mut self, text: String) {
        let listed = nft::table().await;
        let mut daemon = self.daemon.borrow_mut();
        daemon.state.applied = match &listed {
            Ok(Some(listed)) => Some((text, listed.clone())),
            _ => None,
        };
        daemon.evidence.table = listed.into();
    }

    fn complain(&mut self, what: &str) {
        if self.failed.insert(what.to_owned()) {
            error!(guppy_event = "failed", "{what}");
        }
    }

    fn begin_probe(&mut self) {
        let daemon = self.daemon.borrow();
        if daemon.phase != Phase::Up {
            drop(daemon);
            self.probing = None;
            self.probed = None;
            return;
        }
        if self.probing.is_some() || matches!(self.probed, Some(Ok(()))) {
            return;
        }
        let (Some((_, profile)), Some((interface, addresses))) =
            (daemon.profile(), daemon.tunnel())
        else {
            return;
        };
        let asked = profile.probe.clone();
        drop(daemon);
        let wait = if self.probed.is_some() { PROBE_AGAIN } else { Duration::ZERO };
        self.probing = Some(Box::pin(async move {
            tokio::time::sleep(wait).await;
            probe::ask(&asked, &interface, &addresses).await
        }));
    }

    fn probe_answered(&mut self, answer: Result<probe::Answer, String>) {
        self.probing = None;
        let name = self.daemon.borrow().intent.profile.clone().unwrap_or_default();
        let answer = answer.map(|answer| {
            info!(guppy_event = "healthy", "{name} is healthy: answered in {:?}", answer.after);
        });
        if let Err(why) = &answer
            && self.probed.as_ref() != Some(&Err(why.clone()))
        {
            warn!(guppy_event = "unhealthy", "{name} is up, but its probe fails: {why}");
        }
        self.probed = Some(answer);
        self.begin_probe();
    }

    fn reload(&mut self) {
        notify::reloading();
        {
            let mut daemon = self.daemon.borrow_mut();
            match daemon.config.reload() {
                Ok(_) => info!(guppy_event = "reloaded", "config and profiles reloaded"),
                Err(wrong) => error!(
                    guppy_event = "config-error",
                    "{wrong}; the config before the reload stays in force"
                ),
            }
            daemon.read_profiles();
        }
        self.table_is_stale = true;
        self.look_at(Instant::now());
        notify::ready();
    }
}

fn unknown<T>(reading: &Reading<T>) -> Option<String> {
    match reading {
        Reading::Known(_) => None,
        Reading::Unknown(why) => Some(why.clone()),
    }
}

async fn heard_of_units(units: &mut Option<Units>) {
    match units {
        Some(systemd) => {
            if !systemd.next().await {
                *units = None;
            }
        }
        None => std::future::pending().await,
    }
}

async fn answered(probing: &mut Option<Probing>) -> Result<probe::Answer, String> {
    match probing {
        Some(probing) => probing.await,
        None => std::future::pending().await,
    }
}
