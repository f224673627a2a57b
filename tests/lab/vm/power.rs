//! Power: off by itself, reboot, sleep, and the plug pulled. Each is told from the others.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::Vm;
use crate::qmp::Event;
use crate::volatile_disk::{Cut, VolatileDisk};

/// A machine that switched itself off.
#[derive(Debug, Clone, Copy)]
pub struct PowerOff {
    /// When its power went.
    pub at: Instant,
    /// The same on this machine's wall clock.
    pub wall: SystemTime,
    /// How long it had been on.
    pub after: Duration,
}

/// How long the agent is waited for before the console is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// Whether the console of a boot shows that the kernel died by a fault of its own before anything
/// was started on it: PID 1 welcomes first, and its own end is another panic.
fn kernel_died_booting(console: &str) -> bool {
    console.contains("Kernel panic - not syncing: Fatal exception")
        && !console.contains("Welcome to")
}

/// What the guest did with its power.
enum Change {
    Off(Instant),
    Reset(Instant),
}

impl Vm {
    /// Waits for the next power event of the guest's; None if there is none in time.
    fn power_change(&self, within: Duration) -> Result<Option<Change>> {
        let qemu = self.running()?;
        let by_guest =
            |event: &Event| event.data.get("guest").and_then(Value::as_bool) == Some(true);
        let wanted =
            |event: &Event| (event.name == "SHUTDOWN" || event.name == "RESET") && by_guest(event);
        let seen = self.seen.load(Ordering::Relaxed);
        let Some(event) = qemu.qmp.event_since(seen, within, wanted)? else {
            if let Some(code) = qemu.exit_code()? {
                bail!("{} crashed: qemu ended with {code} and no power event", self.name);
            }
            return Ok(None);
        };
        self.seen.store(event.position + 1, Ordering::Relaxed);
        Ok(Some(if event.name == "RESET" {
            Change::Reset(event.at)
        } else {
            Change::Off(event.at)
        }))
    }

    /// Waits until the guest switches itself off and qemu has ended by itself. A reboot or a
    /// crash instead is an error, and says which.
    pub fn wait_power_off(&self, within: Duration) -> Result<PowerOff> {
        match self.power_change(within)? {
            None => bail!(
                "{} did not power off within {:.1} s; its console:\n{}",
                self.name,
                within.as_secs_f64(),
                self.console_end()
            ),
            Some(Change::Reset(_)) => bail!("{} rebooted instead of powering off", self.name),
            Some(Change::Off(at)) => {
                let qemu = self.running()?;
                let code = qemu.wait(Duration::from_secs(120)).context("after the power-off")?;
                if code != 0 {
                    bail!("qemu ended with {code} after the power-off");
                }
                let wall = SystemTime::now() - at.elapsed();
                Ok(PowerOff { at, wall, after: at - qemu.started })
            }
        }
    }

    /// Whether the machine is on: an error if it crashed, false once the guest switched it off.
    pub fn is_on(&self) -> Result<bool> {
        match &self.qemu {
            None => Ok(false),
            Some(qemu) => match qemu.exit_code()? {
                None => Ok(true),
                Some(0) => Ok(false),
                Some(code) => bail!("{} crashed: qemu ended with {code}", self.name),
            },
        }
    }

    /// Stays for `this_long` and fails, naming the moment, if the machine powers off or reboots.
    pub fn stays_on(&self, this_long: Duration) -> Result<()> {
        let start = Instant::now();
        match self.power_change(this_long)? {
            None => Ok(()),
            Some(Change::Off(at) | Change::Reset(at)) => bail!(
                "{} should have stayed on for {:.1} s but went after {:.1} s",
                self.name,
                this_long.as_secs_f64(),
                at.saturating_duration_since(start).as_secs_f64()
            ),
        }
    }

    /// Waits until the guest reboots and its agent answers again; gives the moment of the reset.
    pub fn wait_reboot(&self, within: Duration) -> Result<Instant> {
        match self.power_change(within)? {
            None => bail!("{} did not reboot within {:.1} s", self.name, within.as_secs_f64()),
            Some(Change::Off(_)) => bail!("{} powered off instead of rebooting", self.name),
            Some(Change::Reset(at)) => {
                self.come_up(self.console_text().len(), super::BOOT).context("after the reboot")?;
                self.wait_ready(super::BOOT).context("after the reboot")?;
                Ok(at)
            }
        }
    }

    /// Waits for the guest agent of a boot whose console begins after `mark` bytes.
    ///
    /// An emulated processor now and then runs an instruction that the kernel has just patched, and
    /// the kernel dies of it within its first seconds. That is no doing of what is tested, so the
    /// machine is reset then, which is said. Any other panic is an error.
    pub(super) fn come_up(&self, mut mark: usize, within: Duration) -> Result<()> {
        let start = Instant::now();
        for resets in 0.. {
            let Err(error) = self.wait_agent(mark, within.saturating_sub(start.elapsed())) else {
                return Ok(());
            };
            let shown = self.console_text();
            if resets == 3 || !kernel_died_booting(shown.get(mark..).unwrap_or_default()) {
                let end = self.console_end();
                return Err(error).with_context(|| {
                    format!("{} does not come up; its console ends:{end}", self.name)
                });
            }
            crate::say(format_args!("{}: the kernel died while it booted: reset", self.name));
            mark = shown.len();
            self.qmp("system_reset", json!({}))?;
        }
        Ok(())
    }

    /// Waits for the guest agent, or until the kernel is seen to have died.
    fn wait_agent(&self, mark: usize, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let Err(error) = self.agent.wait_ready(left.min(LOOK)) else {
                return Ok(());
            };
            let over = Instant::now() >= end || self.running()?.exit_code()?.is_some();
            if over || kernel_died_booting(self.console_text().get(mark..).unwrap_or_default()) {
                return Err(error);
            }
        }
    }

    /// Waits until the guest agent answers, after a reboot.
    pub fn wait_ready(&self, within: Duration) -> Result<()> {
        self.agent.wait_ready(within)?;
        // Each processor of the guest may ask for the one reset: what came before the agent's
        // answer belongs to the reboot that is over.
        self.seen.store(self.running()?.qmp.mark(), Ordering::Relaxed);
        Ok(())
    }

    /// Pulls the plug: nothing in the guest learns of it. [`Self::start_again`] switches it on.
    ///
    /// A volatile home loses now what was not flushed, and how much that was is given. The root
    /// disk loses nothing that had left the guest's memory.
    pub fn power_cut(&self) -> Result<Option<Cut>> {
        self.running()?.kill();
        self.agent.forget();
        self.home.as_ref().map(VolatileDisk::cut).transpose()
    }

    /// Presses the power button (ACPI).
    pub fn press_power_button(&self) -> Result<()> {
        self.qmp("system_powerdown", json!({})).map(drop)
    }

    /// Puts the guest to sleep (`systemctl suspend`, S3) and waits until it sleeps. Only a
    /// machine made with [`super::VmBuilder::sleeps`] would wake again.
    pub fn suspend(&self, within: Duration) -> Result<()> {
        let qemu = self.running()?;
        ensure!(self.plan.sleeps, "{} was not made to sleep (VmBuilder::sleeps)", self.name);
        let mark = qemu.qmp.mark();
        self.agent.start("systemctl suspend", b"")?;
        let slept = qemu.qmp.event_since(mark, within, |event| event.name == "SUSPEND")?;
        if slept.is_none() {
            bail!("{} did not fall asleep; its console ends: {}", self.name, self.console_end());
        }
        Ok(())
    }

    /// Wakes a sleeping guest and waits until it answers.
    pub fn wake(&self, within: Duration) -> Result<()> {
        let qemu = self.running()?;
        let mark = qemu.qmp.mark();
        self.qmp("system_wakeup", json!({}))?;
        if qemu.qmp.event_since(mark, within, |event| event.name == "WAKEUP")?.is_none() {
            bail!("{} did not wake", self.name);
        }
        self.agent.wait_ready(within).context("after waking")
    }
}

#[cfg(test)]
mod tests {
    use super::kernel_died_booting;

    #[test]
    fn only_a_kernel_that_dies_before_pid_1_is_reset() {
        let died = "[ 2.7] Kernel panic - not syncing: Fatal exception in interrupt";
        assert!(kernel_died_booting(died));
        assert!(!kernel_died_booting(&format!("Welcome to Debian!\n{died}")));
        assert!(!kernel_died_booting("Kernel panic - not syncing: Attempted to kill init!"));
        assert!(!kernel_died_booting(""));
    }
}
