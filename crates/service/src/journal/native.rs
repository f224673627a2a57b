//! journald's own protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL), a datagram a record.
//!
//! **Architecture Invariant:** it never waits. A journald that hangs with a full queue would hang
//! whoever logs, and a daemon that hangs guards nothing: a record that is not taken is lost.

use std::fmt::{Debug, Write as _};
use std::io;
use std::os::unix::net::UnixDatagram;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

const SOCKET: &str = "/run/systemd/journal/socket";
/// A longer value is cut: a datagram has to fit into the socket's buffer.
const VALUE_AT_MOST: usize = 16 * 1024;

/// Writes records to journald.
pub(super) struct Journal {
    socket: UnixDatagram,
    identifier: String,
}

impl Journal {
    pub(super) fn new(identifier: &str) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, identifier: identifier.to_owned() })
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record(Vec::with_capacity(256));
        record.field("PRIORITY", priority(*event.metadata().level()));
        record.field("SYSLOG_IDENTIFIER", &self.identifier);
        event.record(&mut record);
        // Named at each record, not connected once: a journald that was restarted has a new socket.
        // Whether it was taken is nobody's to know: there is no place to say it.
        let _ = self.socket.send_to(&record.0, SOCKET);
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
    use super::*;

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
