//! The table: what was measured, beside what was aimed at and what others need for the same work.

use std::fmt::Write as _;

use crate::{CALM_SECONDS, CRASHES, LISTINGS};

/// The table, as it grows.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<[String; 6]>,
}

/// One line. None: that program does no such work.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) at_most: Option<f64>,
    pub(crate) ours: f64,
    pub(crate) tmux: Option<f64>,
    pub(crate) tmuxp: Option<f64>,
    pub(crate) shpool: Option<f64>,
}

impl Table {
    pub(crate) fn row(&mut self, what: &str, row: &Row) {
        let target = row.at_most.map_or(String::new(), |most| {
            let missed = (row.ours * 100.0).round() > (most * 100.0).round();
            format!("{}{}", if missed { "MISSED: " } else { "" }, text(Some(most)))
        });
        let [tmux, tmuxp, shpool] = [row.tmux, row.tmuxp, row.shpool].map(text);
        self.rows.push([what.to_owned(), target, text(Some(row.ours)), tmux, tmuxp, shpool]);
    }

    pub(crate) fn print(&self, versions: &str, kernel: &str) -> String {
        let head = ["", "at most", "guppy", "tmux", "tmuxp", "shpool"].map(str::to_owned);
        let mut table = String::new();
        for [what, target, ours, tmux, tmuxp, shpool] in std::iter::once(&head).chain(&self.rows) {
            // A string takes whatever is written to it.
            let _ = writeln!(
                table,
                "{what:<52} {target:>13} {ours:>8} {tmux:>8} {tmuxp:>8} {shpool:>8}"
            );
        }
        let _ = write!(
            table,
            "
{versions}
on Linux {kernel}, in a container with Debian 13's systemd.
Start to all live: from `systemctl start` (tmuxp: from `tmuxp load`, shpool: from the first
`shpool attach --background`) until the last agent has noted that it runs. Of guppy this is a return:
each agent goes on with its conversation, in its own control group, with the environment of a login
shell. starts.stagger is 0 here; by default it adds 2 s an agent, so that agents do not starve each
other. After a reboot tmuxp and shpool start nothing by themselves, and nobody but guppy resumes.
At rest: VmRSS, voluntary context switches and processor time in {CALM_SECONDS} s with default ticks; that
of the keeper is its unit's, with the clients of tmux that it starts.
Crash to the agent back: SIGKILL until the next one notes that it runs, less the backoff of 1 s that
is set here (30 s by default); the median of {CRASHES}.
Listings: the median of {LISTINGS}, taken in turns: `guppy ls`, `tmux list-panes -a`, `shpool list`.
tmux-resurrect and tmux-continuum are in no registry as packages: Debian has a manager that clones
plugins from git, so they are not measured."
        );
        table
    }
}

fn text(value: Option<f64>) -> String {
    value.map_or_else(
        || "-".to_owned(),
        |value| format!("{value:.*}", if value < 10.0 { 2 } else { usize::from(value < 100.0) }),
    )
}

/// The middle one.
pub(crate) fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}
