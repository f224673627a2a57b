//! A container in which a keeper keeps one shell, alice's.

use anyhow::{Context as _, Result};
use lab::{Container, Release, wait};

use crate::container::Contained;
use crate::machine::LONG;

/// The box.
pub(crate) struct Kept {
    pub(crate) contained: Contained,
}

/// One session's processes, as numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pids {
    pub(crate) server: String,
    pub(crate) shim: String,
    pub(crate) agent: String,
}

impl Kept {
    /// One after the other for each release of this run.
    pub(crate) fn each(body: impl Fn(&Self) -> Result<()>) -> Result<()> {
        for release in Release::of_this_run() {
            body(&Self::boot(*release)?).context(release.name())?;
        }
        Ok(())
    }

    /// A box with the role, two users, and a keeper for one of them that keeps one shell.
    pub(crate) fn boot(release: Release) -> Result<Self> {
        let it = Self { contained: Contained::boot(release, |_| Ok(()))? };
        it.sh("useradd -m -s /bin/bash alice && useradd -m -s /bin/bash bob")?;
        it.intent("shop+fix", "")?;
        it.sh("systemctl enable --now guppy-session-keeper@alice.service")?;
        it.until_started("shop+fix")?;
        Ok(it)
    }

    /// The container itself.
    pub(crate) fn container(&self) -> &Container {
        &self.contained.container
    }

    /// As root, what must succeed.
    pub(crate) fn sh(&self, shell: &str) -> Result<String> {
        self.container().sh_within(LONG, shell)?.ok()
    }

    /// As a login over ssh would run it.
    pub(crate) fn alice(&self, shell: &str) -> Result<String> {
        let quoted = shell.replace('\'', r"'\''");
        self.sh(&format!("cd / && runuser -u alice -- sh -c '{quoted}'"))
    }

    /// Declares a shell with these words, quoted and with commas.
    pub(crate) fn intent(&self, stem: &str, argv: &str) -> Result<()> {
        let folder = "/home/alice/.config/guppy/sessions.d";
        let text = format!("agent = \"shell\"\nworktree = \"/home/alice\"\nargv = [{argv}]\n");
        self.container().write_file(&format!("{folder}/{stem}.toml"), text.as_bytes())?;
        self.sh("chown -R alice: /home/alice/.config").map(drop)
    }

    /// A field of what the shim has left; Null where it has left nothing.
    pub(crate) fn report(&self, stem: &str, field: &str) -> Result<serde_json::Value> {
        let file = format!("/home/alice/.local/state/guppy/reports/{stem}.json");
        let text = self.container().sh(&format!("cat {file}"))?.stdout;
        let report: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        Ok(report.get(field).cloned().unwrap_or_default())
    }

    /// Waits until a session has an agent that lives.
    pub(crate) fn until_started(&self, stem: &str) -> Result<()> {
        wait::until_true(&format!("{stem} to run"), LONG, || {
            // A report may be older than what has ended its agent.
            let pid = self.report(stem, "pid")?.to_string();
            Ok(self.report(stem, "phase")? == "started" && self.is_alive(&pid)?)
        })
        .with_context(|| {
            let journal = self.container().sh("journalctl --no-pager -u 'guppy*' | tail -40");
            format!("{:?} {journal:?}", self.report(stem, "refused"))
        })
    }

    /// Its processes, as the shim has left them.
    pub(crate) fn pids(&self, stem: &str) -> Result<Pids> {
        let server = self.sh("systemctl show -P MainPID guppy-tmux@alice.service")?;
        let shim = self.report(stem, "shim_pid")?.to_string();
        Ok(Pids { server, shim, agent: self.report(stem, "pid")?.to_string() })
    }

    /// Whether a process is there.
    pub(crate) fn is_alive(&self, pid: &str) -> Result<bool> {
        Ok(self.container().sh(&format!("kill -0 {pid}"))?.status == 0)
    }
}
