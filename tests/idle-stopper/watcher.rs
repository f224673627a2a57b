//! Daemons beside the installed one, each shown a single kind of evidence: what keeps such a daemon
//! from stopping the box suffices alone.

use anyhow::{Context as _, Result, ensure};

use crate::machine::{Box, LONG, config, detail_of, journal_of, state_of};

const KINDS: [&str; 11] = [
    "terminals",
    "commands",
    "tcp",
    "cpu",
    "disk",
    "network",
    "builds",
    "inhibitors",
    "packages",
    "holds",
    "checks",
];

/// A config with one kind of evidence switched on.
pub(crate) fn only(kind: &str) -> String {
    let switches: String =
        KINDS.iter().map(|each| format!("{each} = {}\n", *each == kind)).collect();
    // Of the CPU's two floors only one unit's counts: what others use in all must not help it. With
    // a dozen daemons on one emulated processor the work gets no more than a third of it.
    let config = config("")
        .replace("box_cores = 0.75", "box_cores = 64.0")
        .replace("unit_cores = 0.3", "unit_cores = 0.15");
    format!("{config}\n[evidence]\n{switches}")
}

/// The installed program, run by the same user in mode observe, with one kind of evidence on.
pub(crate) struct Watcher {
    pub(crate) kind: &'static str,
    /// What its evidence must show: the work that was begun for it.
    work: &'static str,
}

impl Watcher {
    /// Starts one. `work` is a part of what it must tell of the work that it watches.
    pub(crate) fn start(it: &Box, kind: &'static str, work: &'static str) -> Result<Self> {
        let dir = format!("/run/watch-{kind}");
        it.vm.write_file(
            &format!("{dir}.toml"),
            format!("mode = \"observe\"\n{}", only(kind)).as_bytes(),
        )?;
        // That the unit's sandbox hides nothing is what the installed daemon is asked for, and what
        // `blindness` is about. Its slice is the installed unit's, so that it is no work of the box.
        it.vm
            .sh(&format!(
                "install -d -o guppy-idle-stopper {dir} && systemd-run --quiet --unit=guppy-watch-{kind} \
                 --slice=guppy-idle-stopper.slice -p User=guppy-idle-stopper -p NoNewPrivileges=yes \
                 -p CapabilityBoundingSet= guppy-idle-stopper --config {dir}.toml --config-dir /nowhere \
                 --socket {dir}/sock --state-dir {dir}"
            ))?
            .ok()?;
        Ok(Self { kind, work })
    }

    /// The option that has `guppy` ask this daemon.
    pub(crate) fn socket(&self) -> String {
        format!("--socket /run/watch-{}/sock", self.kind)
    }

    /// Waits until its evidence has this state; before each look somebody may do something.
    pub(crate) fn wait_state_while(
        &self,
        it: &Box,
        wanted: &str,
        mut meanwhile: impl FnMut() -> Result<()>,
    ) -> Result<()> {
        lab::wait::until_true(&format!("{} to be {wanted}", self.kind), LONG, || {
            meanwhile()?;
            let explained = it.explain_at(&self.socket());
            Ok(explained.is_ok_and(|explained| {
                state_of(&explained, self.kind).is_ok_and(|state| state == wanted)
            }))
        })
        .with_context(|| format!("{:#?}", it.explain_at(&self.socket())))
    }

    /// Fails unless what it watches is seen now, and is all that kept the box up since a moment
    /// of the guest's.
    pub(crate) fn has_kept_up(&self, it: &Box, since: f64) -> Result<()> {
        let explained = it.explain_at(&self.socket())?;
        ensure!(
            !self.would_have_stopped(it, since)?,
            "{} alone would have stopped the box: {explained:#}",
            self.kind
        );
        // Between two keys a terminal is quiet; all else is active at every look.
        let state = state_of(&explained, self.kind)?;
        let is_between_keys = self.kind == "terminals" && state == "quiet";
        if is_between_keys {
            return Ok(());
        }
        let detail = detail_of(&explained, self.kind)?;
        ensure!(
            state == "active" && detail.contains(self.work),
            "{} is not kept up by {}: {explained:#}",
            self.kind,
            self.work
        );
        Ok(())
    }

    /// Whether it would have stopped the box since a moment of the guest's.
    pub(crate) fn would_have_stopped(&self, it: &Box, since: f64) -> Result<bool> {
        let lines = journal_of(&it.vm, &format!("guppy-watch-{}.service", self.kind), 0)?;
        Ok(lines.iter().any(|line| line.event == "stopping" && line.at > since))
    }
}
