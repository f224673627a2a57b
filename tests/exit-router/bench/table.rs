//! The table: what was measured, beside what was aimed at.

use std::fmt::Write as _;

use crate::measure::{REST_SECONDS, ROUNDS};

/// What a number is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    None,
    AtMost(f64),
    AtLeast(f64),
}

/// The table, as it grows.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<(String, String, String)>,
}

impl Table {
    pub(crate) fn row(&mut self, what: &str, value: f64, target: Target) {
        let (words, missed) = match target {
            Target::None => (String::new(), false),
            Target::AtMost(most) => (format!("at most {most}"), value > most),
            Target::AtLeast(least) => (format!("at least {least}"), value < least),
        };
        let words = if missed { format!("MISSED: {words}") } else { words };
        let places = if value < 10.0 { 2 } else { usize::from(value < 100.0) };
        self.rows.push((what.to_owned(), words, format!("{value:.places$}")));
    }

    pub(crate) fn print(&self, versions: &str, kernel: &str) -> String {
        let mut table = String::new();
        for (what, target, value) in &self.rows {
            // A string takes whatever is written to it.
            let _ = writeln!(table, "{what:<58} {target:>22} {value:>9}");
        }
        let _ = write!(
            table,
            "
{versions}
on Linux {kernel}, in a container with Debian 13's systemd.
Times and throughputs are medians of {ROUNDS}. Throughput is TCP from the laptop by Tailscale, the box
and wireguard-go to a server, all on this machine, in turns: with the agent; with the agent stopped,
its rules, routes and table flushed and the same made again with ip and nft (the ratio is the median
of those of each turn); with no policy at all, so
by the box's uplink and without the VPN. At rest: {REST_SECONDS} s without an event; the watchdog's
wake-ups are among them."
        );
        table
    }
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
