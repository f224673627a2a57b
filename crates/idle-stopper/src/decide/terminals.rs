//! Terminals: somebody typed when the access stamp differs from the last tick's. Its age is never
//! used: it is wall time, and it moves in steps of eight seconds (drivers/tty/tty_io.c,
//! tty_update_time).

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use super::verdict::{Verdict, some_of};
use crate::sense::Terminal;

/// A key read within the same eight seconds as the one before moves no stamp, so the last key may
/// be this much later than the last move.
pub const STAMP_STEP: Duration = Duration::from_secs(8);

/// The stamps of the last tick. None before the first: then nothing can have moved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Stamps(Option<BTreeMap<String, i128>>);

/// Numbers of terminals are reused: the session leader and its start tell one from the next.
fn identity(terminal: &Terminal) -> String {
    format!("{} {} {}", terminal.name, terminal.leader, terminal.leader_start)
}

pub(super) fn judge(stamps: &mut Stamps, terminals: &[Terminal], now: Boottime) -> Verdict {
    let current: BTreeMap<String, i128> =
        terminals.iter().map(|terminal| (identity(terminal), terminal.atime)).collect();
    let Some(before) = stamps.0.replace(current) else {
        return Verdict::Quiet(format!("{} open, first look", terminals.len()));
    };
    let touched: Vec<&str> = terminals
        .iter()
        .filter(|terminal| match before.get(&identity(terminal)) {
            Some(stamp) => *stamp != terminal.atime,
            None => is_arrival(terminal),
        })
        .map(|terminal| terminal.what.as_str())
        .collect();
    if touched.is_empty() {
        Verdict::Quiet(format!("{} open, no key since the last tick", terminals.len()))
    } else {
        Verdict::Active { at: now, detail: format!("typing: {}", some_of(touched)) }
    }
}

/// Whoever has just logged in is there before the first key. A program opens panes and ptys of its
/// own at any hour, and nobody has a terminal without a session leader.
fn is_arrival(terminal: &Terminal) -> bool {
    terminal.leader != 0
        && (terminal.what.starts_with("ssh ") || terminal.what.starts_with("Tailscale SSH"))
}
