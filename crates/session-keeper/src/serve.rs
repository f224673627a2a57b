//! `dev.guppy.SessionKeeper` on its socket. The socket is its user's alone (0600); whoever else
//! gets at it is refused, root excepted.

#![allow(missing_docs, reason = "zlink::service makes public types without any")]

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use service::socket::{Caller, Interface, Limits};
use tokio::sync::Notify;
use tracing::info;
use zlink::connection::socket::Socket;

use crate::act;
use crate::api::{Error, HookEvent, Listing, ReportHint};
use crate::decide::{State, Wanted};
use crate::keeper::hear::Heeded;
use crate::keeper::{self, Keeper};
use crate::learned::{Learned, Moment};
use crate::name::SessionName;
use crate::sense::Activity;

/// What is served.
pub const INTERFACE: Interface = Interface {
    name: "dev.guppy.SessionKeeper",
    methods: &["List", "Look", "Start", "Stop", "Restart", "Forget", "Send", "Hook", "Report"],
};

/// What clients may take. They are all of one user, whose agents may all begin at once, each with
/// its shim and its hooks; and a prompt that is sent may be long.
pub const LIMITS: Limits = Limits {
    connections: 512,
    connections_per_user: 512,
    message: 1 << 20,
    idle: Duration::from_secs(60),
    unread: Duration::from_secs(10),
};

/// The service; clones share the keeper.
#[derive(Clone, Debug)]
pub struct Service {
    keeper: Rc<RefCell<Keeper>>,
    /// Rung when the loop should look.
    wake: Rc<Notify>,
}

impl Service {
    /// A service over this keeper.
    pub const fn new(keeper: Rc<RefCell<Keeper>>, wake: Rc<Notify>) -> Self {
        Self { keeper, wake }
    }

    fn name(&self, name: &str) -> Result<SessionName, Error> {
        let name = SessionName::parse(name)
            .map_err(|error| Error::InvalidArgument { message: error.to_string() })?;
        // Its file may be new.
        self.keeper.borrow_mut().read().map_err(|message| Error::Failed { message })?;
        Ok(name)
    }

    /// Writes what a person wants, and has the loop do it.
    async fn change(
        &self,
        caller: &Caller,
        name: &str,
        change: impl FnOnce(&mut Learned, Moment) + 'static,
    ) -> Result<SessionName, Error> {
        allowed(caller)?;
        let name = self.name(name)?;
        if self.keeper.borrow().wanted(&name).is_none() {
            return Err(Error::NoSuchSession { name: name.to_string() });
        }
        let of = name.clone();
        let changed = keeper::learn(&self.keeper, &name, move |keeper| {
            let mut learned = keeper.learned(&of)?.clone();
            change(&mut learned, keeper.moment());
            Some(learned)
        });
        if !changed.await.map_err(|message| Error::Failed { message })? {
            let message = format!("what was learned of {name} cannot be read: see guppy ls");
            return Err(Error::Failed { message });
        }
        // Where it stood before is no answer any more: whoever waits for what follows would take
        // the reason that it was parked for for what has come of the new start.
        self.keeper.borrow_mut().standings.remove(&name);
        self.wake.notify_one();
        Ok(name)
    }

    async fn give(&self, caller: &Caller, name: &str, text: &str) -> Result<(), Error> {
        allowed(caller)?;
        let name = self.name(name)?;
        let (looker, pane, agent) = {
            let keeper = self.keeper.borrow();
            let Some(wanted) = keeper.wanted(&name) else {
                return Err(Error::NoSuchSession { name: name.to_string() });
            };
            let standing = keeper.standings.get(&name);
            let ready = standing
                .is_some_and(|standing| matches!(standing.state, State::Idle | State::Interrupted));
            let pane = keeper.pane(&name).filter(|_| ready);
            let (Some(pane), Wanted::Valid(_, agent)) = (pane, wanted) else {
                let stands = standing.map_or_else(String::new, |standing| format!(": {standing}"));
                let message =
                    format!("{name} takes no text now{stands} (see: guppy attach {name})");
                return Err(Error::NotReady { message });
            };
            (Rc::clone(&keeper.looker), pane, agent)
        };
        let now = || activity(&self.keeper, &name, &pane);
        let sent = act::send(&looker.tmux, &pane, &agent, text, now).await;
        self.wake.notify_one();
        sent.map_err(|error| match error {
            act::SendError::NotTyped(error) | act::SendError::Tmux(error) => {
                Error::Failed { message: error.to_string() }
            }
            error @ (act::SendError::NotReady(_)
            | act::SendError::NotEntered(_)
            | act::SendError::Ended) => {
                let message =
                    format!("{name} takes no text now: {error} (see: guppy attach {name})");
                Error::NotReady { message }
            }
            error => Error::InvalidArgument { message: error.to_string() },
        })
    }

    fn heed(&self, event: &HookEvent) {
        let heeded = self.keeper.borrow_mut().hear(event);
        if let Heeded::Sync(name) = heeded {
            for file in self.keeper.borrow().turn_files(&name) {
                tokio::task::spawn_local(act::save_turn(file));
            }
        }
        self.wake.notify_one();
    }
}

#[zlink::service(
    interface = "dev.guppy.SessionKeeper",
    vendor = "guppy",
    product = "guppy-session-keeper",
    version = env!("CARGO_PKG_VERSION")
)]
impl<Sock> Service
where
    Sock: Socket,
    Sock::ReadHalf: AsRef<Caller>,
{
    async fn list(
        &self,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<Listing, Error> {
        allowed(Caller::of(connection))?;
        Ok(self.keeper.borrow().listing())
    }

    async fn look(
        &self,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        allowed(Caller::of(connection))?;
        self.wake.notify_one();
        Ok(())
    }

    async fn start(
        &self,
        name: String,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        let caller = Caller::of(connection).clone();
        let name = self.change(&caller, &name, |learned, now| learned.ask_start(&now.boot)).await?;
        info!(guppy_event = "asked", "{name}: start, says {caller}");
        Ok(())
    }

    async fn stop(
        &self,
        name: String,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        let caller = Caller::of(connection).clone();
        let name = self.change(&caller, &name, |learned, now| learned.ask_stop(now)).await?;
        info!(guppy_event = "asked", "{name}: stop, says {caller}");
        Ok(())
    }

    async fn restart(
        &self,
        name: String,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        let caller = Caller::of(connection).clone();
        let name = self.change(&caller, &name, |learned, now| learned.ask_restart(now)).await?;
        info!(guppy_event = "asked", "{name}: restart, says {caller}");
        Ok(())
    }

    async fn forget(
        &self,
        name: String,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        allowed(Caller::of(connection))?;
        let name = self.name(&name)?;
        if self.keeper.borrow().wanted(&name).is_some() {
            let message = format!("{name} is declared: guppy rm {name}");
            return Err(Error::InvalidArgument { message });
        }
        let forgotten = keeper::forget(&self.keeper, &name).await;
        forgotten.map_err(|message| Error::Failed { message })?;
        self.wake.notify_one();
        Ok(())
    }

    async fn send(
        &self,
        name: String,
        text: String,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        let caller = Caller::of(connection).clone();
        self.give(&caller, &name, &text).await
    }

    async fn hook(
        &self,
        event: HookEvent,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        allowed(Caller::of(connection))?;
        self.heed(&event);
        Ok(())
    }

    /// A shim's report is on the disk.
    async fn report(
        &self,
        report: ReportHint,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<(), Error> {
        allowed(Caller::of(connection))?;
        tracing::debug!("report of start {} of {}", report.start, report.name);
        self.wake.notify_one();
        Ok(())
    }
}

/// What a session's agent does at this moment.
pub(crate) async fn activity(
    keeper: &Rc<RefCell<Keeper>>,
    name: &SessionName,
    pane: &str,
) -> Activity {
    let (looker, watched) = {
        let keeper = keeper.borrow();
        (Rc::clone(&keeper.looker), keeper.watched(&keeper.sessions()).remove(name))
    };
    match watched {
        Some(watched) => looker.activity(name, &watched, pane).await,
        None => Activity::Unknown,
    }
}

fn allowed(caller: &Caller) -> Result<(), Error> {
    let own = rustix::process::geteuid().as_raw();
    if caller.is_root() || caller.uid == own {
        return Ok(());
    }
    let message = format!("uid {} may not: this keeper is uid {own}'s alone", caller.uid);
    Err(Error::Refused { message })
}
