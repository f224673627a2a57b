//! Serving clients that may be slow, hostile or many. zlink's own server, as of 0.8, ends when an
//! accept fails, takes any number of connections, each with messages up to 100 MB and file
//! descriptors without limit, and answers one client at a time: one that does not read its answer
//! stops all. So each connection here is a task of its own, with limits.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep};
use zlink::Service;

use super::connection::{Stream, converse};
use super::{Caller, Interface, Listener, SocketError};

/// How much the clients may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections of all users together, root's excepted.
    pub connections: usize,
    /// Connections of one user, root's too: so no user can shut another out.
    pub connections_per_user: usize,
    /// Bytes of one message.
    pub message: usize,
    /// A client that sends nothing for this long is disconnected. The time that a call takes to
    /// be answered does not count.
    pub idle: Duration,
    /// A client that does not read its answer for this long is disconnected.
    pub unread: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 64,
            connections_per_user: 16,
            message: 16 * 1024,
            idle: Duration::from_secs(60),
            unread: Duration::from_secs(10),
        }
    }
}

/// After an accept that failed (out of descriptors or memory), and between two complaints.
const BREATH: Duration = Duration::from_secs(1);
const COMPLAINT: Duration = Duration::from_secs(60);

/// Serves for ever; cancel it by dropping the future. Where there is no socket it says so and serves
/// nobody: a daemon that cannot be asked still does its work. It needs a single-threaded tokio runtime
/// with I/O and time enabled. Each connection gets a clone of `service`, so clones share their
/// state (`Rc<RefCell<…>>`, a channel); calls of two connections interleave where they await.
pub async fn serve<S>(
    listener: Result<Listener, SocketError>,
    service: S,
    interface: Interface,
    limits: Limits,
) where
    S: Service<Stream> + Clone + 'static,
{
    let listener = match listener {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(guppy_event = "no-socket", "nobody can ask: {error}");
            return std::future::pending().await;
        }
    };
    let tasks = LocalSet::new();
    let slots = Rc::new(Slots { limits, taken: RefCell::default() });
    let mut quiet = Quiet(None);
    tasks
        .run_until(async {
            loop {
                let (socket, caller, slot) = match accept(&listener, &slots).await {
                    Ok(accepted) => accepted,
                    Err(refusal) => {
                        quiet.complain(&refusal);
                        if matches!(refusal, Refusal::Accept(_)) {
                            sleep(BREATH).await;
                        }
                        continue;
                    }
                };
                let service = service.clone();
                tasks.spawn_local(async move {
                    let ended = converse(socket, caller, service, interface, limits).await;
                    if let Err(error) = ended {
                        tracing::debug!("a connection failed: {error}");
                    }
                    drop(slot);
                });
            }
        })
        .await
}

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("cannot accept a connection: {0}; trying again")]
    Accept(io::Error),
    #[error("a connection was lost at once: {0}")]
    Lost(io::Error),
    #[error("uid {0} has too many connections: closing the newest")]
    Full(u32),
}

async fn accept(
    listener: &Listener,
    slots: &Rc<Slots>,
) -> Result<(UnixStream, Caller, Slot), Refusal> {
    let (stream, _) = listener.0.accept().await.map_err(Refusal::Accept)?;
    let caller = Caller::at(&stream).map_err(Refusal::Lost)?;
    let slot = Slot::take(slots, caller.uid).ok_or(Refusal::Full(caller.uid))?;
    Ok((stream, caller, slot))
}

/// Says a thing at most once a minute: a hostile client must not fill the journal.
struct Quiet(Option<Instant>);

impl Quiet {
    fn complain(&mut self, refusal: &Refusal) {
        if self.0.is_none_or(|last| last.elapsed() >= COMPLAINT) {
            self.0 = Some(Instant::now());
            tracing::warn!("varlink socket: {refusal}");
        }
    }
}

/// Who holds how many connections.
struct Slots {
    limits: Limits,
    taken: RefCell<HashMap<u32, usize>>,
}

/// One connection of one user, until dropped.
struct Slot {
    slots: Rc<Slots>,
    uid: u32,
}

impl Slot {
    fn take(slots: &Rc<Slots>, uid: u32) -> Option<Self> {
        let mut taken = slots.taken.borrow_mut();
        let all: usize = taken.iter().filter(|(uid, _)| **uid != 0).map(|(_, count)| count).sum();
        let own = taken.get(&uid).copied().unwrap_or(0);
        let full = uid != 0 && all >= slots.limits.connections;
        if full || own >= slots.limits.connections_per_user {
            return None;
        }
        taken.insert(uid, own + 1);
        Some(Self { slots: Rc::clone(slots), uid })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.borrow_mut();
        match taken.get_mut(&self.uid) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.uid);
            }
        }
    }
}
