//! What a daemon tells systemd: ready, reloading, stopping, its status line, and that it is alive
//! (sd_notify(3)). Without `$NOTIFY_SOCKET` nothing is said and nothing fails.
//!
//! Nobody waits for systemd: a datagram to a PID 1 that reads none (it hangs, or is stopped by a debugger)
//! blocks its sender as soon as the queue is full (net.unix.max_dgram_qlen, unix(7)), and a daemon has
//! work to do then as well.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

/// So many messages wait for a PID 1 that is busy; what comes after them is dropped.
const WAITING_AT_MOST: usize = 64;

/// The daemon serves.
pub fn ready() {
    say(&[NotifyState::Ready]);
}

/// The one line that `systemctl status` shows.
pub fn status(text: &str) {
    // A newline would end the field and begin another.
    say(&[NotifyState::Status(&text.replace(['\n', '\r'], " "))]);
}

/// The config is being read again; [`ready`] ends it. systemd wants CLOCK_MONOTONIC with it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => say(&[NotifyState::Reloading, now]),
        Err(_) => say(&[NotifyState::Reloading]),
    }
}

/// The daemon is about to end.
pub fn stopping() {
    say(&[NotifyState::Stopping]);
}

fn say(state: &[NotifyState<'_>]) {
    static SYSTEMD: OnceLock<Option<Systemd>> = OnceLock::new();
    let systemd = SYSTEMD.get_or_init(|| {
        let address = std::env::var_os("NOTIFY_SOCKET")?;
        address_of(&address).map(|address| Systemd { address, late: OnceLock::new() })
    });
    let Some(systemd) = systemd else { return };
    let text: String = state.iter().map(|state| format!("{state}\n")).collect();
    if let Err(error) = systemd.tell(text) {
        tracing::debug!("cannot notify systemd: {error}");
    }
}

/// A path, or the name of an abstract socket behind an `@` (sd_notify(3)). None: neither.
fn address_of(socket: &OsStr) -> Option<SocketAddr> {
    match socket.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(socket).ok(),
        _ => None,
    }
}

/// Who listens.
struct Systemd {
    address: SocketAddr,
    /// The way to the thread that waits for it, since its queue was full.
    late: OnceLock<SyncSender<String>>,
}

impl Systemd {
    /// Says it, or has it said later.
    fn tell(&self, text: String) -> io::Result<()> {
        if let Some(late) = self.late.get() {
            return late.try_send(text).map_err(io::Error::other);
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match socket.send_to_addr(text.as_bytes(), &self.address) {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.tell_later(text),
            Err(error) => Err(error),
        }
    }

    /// In a thread of its own, and all that comes after it too: a unit whose READY=1 was lost would
    /// never have started.
    fn tell_later(&self, text: String) -> io::Result<()> {
        let (late, waiting) = sync_channel(WAITING_AT_MOST);
        let address = self.address.clone();
        let thread = std::thread::Builder::new().name("notify".to_owned());
        thread.spawn(move || tell_all(&address, &waiting))?;
        self.late.get_or_init(|| late).try_send(text).map_err(io::Error::other)
    }
}

fn tell_all(address: &SocketAddr, waiting: &Receiver<String>) {
    for text in waiting {
        let said = UnixDatagram::unbound()
            .and_then(|socket| socket.send_to_addr(text.as_bytes(), address));
        if let Err(error) = said {
            tracing::debug!("cannot notify systemd: {error}");
        }
    }
}

/// systemd's watchdog: it kills the daemon when it hears nothing for the unit's WatchdogSec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    deadline: Option<Duration>,
}

impl Watchdog {
    /// From `$WATCHDOG_USEC`, if `$WATCHDOG_PID` is this process; else a watchdog that asks for
    /// nothing.
    pub fn from_env() -> Self {
        Self { deadline: sd_notify::watchdog_enabled() }
    }

    /// How long systemd waits. None: it does not.
    pub const fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// How often to ping: half of what systemd waits. None: not at all.
    pub fn interval(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline / 2)
    }

    /// "Alive." Only the loop that makes progress may say so, after a round that did: a task of
    /// its own would go on pinging for a loop that hangs.
    pub fn ping(&self) {
        if self.deadline.is_some() {
            say(&[NotifyState::Watchdog]);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn said(listener: &UnixDatagram) -> String {
        let mut text = [0; 64];
        let long = listener.recv(&mut text).unwrap();
        String::from_utf8(text.get(..long).unwrap().to_owned()).unwrap()
    }

    #[test]
    fn nobody_waits_for_a_systemd_that_does_not_listen_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        let systemd =
            Systemd { address: address_of(path.as_os_str()).unwrap(), late: OnceLock::new() };
        // Until its queue is full, and beyond.
        let mut told = 0;
        while systemd.late.get().is_none() {
            systemd.tell(format!("{told}\n")).unwrap();
            told += 1;
        }
        assert!(told > 1, "the queue was full at once");
        systemd.tell("READY=1\n".to_owned()).unwrap();
        for at in 0..told {
            assert_eq!(said(&listener), format!("{at}\n"));
        }
        assert_eq!(said(&listener), "READY=1\n");
    }

    #[test]
    fn what_is_no_address_is_nobody() {
        assert!(address_of(OsStr::new("vsock:2:1234")).is_none());
        assert!(address_of(OsStr::new("")).is_none());
        assert!(address_of(OsStr::new("@guppy")).is_some());
    }
}
