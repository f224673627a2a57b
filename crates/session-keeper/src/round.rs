//! The loop: look, decide, act; once a tick, and sooner when a hook rings or something falls due.

mod background;
mod perform;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use service::clock::{Boottime, Timer};
use service::notify::{self, Watchdog};
use service::signals::{Signal, Signals};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info};

use crate::act;
use crate::decide::{self, Action, Decision, Now};
use crate::keeper::{self, Keeper};
use crate::learned::Learned;
use crate::name::SessionName;
use crate::process::Identity;
use crate::sense::{Reading, TmuxServer};
use crate::tmux::TmuxError;

/// A thousand hooks call for no more than this many looks.
const AWAKE_EVERY: Duration = Duration::from_millis(100);
/// A call to tmux waits for no longer than this part of what systemd waits: between two signs of life
/// there are three that are not answered, at most (a look's first, one to the server's own program,
/// and the look's first again).
const CALL: u32 = 6;
/// Amid a look the watchdog is pinged in this part of what systemd waits.
const AMID_LOOK: u32 = 8;

/// The loop and what it owns.
#[derive(Debug)]
pub struct Round {
    keeper: Rc<RefCell<Keeper>>,
    wake: Rc<Notify>,
    reload: Rc<Notify>,
    timer: Timer,
    watchdog: Watchdog,
    looked: Instant,
    woken: bool,
    look_again: Option<Boottime>,
    /// Shims that were asked to end their agents. Once each: to many programs a second SIGTERM says
    /// to drop everything.
    asked: RefCell<BTreeMap<SessionName, Identity>>,
    /// How many actions were done, in whatever way.
    done: Rc<Cell<u64>>,
    /// Why the keepers of other users could not be told of starts, if so.
    untold: Option<String>,
    status: String,
}

impl Round {
    /// A loop over this keeper.
    ///
    /// # Errors
    /// The timer cannot be made.
    pub fn new(keeper: Rc<RefCell<Keeper>>, wake: Rc<Notify>) -> std::io::Result<Self> {
        let watchdog = Watchdog::from_env();
        if let Some(deadline) = watchdog.deadline() {
            keeper.borrow().looker.tmux.within(deadline / CALL);
        }
        Ok(Self {
            keeper,
            wake,
            reload: Rc::default(),
            timer: Timer::new()?,
            watchdog,
            looked: Instant::now(),
            woken: false,
            look_again: None,
            asked: RefCell::default(),
            done: Rc::default(),
            untold: None,
            status: String::new(),
        })
    }

    /// Goes on until SIGTERM, also amid a look: with a tmux that hangs it lasts for longer than systemd
    /// waits for an end. Agents and tmux live on.
    pub async fn go_on(&mut self, mut signals: Signals) {
        let reload = Rc::clone(&self.reload);
        let stopped = async {
            while signals.next().await != Signal::Stop {
                reload.notify_one();
            }
        };
        tokio::select! {
            () = self.look_after_look() => {}
            () = stopped => {}
        }
    }

    async fn look_after_look(&mut self) {
        self.look().await;
        loop {
            let due = self.due();
            let ping = self.watchdog.interval().map(|interval| Instant::now() + interval);
            let until = ping.map_or(due, |ping| ping.min(due));
            tokio::select! {
                () = self.timer.after(until.saturating_duration_since(Instant::now())) => {
                    if Instant::now() >= due {
                        self.look().await;
                    }
                }
                () = self.wake.notified() => self.woken = true,
                () = self.reload.notified() => {
                    self.reload();
                    self.look().await;
                }
            }
            self.watchdog.ping();
        }
    }

    fn due(&self) -> Instant {
        let keeper = self.keeper.borrow();
        let mut due = self.looked + keeper.config.config().tick;
        let soonest = self.looked + AWAKE_EVERY;
        if self.woken {
            due = soonest;
        }
        if let Some(at) = self.look_again {
            due = due.min((Instant::now() + keeper.clock.now().until(at)).max(soonest));
        }
        due
    }

    /// Looks. Many sessions, at a tmux or a disk that takes seconds each time, make a look longer
    /// than the watchdog waits: meanwhile it hears of the loop as long as that gets on.
    async fn look(&mut self) {
        let watchdog = self.watchdog;
        let Some(deadline) = watchdog.deadline() else { return self.look_once().await };
        let tmux = self.keeper.borrow().looker.tmux.clone();
        let done = Rc::clone(&self.done);
        let progress = || (tmux.answers(), done.get());
        let mut seen = progress();
        let mut look = std::pin::pin!(self.look_once());
        while tokio::time::timeout(deadline / AMID_LOOK, &mut look).await.is_err() {
            if progress() != seen {
                seen = progress();
                watchdog.ping();
            }
        }
    }

    async fn look_once(&mut self) {
        self.woken = false;
        self.looked = Instant::now();
        let read = self.keeper.borrow_mut().read();
        if let Err(why) = read {
            // Nothing is known: nothing is done.
            error!(guppy_event = "unreadable", "{why}");
            return;
        }
        self.keeper.borrow_mut().hear_what_was_left();
        let (sessions, watched, looker, probes) = {
            let keeper = self.keeper.borrow();
            let sessions = keeper.sessions();
            let watched = keeper.watched(&sessions);
            (sessions, watched, Rc::clone(&keeper.looker), keeper.probes.clone())
        };
        let view = looker.look(&watched, probes).await;
        let (decision, based_on) = {
            let keeper = self.keeper.borrow();
            let now = Now { boot: &looker.boot, at: keeper.clock.now(), wall: Keeper::wall() };
            // What a person or a hook has said meanwhile counts.
            let sessions = if watched.is_empty() { sessions } else { keeper.sessions() };
            let config = keeper.config.config();
            (decide::decide(&sessions, &view.evidence, config, now), keeper.all_learned())
        };
        self.hook(&view.evidence.server).await;
        self.save(&watched, &view);
        self.keeper.borrow_mut().view = Some(view);
        let wants_start = decision.wants_start;
        self.act(decision, based_on).await;
        if wants_start {
            self.tell_neighbours();
        }
        self.show().await;
    }

    /// What was decided is done only as long as nobody has changed what it was decided on: each
    /// action takes its time, and in it a person may have said something else.
    async fn act(
        &mut self,
        decision: Decision,
        mut based_on: BTreeMap<SessionName, Reading<Learned>>,
    ) {
        let Decision { actions, mut standings, look_again, .. } = decision;
        self.look_again = look_again;
        let mut failed = BTreeSet::new();
        for (name, standing) in &mut standings {
            if let Some((why, until)) = self.keeper.borrow_mut().resting(name) {
                failed.insert(name.clone());
                standing.why = why;
                self.look_again = Some(self.look_again.map_or(until, |at| at.min(until)));
            }
        }
        // A person has said something since: that is for the next look.
        let knows = |name: &SessionName| self.keeper.borrow().knows(name, based_on.get(name));
        let before = standings.len();
        standings.retain(|name, _| knows(name));
        self.woken |= standings.len() < before;
        // Before the first action: what they change is listed as it comes, and must not be beside what
        // the look before this one has said.
        self.keeper.borrow_mut().stand(standings);
        for action in actions {
            if self.keeper.borrow().looker.tmux.hangs() {
                // What was not seen is not judged, and the others' starts would be counted and none
                // would come about.
                self.woken = true;
                return;
            }
            let name = action.name().cloned();
            if name.as_ref().is_some_and(|name| failed.contains(name)) {
                continue;
            }
            if let Some(name) = &name
                && !self.keeper.borrow().knows(name, based_on.get(name))
            {
                self.woken = true;
                continue;
            }
            let acted = !matches!(action, Action::Remember(..) | Action::Probe(_));
            let done = match action {
                Action::Remember(name, learned) => {
                    self.remember(name, *learned, &mut based_on).await
                }
                action => self.perform(action).await,
            };
            self.done.set(self.done.get() + 1);
            if let (Err(why), Some(name)) = (done, name) {
                self.keeper.borrow_mut().trouble(&name, why);
                failed.insert(name);
            }
            if acted {
                // What it has changed is there to be seen.
                self.woken = true;
            }
        }
    }

    /// Unless a person has said something since, or says it while an earlier word is being written:
    /// then what follows is not done either.
    async fn remember(
        &mut self,
        name: SessionName,
        learned: Learned,
        based_on: &mut BTreeMap<SessionName, Reading<Learned>>,
    ) -> Result<(), String> {
        let (of, before, now) = (name.clone(), based_on.get(&name).cloned(), learned.clone());
        let change = move |keeper: &Keeper| keeper.knows(&of, before.as_ref()).then_some(now);
        match keeper::learn(&self.keeper, &name, change).await? {
            true => drop(based_on.insert(name, Reading::Known(learned))),
            false => self.woken = true,
        }
        Ok(())
    }

    /// Lets the keepers of other users know what this one starts.
    fn tell_neighbours(&mut self) {
        let keeper = self.keeper.borrow();
        let told = keeper.own_starts().write(&keeper.paths().starts());
        let wrong =
            told.err().map(|error| format!("{}: {error}", keeper.paths().starts().display()));
        if let Some(wrong) = wrong.as_ref().filter(|_| self.untold != wrong) {
            tracing::warn!("other users' keepers do not hear of starts here: {wrong}");
        }
        self.untold = wrong;
    }

    /// A new server has none of our hooks.
    async fn hook(&self, server: &Reading<TmuxServer>) {
        let Reading::Known(TmuxServer::Ours(server)) = server else { return };
        let (looker, libexec) = {
            let keeper = self.keeper.borrow();
            if keeper.hooked.as_ref() == Some(server) {
                return;
            }
            (Rc::clone(&keeper.looker), keeper.libexec.clone())
        };
        match act::install_hooks(&looker.tmux, &libexec, &looker.paths.socket).await {
            Ok(()) => {}
            // The next look tries again.
            Err(TmuxError::Absent | TmuxError::Unknown(_)) => return,
            Err(error) => tracing::warn!("tmux will not tell of panes that die: {error}"),
        }
        self.keeper.borrow_mut().hooked = Some(server.clone());
    }

    /// Brings the options of panes up to date.
    async fn show(&mut self) {
        let (looker, due) = {
            let keeper = self.keeper.borrow();
            (Rc::clone(&keeper.looker), keeper.to_show())
        };
        for (name, pane, standing) in due {
            if act::show(&looker.tmux, &pane, &standing).await.is_ok() {
                self.keeper.borrow_mut().shown.insert(name, (pane, standing));
            }
        }
        let status = self.keeper.borrow().status();
        if status != self.status {
            notify::status(&status);
            self.status = status;
        }
    }

    fn reload(&mut self) {
        notify::reloading();
        match self.keeper.borrow_mut().config.reload() {
            Ok(_) => info!(guppy_event = "reloaded", "config reloaded"),
            Err(wrong) => error!(
                guppy_event = "config-error",
                "{wrong}; the config before the reload stays in force"
            ),
        }
        notify::ready();
    }
}

impl Action {
    /// The session that it belongs to.
    fn name(&self) -> Option<&SessionName> {
        match self {
            Self::Remember(name, _)
            | Self::Start(name, _)
            | Self::Clear(name)
            | Self::End { name, .. }
            | Self::Rotate(name, _)
            | Self::Send(name, _)
            | Self::Recreate(name) => Some(name),
            Self::Probe(_) => None,
        }
    }
}
