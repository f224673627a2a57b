//! journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), a datagram a record.
//!
//! **Architecture Invariant:** a journald that hangs with a full queue hangs nobody: a daemon that
//! hangs guards nothing. A queue that is full for a moment, as a burst of anybody's records
//! makes it (measured: of 400 lines that a daemon wrote as fast as it could, 86 were lost), is waited
//! for; but once one wait was in vain there is none before a record is taken.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SendFlags, SocketAddrUnix, sendto};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const SOCKET: &str = "/run/systemd/journal/socket";
/// A longer value is cut: a datagram has to fit into the socket's buffer.
const VALUE_AT_MOST: usize = 16 * 1024;
/// journald takes a full queue's 512 records in some ten milliseconds.
const WAIT: Duration = Duration::from_millis(200);

/// Writes records to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    /// Named at each record, not connected once: a journald that was restarted has a new socket.
    address: SocketAddrUnix,
    identifier: String,
    /// The last record was not taken.
    hangs: AtomicBool,
}

impl Journal {
    pub(super) fn new(identifier: &str) -> io::Result<Self> {
        Self::at(SOCKET, identifier)
    }

    fn at(path: &str, identifier: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(WAIT))?;
        let address = SocketAddrUnix::new(path)?;
        let hangs = AtomicBool::new(false);
        Ok(Self { socket, address, identifier: identifier.to_owned(), hangs })
    }

    fn wait(&self) -> Duration {
        self.socket.write_timeout().ok().flatten().unwrap_or(WAIT)
    }

    fn send(&self, record: &[u8]) {
        let flags = match self.hangs.load(Ordering::Relaxed) {
            true => SendFlags::DONTWAIT | SendFlags::NOSIGNAL,
            false => SendFlags::NOSIGNAL,
        };
        // One that was not taken is lost: there is no place to say it.
        let begin = Instant::now();
        let taken = loop {
            match sendto(&self.socket, record, flags, &self.address) {
                // A child that ends may interrupt a wait with a limit, whatever its signal's handler.
                Err(Errno::INTR) if begin.elapsed() < self.wait() => {}
                taken => break taken,
            }
        };
        self.hangs.store(taken.is_err(), Ordering::Relaxed);
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record(Vec::with_capacity(256));
        record.field("PRIORITY", priority(*event.metadata().level()));
        record.field("SYSLOG_IDENTIFIER", &self.identifier);
        event.record(&mut record);
        self.send(&record.0);
    }
}

/// sd-daemon(3)'s numbers.
const fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        Level::DEBUG | Level::TRACE => "7",
    }
}

/// The fields of one record.
struct Record(Vec<u8>);

impl Record {
    /// `NAME=value` on a line of its own, or with its length where the value has lines itself.
    fn field(&mut self, name: &str, value: &str) {
        let mut end = value.len().min(VALUE_AT_MOST);
        while !value.is_char_boundary(end) {
            end -= 1;
        }
        let value = value.get(..end).unwrap_or_default();
        self.0.extend(name.bytes().map(|byte| byte.to_ascii_uppercase()));
        if value.contains('\n') {
            self.0.push(b'\n');
            self.0.extend((value.len() as u64).to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend(value.bytes());
        self.0.push(b'\n');
    }
}

impl Visit for Record {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.field(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = write!(text, "{value:?}");
        self.field(field.name(), &text);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    /// A journald whose queue is full, and a daemon's writer to it.
    fn full() -> (tempfile::TempDir, UnixDatagram, Journal) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journald = UnixDatagram::bind(&path).unwrap();
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        while other.send_to(b"MESSAGE=other\n", &path).is_ok() {}
        let journal = Journal::at(path.to_str().unwrap(), "test").unwrap();
        (folder, journald, journal)
    }

    #[test]
    fn a_queue_that_others_have_filled_is_waited_for() {
        let (_folder, journald, journal) = full();
        journal.socket.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        let task = std::sync::OnceLock::new();
        std::thread::scope(|scope| {
            let daemon = scope.spawn(|| {
                task.set(fs::read_link("/proc/thread-self").unwrap()).unwrap();
                journal.send(b"MESSAGE=stopping\n");
            });
            // It has ended, or it sleeps in the kernel: nothing else makes it wait.
            let waits = || {
                let stat = std::path::Path::new("/proc").join(task.get()?).join("stat");
                Some(fs::read_to_string(stat).ok()?.rsplit_once(") ")?.1.starts_with('S'))
            };
            while !daemon.is_finished() && waits() != Some(true) {
                std::thread::yield_now();
            }
            journald.set_nonblocking(true).unwrap();
            let mut buffer = [0; 64];
            let mut found = false;
            while !found {
                let is_over = daemon.is_finished();
                match journald.recv(&mut buffer) {
                    Ok(length) => found = buffer.starts_with(b"MESSAGE=stopping") && length == 17,
                    Err(_) => assert!(!is_over, "the record was lost"),
                }
            }
        });
    }

    #[test]
    fn a_wait_that_is_interrupted_goes_on() {
        let (_folder, journald, journal) = full();
        journal.socket.set_write_timeout(Some(Duration::from_secs(60))).unwrap();
        std::thread::scope(|scope| {
            let daemon = scope.spawn(|| journal.send(b"MESSAGE=stopping\n"));
            // A child ends while its parent starts another, with all signals held back for that: the
            // kernel then gives its SIGCHLD to any other thread (in 5 of 5 tries within 70 ms).
            for _ in 0..200 {
                let children: Vec<_> =
                    (0..2).map(|_| std::process::Command::new("true").spawn().unwrap()).collect();
                for mut child in children {
                    assert!(child.wait().unwrap().success());
                }
            }
            let lost = daemon.is_finished();
            journald.set_nonblocking(true).unwrap();
            let mut buffer = [0; 64];
            while !daemon.is_finished() {
                let _ = journald.recv(&mut buffer);
            }
            assert!(!lost, "the record was lost");
        });
    }

    #[test]
    fn one_that_hangs_is_waited_for_once() {
        let (_folder, journald, journal) = full();
        journal.send(b"MESSAGE=first\n");
        // This would end the test's patience.
        journal.socket.set_write_timeout(Some(Duration::from_secs(3600))).unwrap();
        journal.send(b"MESSAGE=second\n");
        let mut buffer = [0; 64];
        journald.recv(&mut buffer).unwrap();
        journal.send(b"MESSAGE=third\n");
        assert!(!journal.hangs.load(Ordering::Relaxed), "it has room again");
    }

    #[test]
    fn a_value_with_lines_is_given_with_its_length() {
        let mut record = Record(Vec::new());
        record.field("guppy_event", "stop");
        record.field("message", "one\ntwo");
        let mut wanted = b"GUPPY_EVENT=stop\nMESSAGE\n".to_vec();
        wanted.extend(7_u64.to_le_bytes());
        wanted.extend(b"one\ntwo\n");
        assert_eq!(record.0, wanted);
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let mut record = Record(Vec::new());
        record.field("message", &"ä".repeat(VALUE_AT_MOST));
        assert!(record.0.len() < VALUE_AT_MOST + 32);
        assert!(String::from_utf8(record.0).is_ok());
    }
}
