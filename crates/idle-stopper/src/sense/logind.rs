//! logind over D-Bus: its locks, and the remote host of a session. Three calls; a proxy with its
//! cache of properties would cost more memory than they do.
//!
//! The connection lives for one tick at most: most ticks need none, and an open one would wake the
//! daemon for each signal of the bus.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use service::clock::Boottime;
use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use super::Inhibitor;
use super::file::{Failure, printable};

const NAME: &str = "org.freedesktop.login1";
const PATH: &str = "/org/freedesktop/login1";
const MANAGER: &str = "org.freedesktop.login1.Manager";

/// A call takes milliseconds; a bus that hangs may not hang the tick.
const DEADLINE: Duration = Duration::from_secs(5);

/// After a failure, names of hosts are not asked for again at once: each try may cost the deadline.
const PAUSE: Duration = Duration::from_secs(60);

/// Locks that are kept: all that block, and then as many of the others as fit. logind itself ends at
/// 8,192, of which any user may take thousands; a box has a handful.
const MOST_INHIBITORS: usize = 1024;

/// Sessions whose host is remembered; beyond it the memory starts anew.
const MOST_HOSTS: usize = 1024;

/// Where the bus is.
#[derive(Debug)]
enum Bus {
    /// The system bus.
    System,
    /// A test's.
    #[cfg_attr(not(test), expect(dead_code, reason = "only tests bring a bus of their own"))]
    At(String),
}

/// A client of logind.
#[derive(Debug)]
pub(super) struct Logind {
    bus: Bus,
    deadline: Duration,
    connection: Option<Connection>,
    /// A session's host never changes, and its id is never given again within a boot.
    hosts: HashMap<String, Option<IpAddr>>,
    failed: Option<Boottime>,
}

impl Default for Logind {
    fn default() -> Self {
        Self {
            bus: Bus::System,
            deadline: DEADLINE,
            connection: None,
            hosts: HashMap::new(),
            failed: None,
        }
    }
}

impl Logind {
    #[cfg(test)]
    pub(super) fn at(address: String) -> Self {
        Self { bus: Bus::At(address), ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn within(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Every lock, of every mode.
    pub(super) async fn inhibitors(&mut self) -> Result<Vec<Inhibitor>, Failure> {
        let deadline = self.deadline;
        match tokio::time::timeout(deadline, self.list_inhibitors()).await {
            Ok(listed) => kept(listed.map_err(|why| unreachable(&why))?),
            Err(_) => Err(Failure::Other(format!("logind did not answer within {deadline:?}"))),
        }
    }

    async fn list_inhibitors(&mut self) -> zbus::Result<Vec<Inhibitor>> {
        let bus = self.connect().await?;
        let reply = bus.call_method(Some(NAME), PATH, Some(MANAGER), "ListInhibitors", &()).await?;
        let body = reply.body();
        // a(ssssuu): what, who, why, mode, uid, pid.
        let locks: Vec<(&str, &str, &str, &str, u32, u32)> = body.deserialize()?;
        let cut = |text: &str| printable(text.as_bytes(), 200);
        Ok(locks
            .into_iter()
            .map(|(what, who, why, mode, _, pid)| Inhibitor {
                what: cut(what),
                who: cut(who),
                why: cut(why),
                mode: cut(mode),
                pid,
            })
            .collect())
    }

    /// The remote host of a session. None: it has none, or logind does not answer. Then it is
    /// asked again later, since a name for people is not worth a reading.
    pub(super) async fn host(&mut self, session: &str, now: Boottime) -> Option<IpAddr> {
        if let Some(host) = self.hosts.get(session) {
            return *host;
        }
        if self.failed.is_some_and(|failed| now.since(failed) < PAUSE) {
            return None;
        }
        let asked = tokio::time::timeout(self.deadline, self.remote_host(session)).await;
        let host = match asked {
            Ok(Ok(host)) => host,
            // logind answered: it knows no such session, and never will.
            Ok(Err(zbus::Error::MethodError(name, ..)))
                if name.as_str() == "org.freedesktop.login1.NoSuchSession" =>
            {
                None
            }
            Ok(Err(_)) | Err(_) => {
                self.failed = Some(now);
                return None;
            }
        };
        if self.hosts.len() >= MOST_HOSTS {
            self.hosts.clear();
        }
        self.hosts.insert(session.to_owned(), host);
        host
    }

    async fn remote_host(&mut self, session: &str) -> zbus::Result<Option<IpAddr>> {
        let bus = self.connect().await?;
        let reply =
            bus.call_method(Some(NAME), PATH, Some(MANAGER), "GetSession", &session).await?;
        let path: OwnedObjectPath = reply.body().deserialize()?;
        let property = ("org.freedesktop.login1.Session", "RemoteHost");
        let properties = Some("org.freedesktop.DBus.Properties");
        let reply = bus.call_method(Some(NAME), &path, properties, "Get", &property).await?;
        let value: OwnedVariant = reply.body().deserialize()?;
        Ok(String::try_from(value).ok().and_then(|host| parse_host(&host)))
    }

    async fn connect(&mut self) -> zbus::Result<Connection> {
        if let Some(connection) = self.connection.as_ref().filter(|bus| !bus.is_closed()) {
            return Ok(connection.clone());
        }
        let builder = match &self.bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::At(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = builder.build().await?;
        self.connection = Some(connection.clone());
        Ok(connection)
    }

    /// Ends the tick's connection, if there was one.
    pub(super) fn hang_up(&mut self) {
        self.connection = None;
    }
}

/// logind lists its locks in no order, so one that blocks may come after thousands that only delay:
/// cut off, it would be passed as if nobody held it.
fn kept(mut locks: Vec<Inhibitor>) -> Result<Vec<Inhibitor>, Failure> {
    let delays = |lock: &Inhibitor| lock.mode == "delay";
    locks.sort_by_key(delays);
    if locks.get(MOST_INHIBITORS).is_some_and(|lock| !delays(lock)) {
        return Err(Failure::TooMany { limit: MOST_INHIBITORS, what: "block locks" });
    }
    locks.truncate(MOST_INHIBITORS);
    Ok(locks)
}

/// sshd gives an address, with a scope if link-local; PAM modules may give anything.
pub(super) fn parse_host(host: &str) -> Option<IpAddr> {
    let host = host.split('%').next()?;
    host.parse::<IpAddr>().ok().map(|host| host.to_canonical())
}

fn unreachable(why: &zbus::Error) -> Failure {
    let why = printable(why.to_string().as_bytes(), 200);
    Failure::Other(format!("logind cannot be asked over D-Bus: {why}"))
}
