//! The loop: look, decide, act; once a tick, and sooner when a hook rings or something falls due.

mod background;
mod errand;
mod perform;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use service::clock::{Boottime, Timer};
use service::memory;
use service::notify::{self, Watchdog};
use service::signals::{Signal, Signals};
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, info};

use self::errand::{Errand, Hands};
use crate::act;
use crate::decide::{self, Action, Decision, Now};
use crate::keeper::Keeper;
use crate::learned::Learned;
use crate::name::SessionName;
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
    /// Rung when there is something to show.
    news: Rc<Notify>,
    hands: Hands,
    reload: Rc<Notify>,
    timer: Timer,
    watchdog: Watchdog,
    looked: Instant,
    /// How long that took.
    took: Duration,
    woken: bool,
    look_again: Option<Boottime>,
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
        let news = Rc::new(Notify::new());
        let hands = Hands::new(Rc::clone(&keeper), Rc::clone(&wake), Rc::clone(&news));
        Ok(Self {
            keeper,
            wake,
            news,
            hands,
            reload: Rc::default(),
            timer: Timer::new()?,
            watchdog,
            looked: Instant::now(),
            took: Duration::ZERO,
            woken: false,
            look_again: None,
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
                () = self.news.notified() => self.show().await,
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
        // A machine on which looks are slow has other things to do than to look.
        let soonest = self.looked + AWAKE_EVERY.max(2 * self.took);
        let mut due = (self.looked + keeper.config.config().tick).max(soonest);
        if self.woken {
            due = soonest;
        }
        if let Some(at) = self.look_again {
            due = due.min((Instant::now() + keeper.clock.now().until(at)).max(soonest));
        }
        due
    }

    /// Looks. Many sessions, at a tmux that takes seconds each time, make a look longer than the
    /// watchdog waits: meanwhile it hears of the loop as long as that gets on.
    async fn look(&mut self) {
        let begin = Instant::now();
        self.look_with_signs().await;
        self.took = begin.elapsed();
        // Until the next one nobody needs what it has taken.
        memory::give_back();
    }

    async fn look_with_signs(&mut self) {
        let watchdog = self.watchdog;
        let Some(deadline) = watchdog.deadline() else { return self.look_once().await };
        let tmux = self.keeper.borrow().looker.tmux.clone();
        let mut seen = tmux.answers();
        let mut look = std::pin::pin!(self.look_once());
        while tokio::time::timeout(deadline / AMID_LOOK, &mut look).await.is_err() {
            if tmux.answers() != seen {
                seen = tmux.answers();
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
        let (watched, passed_over, looker, probes) = {
            let mut keeper = self.keeper.borrow_mut();
            let passed_over = keeper.pass_over();
            let watched = keeper.watched(&keeper.sessions());
            (watched, passed_over, Rc::clone(&keeper.looker), keeper.probes.clone())
        };
        let mut sight = looker.look(&watched, probes).await;
        let (decision, based_on) = {
            let keeper = self.keeper.borrow();
            let now = Now { boot: &looker.boot, at: keeper.clock.now(), wall: Keeper::wall() };
            // What a person or a hook has said meanwhile counts.
            let sessions = keeper.to_judge(&passed_over);
            let config = keeper.config.config();
            (decide::decide(&sessions, &sight.evidence, config, now), keeper.all_learned())
        };
        self.hook(&sight.evidence.server).await;
        self.save(&mut sight);
        self.keeper.borrow_mut().remember(sight.view);
        let wants_start = decision.wants_start;
        self.act(decision, &based_on);
        if wants_start {
            self.tell_neighbours();
        }
        self.show().await;
    }

    /// Sends an errand out for each session for which there is something to do.
    fn act(&mut self, decision: Decision, based_on: &BTreeMap<SessionName, Reading<Rc<Learned>>>) {
        let Decision { actions, mut standings, look_again, .. } = decision;
        self.look_again = look_again;
        let hangs = self.keeper.borrow().looker.tmux.hangs();
        let mut of_sessions: BTreeMap<SessionName, Vec<Action>> = BTreeMap::new();
        for action in actions {
            match (action.name().cloned(), action) {
                (Some(name), action) => of_sessions.entry(name).or_default().push(action),
                (None, Action::Probe(address)) => self.hands.probe(address),
                (None, _) => {}
            }
        }
        for (name, standing) in &mut standings {
            if let Some((why, until)) = self.keeper.borrow_mut().resting(name) {
                of_sessions.remove(name);
                standing.why = why;
                self.look_again = Some(self.look_again.map_or(until, |at| at.min(until)));
            }
        }
        for (name, standing) in standings {
            let known = based_on.get(&name);
            if !self.keeper.borrow().knows(&name, known) {
                // A person has said something since: that is for the next look.
                self.woken = true;
                continue;
            }
            match of_sessions.remove(&name) {
                // What was not seen is not judged, and what is begun would not be done.
                Some(_) if hangs => self.woken = true,
                Some(actions) => {
                    self.hands.send_out(Errand { name, known: known.cloned(), actions, standing });
                }
                None => self.keeper.borrow_mut().stand(name, standing),
            }
        }
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
            if keeper.is_hooked_to(server) {
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
        self.keeper.borrow_mut().hook_to(server.clone());
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
