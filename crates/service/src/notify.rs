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
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
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
        let address = address_of(&std::env::var_os("NOTIFY_SOCKET")?)?;
        Some(Systemd { address, late: Arc::default() })
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
    /// What waits for room in its queue, and is being said by a thread. None: nothing waits.
    late: Arc<Mutex<Option<Vec<String>>>>,
}

impl Systemd {
    /// Says it, or has it said as soon as there is room: by a thread of its own, and all that comes
    /// meanwhile too, in order. A unit whose READY=1 was lost would never have started.
    fn tell(&self, text: String) -> io::Result<()> {
        let mut late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(waiting) = &mut *late {
            if waiting.len() < WAITING_AT_MOST {
                waiting.push(text);
            }
            return Ok(());
        }
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match socket.send_to_addr(text.as_bytes(), &self.address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.set_nonblocking(false)?;
                let (address, waiting) = (self.address.clone(), Arc::clone(&self.late));
                let thread = std::thread::Builder::new().name("notify".to_owned());
                thread.spawn(move || tell_all(&socket, &address, &waiting))?;
                *late = Some(vec![text]);
                Ok(())
            }
            said => said.map(drop),
        }
    }
}

fn tell_all(socket: &UnixDatagram, address: &SocketAddr, late: &Mutex<Option<Vec<String>>>) {
    loop {
        let texts = match &mut *late.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(waiting) if !waiting.is_empty() => std::mem::take(waiting),
            nothing => {
                *nothing = None;
                return;
            }
        };
        for text in texts {
            if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
                tracing::debug!("cannot notify systemd: {error}");
            }
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
            Systemd { address: address_of(path.as_os_str()).unwrap(), late: Arc::default() };
        // Until its queue is full, and beyond.
        let mut told = 0;
        while systemd.late.lock().unwrap().is_none() {
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
