//! The table: what was measured, beside what was aimed at.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::{CALM_SECONDS, INTERVAL, OURS, STARTS, THEIRS};

/// The table, as it grows.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 4]>,
    /// CPU per tick of both at the small size.
    pub(crate) small: (f64, f64),
}

impl Table {
    pub(crate) fn row(&mut self, what: &str, target: Option<f64>, ours: f64, theirs: f64) {
        // As precise as it is printed: three ticks a minute are never exactly three.
        let missed = |most: f64| (ours * 100.0).round() > (most * 100.0).round();
        let target = target.map_or(String::new(), |most| {
            format!("{}{}", if missed(most) { "MISSED: " } else { "" }, text(most))
        });
        self.rows.push([what.to_owned(), target, text(ours), text(theirs)]);
    }

    pub(crate) fn print(&self, versions: &str, kernel: &str) -> String {
        let head = ["", "at most", OURS, THEIRS].map(str::to_owned);
        let mut table = String::new();
        for [what, target, ours, theirs] in std::iter::once(&head).chain(&self.rows) {
            // A string takes whatever is written to it.
            let _ = writeln!(table, "{what:<64} {target:>12} {ours:>20} {theirs:>12}");
        }
        let _ = write!(
            table,
            "
{versions}
on Linux {kernel}, in a container with Debian 13's systemd, D-Bus and logind.
Memory, wake-ups and CPU in each {INTERVAL} s: {CALM_SECONDS} s with 100 quiet connections and 50 processes, in which
one lock is taken, so that D-Bus is used. CPU per tick: one tick a second. The processes sleep, and
both ends of the connections are in the box.
Both run as their packages' units; autosuspend checks Users, ActiveConnection, Load,
NetworkBandwidth and Processes at each turn, {OURS} all it ships.
A wake-up is the end of 0.2 s or more of sleep: what takes a processor out of idle. Voluntary
switches (voluntary_ctxt_switches of all threads) count each wait for an answer, too.
CPU is user and system time on the processor, from schedstat; per tick it is the median.
Targets of the two large sizes: a hundred times what was measured at the small one.
Start to ready: exec until READY=1, or until the first check's line in the log; the median of
{STARTS} starts with warm caches. Binary of autosuspend: its Python files and the interpreter.
Installed sizes: dpkg's; minimal is a Debian that boots, with D-Bus."
        );
        table
    }
}

fn text(value: f64) -> String {
    format!("{value:.*}", if value < 10.0 { 2 } else { usize::from(value < 100.0) })
}

/// The middle one.
pub(crate) fn median(values: &[f64]) -> Result<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
}
