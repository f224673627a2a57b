//! Where tracing's records go: to the journal with their fields when stderr is connected to it,
//! else to stderr as text.
//!
//! A field keeps its name in capitals: `guppy_event` becomes `GUPPY_EVENT=`, `message_id` becomes
//! `MESSAGE_ID=`. `journalctl -p` works: error 3, warn 4, info 6, debug 7.

mod native;

use std::io;
use std::os::fd::AsFd;
use std::panic;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;

/// From now on records of level info and above are written, a panic's among them. `identifier`
/// is SYSLOG_IDENTIFIER (`guppy-idle-stopper`). Only the first call counts.
pub fn init(identifier: &str) {
    let journal = if connected(std::env::var("JOURNAL_STREAM").ok().as_deref(), io::stderr()) {
        native::Journal::new(identifier).ok()
    } else {
        None
    };
    let set = match journal {
        Some(journal) => tracing::subscriber::set_global_default(
            Registry::default().with(LevelFilter::INFO).with(journal),
        ),
        None => tracing::subscriber::set_global_default(
            tracing_subscriber::fmt()
                .compact()
                .with_ansi(false)
                .with_target(false)
                .without_time()
                .with_max_level(LevelFilter::INFO)
                .with_writer(io::stderr)
                .finish(),
        ),
    };
    if set.is_ok() {
        panic::set_hook(Box::new(|panic| {
            tracing::error!(guppy_event = "panic", "{}", panic.to_string().replace('\n', " "));
        }));
    }
}

/// Whether `stream` is the socket that `$JOURNAL_STREAM` names (systemd.exec(5)): it may be set
/// in a process whose stderr was redirected since.
fn connected(journal_stream: Option<&str>, stream: impl AsFd) -> bool {
    let Some((device, inode)) = journal_stream.and_then(|named| named.split_once(':')) else {
        return false;
    };
    let Ok(stat) = rustix::fs::fstat(stream) else { return false };
    device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino)
}
