//! The kinds of work of a soak: each begun and ended at moments that are known.

use anyhow::Result;
use lab::Terminal;
use lab::process::Spawned;

use super::judge::Span;
use crate::machine::{Box, LONG, TICK};
use crate::survives::{DISK_COPY, DPKG_LOCK, serve_slowly};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Keys,
    Command,
    Cycles,
    Download,
    DiskCopy,
    Hold,
    Inhibitor,
    PackageLock,
    Check,
}

impl Kind {
    pub(super) const ALL: [Self; 9] = [
        Self::Keys,
        Self::Command,
        Self::Cycles,
        Self::Download,
        Self::DiskCopy,
        Self::Hold,
        Self::Inhibitor,
        Self::PackageLock,
        Self::Check,
    ];

    /// Seconds from its begin until every look sees it: a rate has to fill its window, of 6 s, and
    /// may be a spike for as long.
    fn latency(self) -> f64 {
        match self {
            Self::Cycles | Self::Download | Self::DiskCopy => 12.0 + TICK,
            // What a check says at one tick is read at the next.
            Self::Check => 3.0 * TICK,
            _ => TICK,
        }
    }

    /// The service that does it, where one does.
    fn service(self, it: &Box) -> Option<(&'static str, String)> {
        let (name, script) = match self {
            Self::Cycles => ("soak-cycles", "while :; do :; done".to_owned()),
            Self::Download => (
                "soak-download",
                format!("exec curl -s -o /dev/null http://{}:8080/", it.client.address()),
            ),
            Self::DiskCopy => ("soak-disk", DISK_COPY.to_owned()),
            Self::Inhibitor => (
                "soak-inhibitor",
                "exec systemd-inhibit --what=shutdown --who=soak --why=copying sleep 100000"
                    .to_owned(),
            ),
            Self::PackageLock => ("soak-lock", DPKG_LOCK.to_owned()),
            Self::Keys | Self::Command | Self::Hold | Self::Check => return None,
        };
        Some((name, script))
    }
}

/// One piece of work under way.
pub(super) struct Work {
    pub(super) kind: Kind,
    /// Moments of the guest's: before it was begun, when it was there, and the last key.
    asked: f64,
    there: f64,
    key: Option<(f64, f64)>,
    command: Option<Spawned>,
    hold: Option<String>,
}

impl Work {
    pub(super) fn begin(it: &Box, kind: Kind) -> Result<Self> {
        let asked = it.uptime()?;
        let mut work = Self { kind, asked, there: asked, key: None, command: None, hold: None };
        if let Some((name, script)) = kind.service(it) {
            it.vm.service(name, &script)?;
        }
        match kind {
            Kind::Command => {
                let command = "exec sleep 54321";
                work.command = Some(it.client.ssh_spawn(&it.key, &it.vm, "dev", "", command)?);
                wait_shell(it, "pgrep -fx 'sleep 54321'")?;
            }
            Kind::Hold => work.hold = Some(it.hold("a walk")?),
            Kind::Check => it.vm.sh("touch /run/queue-is-full")?.ok().map(drop)?,
            Kind::Inhibitor => wait_shell(it, "systemd-inhibit --list --no-legend | grep -q soak")?,
            Kind::PackageLock => wait_shell(it, LOCK_IS_HELD)?,
            Kind::Keys | Kind::Cycles | Kind::Download | Kind::DiskCopy => {}
        }
        work.there = it.uptime()?;
        Ok(work)
    }

    /// Presses a key, and notes when.
    pub(super) fn press_key(&mut self, it: &Box, shell: &mut Terminal) -> Result<()> {
        let before = it.uptime()?;
        shell.type_keys(" ")?;
        let after = it.uptime()?;
        if self.key.is_none() {
            // What else is begun at once may take its time: typing is there with the first key.
            self.there = after;
        }
        self.key = Some((before, after));
        Ok(())
    }

    pub(super) fn end(self, it: &Box) -> Result<Span> {
        let ending = it.uptime()?;
        if let Some((name, _)) = self.kind.service(it) {
            it.vm.sh(&format!("systemctl stop {name}"))?.ok()?;
        }
        if let Some(command) = self.command {
            drop(command);
            wait_shell(it, "! pgrep -f '[s]shd.*: dev@notty'")?;
        }
        if let Some(release) = self.hold {
            it.vm.sh(&release)?.ok()?;
        }
        if self.kind == Kind::Check {
            it.vm.sh("rm /run/queue-is-full")?.ok()?;
        }
        let (seen_until, ended) = match self.key {
            Some((before, after)) => (before, after),
            None => (ending, it.uptime()?),
        };
        Ok(Span {
            what: format!("{:?}", self.kind),
            began: self.asked,
            seen_from: self.there + self.kind.latency(),
            seen_until,
            ended,
        })
    }
}

/// What the work needs, made once: a check, and where to download from.
pub(super) fn prepare(it: &Box) -> Result<Spawned> {
    it.vm
        .sh("printf '#!/bin/sh\nexec test -e /run/queue-is-full\n' >/etc/guppy/idle-stopper.checks.d/queue && \
             chmod 755 /etc/guppy/idle-stopper.checks.d/queue")?
        .ok()?;
    serve_slowly(it)
}

fn wait_shell(it: &Box, shell: &str) -> Result<()> {
    lab::wait::until_true(shell, LONG, || Ok(it.vm.sh(shell)?.status == 0))
}

const LOCK_IS_HELD: &str =
    "i=$(stat -c %i /var/lib/dpkg/lock-frontend) && grep -q \":$i \" /proc/locks";
