//! The journal as a story: one line a decision or a change, with the fields an operator greps for.
//! `journalctl -u guppy-idle-stopper GUPPY_EVENT=stopping`

use std::time::{Duration, SystemTime};

use service::clock::Boottime;
use tracing::{error, info, warn};

use crate::config::Mode;
use crate::decide::{Activity, Event};

/// MESSAGE_ID of the line that says that the box stops, and why (sd_id128; made for this event).
pub const STOPPING_ID: &str = "d3bfe8a5502146f89673c8173cec0fae";
/// MESSAGE_ID of the warning.
pub const WARNING_ID: &str = "1d29b49df5574c5ea6f85b823a8b625f";
/// MESSAGE_ID of a stop that was called off.
pub const CANCELLED_ID: &str = "3225e75859804e2da71863eb49c4655a";
/// MESSAGE_ID of an order to power off that was not taken.
pub const REFUSED_ID: &str = "f67d9a14d2af43faaa66aeb5da01838f";
/// MESSAGE_ID of a kind of evidence that cannot be read.
pub const UNREADABLE_ID: &str = "0ef1f2443b3145a58ae34611d52c7693";

/// Writes the line of one event.
pub fn tell(event: &Event, now: Boottime) {
    match event {
        Event::Settled => {
            info!(guppy_event = "settled", "the grace period is over: watching");
        }
        Event::Gap { gap, grace } => info!(
            guppy_event = "gap",
            "nobody watched for {} (suspend, a frozen box, or no daemon): nothing is judged for {}",
            span(*gap),
            span(*grace)
        ),
        Event::Active { what, idle } => info!(
            guppy_event = "active",
            guppy_reason = what,
            "active after {} of quiet: {what}",
            span(*idle)
        ),
        Event::Idle { idle, last, left, mode } => info!(
            guppy_event = "idle",
            guppy_reason = last.what,
            "quiet since {} ({}); {} in {} unless something happens",
            described(last, now),
            span(*idle),
            stops(*mode),
            span(*left)
        ),
        Event::Warning { idle, last, left, mode } => warn!(
            guppy_event = "warning",
            message_id = WARNING_ID,
            guppy_reason = last.what,
            "{} in {}: idle {} (last: {})",
            stopping(*mode),
            span(*left),
            span(*idle),
            described(last, now)
        ),
        Event::Cancelled { what } => warn!(
            guppy_event = "cancelled",
            message_id = CANCELLED_ID,
            guppy_reason = what,
            "the stop is called off: {what}"
        ),
        Event::Stopping { idle, last, mode } => warn!(
            guppy_event = "stopping",
            message_id = STOPPING_ID,
            guppy_reason = last.what,
            "{} now: idle {} (last: {})",
            stopping(*mode),
            span(*idle),
            described(last, now)
        ),
        Event::Taken => info!(guppy_event = "powering-off", "the order to power off was taken"),
        Event::Refused { why, wait } => error!(
            guppy_event = "refused",
            message_id = REFUSED_ID,
            guppy_reason = why,
            "could not power off: {why}; next try in {}",
            span(*wait)
        ),
        Event::Unreadable { kind, why, counts_for } => warn!(
            guppy_event = "unreadable",
            message_id = UNREADABLE_ID,
            guppy_reason = why,
            "cannot read {}: {why}; it counts as active for at most {}",
            kind.name(),
            span(*counts_for)
        ),
        Event::Ignored { kind } => warn!(
            guppy_event = "ignored",
            "{} could not be read for so long that it counts no more, until it can be read again",
            kind.name()
        ),
        Event::Readable { kind } => {
            info!(guppy_event = "readable", "{} can be read again", kind.name());
        }
    }
}

const fn stops(mode: Mode) -> &'static str {
    match mode {
        Mode::Stop => "this box stops",
        Mode::Observe => "this box would stop (mode observe)",
    }
}

const fn stopping(mode: Mode) -> &'static str {
    match mode {
        Mode::Stop => "stopping",
        Mode::Observe => "would be stopping (mode observe)",
    }
}

fn described(last: &Activity, now: Boottime) -> String {
    format!("{}, {}", last.what, wall(last.at, now))
}

/// A span in whole seconds, for people: `30min 4s`.
pub fn span(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs())).to_string()
}

/// A moment by the wall clock of now: `2026-11-21T14:02:11Z`.
pub fn wall(moment: Boottime, now: Boottime) -> String {
    let wall = if moment > now {
        SystemTime::now().checked_add(now.until(moment))
    } else {
        SystemTime::now().checked_sub(now.since(moment))
    };
    wall.map_or_else(|| "?".to_owned(), |wall| humantime::format_rfc3339_seconds(wall).to_string())
}
