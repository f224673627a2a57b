//! What a test asks of the system inside a machine.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Vm;
use crate::agent::Running;
use crate::process::{Output, PATIENCE};

impl Vm {
    /// Runs a shell command as root to its end, within a minute.
    ///
    /// It runs on no terminal, in no session, in `qemu-guest-agent.service`: no sign of a user.
    /// Work that is to be seen as work is started by [`Self::service`] or over ssh.
    pub fn sh(&self, shell: &str) -> Result<Output> {
        self.sh_within(PATIENCE, shell)
    }

    /// Runs a shell command as root to its end.
    pub fn sh_within(&self, within: Duration, shell: &str) -> Result<Output> {
        self.running()?;
        self.agent.run(shell, b"", within)
    }

    /// Starts a shell command as root and does not wait; see [`Self::ended`].
    pub fn spawn(&self, shell: &str) -> Result<Running> {
        self.running()?;
        self.agent.start(shell, b"")
    }

    /// What a command started by [`Self::spawn`] left behind once it has ended. To be had once.
    pub fn ended(&self, running: Running) -> Result<Option<Output>> {
        self.agent.ended(running)
    }

    /// Starts a shell command as a transient service of the guest's systemd, in a control group
    /// of its own.
    pub fn service(&self, unit: &str, shell: &str) -> Result<()> {
        let quoted = shell.replace('\'', r"'\''");
        let command = format!("systemd-run --quiet --collect --unit={unit} bash -c '{quoted}'");
        self.sh(&command)?.ok().with_context(|| format!("cannot start {unit}"))?;
        Ok(())
    }

    /// Writes a file, its folders too.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<()> {
        self.running()?;
        // The agent's line takes a bounded request.
        let (first, rest) = content.split_at(content.len().min(256 * 1024));
        let make = format!("path='{path}'; mkdir -p \"${{path%/*}}\" && cat >\"$path\"");
        self.agent.run(&make, first, PATIENCE)?.ok()?;
        for chunk in rest.chunks(256 * 1024) {
            self.agent.run(&format!("cat >>'{path}'"), chunk, PATIENCE)?.ok()?;
        }
        Ok(())
    }

    /// Reads a file as text.
    pub fn read_file(&self, path: &str) -> Result<String> {
        let output = self.sh(&format!("cat '{path}'"))?;
        if output.status != 0 {
            bail!("cannot read {path} in the guest: {}", output.stderr);
        }
        Ok(output.stdout)
    }

    /// Waits until systemd has finished booting and every interface has its address; gives
    /// `running` or `degraded`.
    pub fn wait_booted(&self, within: Duration) -> Result<String> {
        let output = self.sh_within(within, "systemctl is-system-running --wait")?;
        crate::wait::until_true("the guest's addresses", within, || {
            let shown = self.sh("ip -4 -o address")?.stdout;
            let has = |address: &str| shown.contains(&format!("inet {address}/"));
            Ok(self.plan.nics.iter().all(|nic| has(&nic.address)))
        })?;
        Ok(output.stdout.trim_end().to_owned())
    }

    /// Waits until cloud-init has done everything it was told; fails if any of it failed.
    pub fn wait_cloud_init(&self, within: Duration) -> Result<()> {
        let output = self.sh_within(within, "cloud-init status --wait --long")?;
        // 2: done, with a remark that is no failure ("recoverable").
        if output.status != 0 && output.status != 2 {
            let log = self.sh("tail -n 40 /var/log/cloud-init-output.log")?;
            bail!("cloud-init: {}{}", output.stdout, log.stdout);
        }
        Ok(())
    }

    /// Steps the guest's wall clock, in words of `date`: `+1 day`, `1970-01-02`.
    pub fn step_clock(&self, to: &str) -> Result<()> {
        self.sh(&format!("date -s '{to}'"))?.ok().map(drop)
    }

    /// Sets the guest's wall clock to this machine's: after a resume it shows the time of the freeze.
    pub fn set_clock(&self) -> Result<()> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        self.step_clock(&format!("@{:.3}", now.as_secs_f64()))
    }
}
