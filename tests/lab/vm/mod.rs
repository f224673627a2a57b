//! A full virtual machine: its own kernel, systemd, disk and clock.
//!
//! Asked through the guest agent and qemu's control socket only. A [`Vm`] ends with its value.

mod accelerator;
mod builder;
mod console;
mod guest;
mod power;
mod qemu;
mod snapshot;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::json;

pub use builder::VmBuilder;
pub use power::PowerOff;
pub use snapshot::Snapshot;

use crate::agent::Agent;
use crate::image::Image;
use crate::namespace::Switch;
use crate::scenario::{self, Keepable};
use crate::volatile_disk::VolatileDisk;
use crate::{ledger, process};
use qemu::{Plan, Qemu};

/// How long a cold boot under emulation may take, beside other work on the machine.
const BOOT: Duration = Duration::from_secs(600);

/// A virtual machine. See [`Vm::builder`].
#[derive(Debug)]
pub struct Vm {
    name: String,
    place: PathBuf,
    image: Image,
    plan: Plan,
    switches: Vec<Switch>,
    agent: Agent,
    /// The disk below `/home`, from the first boot on, if it has one that loses what is unflushed.
    home: Option<VolatileDisk>,
    /// None while it is switched off.
    qemu: Option<Qemu>,
    /// Power events up to here have been told to the test.
    seen: AtomicUsize,
    took: Duration,
}

impl Vm {
    /// Describes a machine to be made from an image.
    #[must_use]
    pub fn builder(image: &Image) -> VmBuilder {
        VmBuilder::new(image)
    }

    /// Boots a machine with a link to a switch and nothing else special.
    pub fn boot(image: &Image, switch: &Switch) -> Result<Self> {
        Self::builder(image).nic(switch).boot()
    }

    /// How long the last boot or resume took until the guest agent answered.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// The image it was made from.
    #[must_use]
    pub fn image(&self) -> &Image {
        &self.image
    }

    /// Its address on its first switch.
    #[must_use]
    pub fn address(&self) -> &str {
        self.plan.nics.first().map_or("", |nic| nic.address.as_str())
    }

    /// qemu's control socket, for anything the lab has no word for.
    pub fn qmp(&self, command: &str, arguments: serde_json::Value) -> Result<serde_json::Value> {
        self.running()?.qmp.execute(command, arguments)
    }

    fn running(&self) -> Result<&Qemu> {
        self.qemu.as_ref().ok_or_else(|| anyhow!("{} is switched off", self.name))
    }

    /// A machine that is switched off, with an empty disk over `base` (of qemu's format
    /// `format`). `prepare` adds to its folder, given its name, what else it needs there.
    fn on_disk(
        (image, plan, switches): (Image, Plan, Vec<Switch>),
        (base, format): (&Path, &str),
        prepare: impl FnOnce(&Path, &str) -> Result<()>,
    ) -> Result<Self> {
        let (place, name) = ledger::place("gv")?;
        let disk = place.join("disk.qcow2");
        let (base, disk) = (base.to_string_lossy(), disk.to_string_lossy());
        let words = ["create", "-q", "-f", "qcow2", "-F", format, "-b", &base, &disk];
        process::host("qemu-img", &words).context("cannot make the machine's disk")?;
        prepare(&place, &name)?;
        Ok(Self {
            agent: Agent::new(&place.join("agent.sock")),
            name,
            place,
            image,
            plan,
            switches,
            home: None,
            qemu: None,
            seen: AtomicUsize::new(0),
            took: Duration::ZERO,
        })
    }

    /// Starts qemu on the machine's disk and waits for the guest agent.
    fn power_on(&mut self, state: Option<&Path>) -> Result<()> {
        let start = Instant::now();
        if self.plan.volatile_home > 0 && self.home.is_none() {
            let (file, socket) = (self.place.join("home.img"), self.place.join("home.sock"));
            self.home = Some(VolatileDisk::serve(&file, &socket)?);
        }
        let before = self.console_text().len();
        let qemu =
            Qemu::start(&self.place, &self.name, &self.image, &self.plan, &self.switches, state)?;
        self.qemu = Some(qemu);
        self.seen.store(0, std::sync::atomic::Ordering::Relaxed);
        self.come_up(before, BOOT)?;
        self.took = start.elapsed();
        Ok(())
    }

    /// Takes the cable of a network interface out (`false`) or puts it back.
    pub fn link(&self, nic: usize, up: bool) -> Result<()> {
        self.qmp("set_link", json!({ "name": format!("nic{nic}"), "up": up }))?;
        Ok(())
    }

    /// Stops the emulated processors. Every clock of the guest stops too: this is no suspend.
    pub fn pause(&self) -> Result<()> {
        self.qmp("stop", json!({})).map(drop)
    }

    /// Lets the emulated processors go on.
    pub fn unpause(&self) -> Result<()> {
        self.qmp("cont", json!({})).map(drop)
    }

    /// Switches the machine on again with the same disk, after a power-off or a power cut.
    pub fn start_again(&mut self) -> Result<()> {
        if let Some(qemu) = &self.qemu
            && qemu.exit_code()?.is_none()
        {
            bail!("{} is still on", self.name);
        }
        self.qemu = None;
        self.power_on(None)
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let Some(qemu) = self.qemu.take() else {
            return ledger::leave(&self.place);
        };
        scenario::let_go(Box::new(Ended {
            name: self.name.clone(),
            place: self.place.clone(),
            switches: std::mem::take(&mut self.switches),
            home: self.home.take(),
            qemu: Some(qemu),
        }));
    }
}

/// What is left of a machine whose value is gone: ended with its folder, or kept for a person.
struct Ended {
    name: String,
    place: PathBuf,
    switches: Vec<Switch>,
    /// Served by this process: a machine that is kept has no home once the test has ended.
    home: Option<VolatileDisk>,
    qemu: Option<Qemu>,
}

impl Keepable for Ended {
    fn keep(mut self: Box<Self>) {
        if let Some(qemu) = self.qemu.take() {
            qemu.keep();
        }
        let inside = self.switches.first().map_or(String::new(), |switch| {
            format!("; its network: ip netns exec {} bash", switch.namespace_name())
        });
        let console = self.place.join("console.sock");
        let how = format!(
            "socat -,raw,echo=0,escape=0x1d UNIX-CONNECT:{}   (Enter, log in as root, no password; \
             Ctrl-] leaves){inside}",
            console.display()
        );
        scenario::kept(&format!("machine {}", self.name), &how);
        std::mem::take(&mut self.switches).into_iter().for_each(std::mem::forget);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(qemu) = self.qemu.take() {
            drop(qemu);
            drop(self.home.take());
            ledger::leave(&self.place);
        }
    }
}
