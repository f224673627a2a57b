//! `dev.guppy.ExitRouter` on its socket: who may ask what, and the answers.
//!
//! Authority is the peer's uid and groups, as the kernel tells them. Everybody may ask how things are.
//! Root and group `guppy` may raise and end tunnels. Only root may take the block away.

#![allow(missing_docs, reason = "zlink::service makes public types without any")]

use std::cell::RefCell;
use std::rc::Rc;

use service::socket::{Caller, Interface};
use tokio::sync::Notify;
use tracing::info;
use zlink::connection::socket::Socket;

use crate::act;
use crate::api::{Changed, Error, Plan, ProfileLine, Profiles, Status};
use crate::daemon::Daemon;
use crate::decide::foreign::USERSPACE;
use crate::prefix::Prefix;
use crate::report;
use crate::sense::tailscaled;

/// Members may raise and end tunnels.
const GROUP: &str = "guppy";

/// What is served.
pub const INTERFACE: Interface = Interface {
    name: "dev.guppy.ExitRouter",
    methods: &["Status", "Plan", "List", "Up", "Down", "Disable"],
};

/// The service; clones share the daemon.
#[derive(Clone, Debug)]
pub struct Service {
    daemon: Rc<RefCell<Daemon>>,
    /// Rung when something was asked for that the loop should do.
    wake: Rc<Notify>,
}

impl Service {
    /// A service over this daemon.
    pub const fn new(daemon: Rc<RefCell<Daemon>>, wake: Rc<Notify>) -> Self {
        Self { daemon, wake }
    }

    fn raise(
        &self,
        caller: &Caller,
        profile: &str,
        advertised: &[String],
    ) -> Result<Changed, Error> {
        may(caller, caller.is_root() || caller.in_group(GROUP), "root and group guppy")?;
        let prefixes = advertised
            .iter()
            .map(|text| text.parse::<Prefix>())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|message| Error::Failed { message })?;
        let mut daemon = self.daemon.borrow_mut();
        let changed = daemon.up(profile, prefixes).map_err(|(by_policy, message)| {
            if by_policy { Error::Refused { message } } else { Error::Failed { message } }
        })?;
        if changed {
            info!(guppy_event = "asked", "{profile} is asked for by {caller}");
        }
        self.wake.notify_one();
        let advertised = daemon.intent.advertised.iter().map(Prefix::to_string).collect();
        Ok(Changed { profile: Some(profile.to_owned()), changed, advertised })
    }

    fn end(&self, caller: &Caller, disable: bool) -> Result<Changed, Error> {
        let (allowed, who) = if disable {
            (caller.is_root(), "root")
        } else {
            (caller.is_root() || caller.in_group(GROUP), "root and group guppy")
        };
        may(caller, allowed, who)?;
        let mut daemon = self.daemon.borrow_mut();
        let before = daemon.down(disable).map_err(|message| Error::Failed { message })?;
        let changed = before.profile.is_some() || disable && before.enabled;
        if changed {
            let name = before.profile.as_deref().unwrap_or("no tunnel");
            let what = if disable { ", and the block with it" } else { "" };
            info!(guppy_event = "ended", "{name} is ended by {caller}{what}");
        }
        self.wake.notify_one();
        let advertised = before.advertised.iter().map(Prefix::to_string).collect();
        Ok(Changed { profile: before.profile, changed, advertised })
    }
}

fn may(caller: &Caller, allowed: bool, who: &str) -> Result<(), Error> {
    if allowed {
        return Ok(());
    }
    let message = format!("uid {} may not: only {who} may", caller.uid);
    Err(Error::Refused { message })
}

#[zlink::service(
    interface = "dev.guppy.ExitRouter",
    vendor = "guppy",
    product = "guppy-exit-router",
    version = env!("CARGO_PKG_VERSION")
)]
impl<Sock> Service
where
    Sock: Socket,
    Sock::ReadHalf: AsRef<Caller>,
{
    async fn status(&self) -> Result<Status, Error> {
        Ok(report::status(&self.daemon).await)
    }

    async fn plan(&self) -> Result<Plan, Error> {
        let daemon = self.daemon.borrow();
        let links = daemon.network().map(|network| network.links.as_slice()).unwrap_or_default();
        let Some(plan) = &daemon.plan else {
            let message =
                "the kernel could not be read: see journalctl -u guppy-exit-router".to_owned();
            return Err(Error::Failed { message });
        };
        let actions = daemon.actions.iter().map(|action| act::text(action, links)).collect();
        Ok(Plan { plan: plan.text(links), actions })
    }

    async fn list(&self) -> Result<Profiles, Error> {
        let mut daemon = self.daemon.borrow_mut();
        daemon.read_profiles();
        let active = daemon.intent.profile.clone();
        let profiles = daemon
            .profiles
            .iter()
            .map(|(name, profile)| {
                let known = profile.as_ref().ok();
                let prefixes = known.map(|profile| profile.prefixes.as_slice()).unwrap_or_default();
                ProfileLine {
                    name: name.clone(),
                    kind: known.map(|profile| profile.kind.as_str().to_owned()),
                    interface: known.map(|profile| profile.interface(name)),
                    prefixes: prefixes.iter().map(Prefix::to_string).collect(),
                    probe: known.map(|profile| profile.probe.to_string()),
                    interactive: known.is_some_and(|profile| profile.interactive),
                    active: active.as_ref() == Some(name),
                    error: profile.as_ref().err().cloned(),
                }
            })
            .collect();
        Ok(Profiles { profiles })
    }

    async fn up(
        &self,
        profile: String,
        advertised: Vec<String>,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<Changed, Error> {
        // One that cannot be asked may not run yet: without it no peer's packet comes.
        let socket = self.daemon.borrow().config.config().tailscaled_socket.clone();
        if tailscaled::read(&socket).await.is_ok_and(|tailscaled| !tailscaled.tun) {
            return Err(Error::Refused { message: USERSPACE.to_owned() });
        }
        self.raise(Caller::of(connection), &profile, &advertised)
    }

    async fn down(
        &self,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<Changed, Error> {
        self.end(Caller::of(connection), false)
    }

    async fn disable(
        &self,
        #[zlink(connection)] connection: &mut Connection<Sock>,
    ) -> Result<Changed, Error> {
        self.end(Caller::of(connection), true)
    }
}
