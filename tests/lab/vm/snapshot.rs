//! A running machine, frozen with its memory: resumed in a moment, any number of times at once.
//!
//! What happens to the guest's clocks: all of them (REALTIME, MONOTONIC, BOOTTIME) go on from
//! the moment of the freeze, as if no time had passed; nothing in the guest shows the gap.
//! REALTIME is therefore wrong by the snapshot's age until [`Vm::set_clock`] steps it.
//! Boot id, machine id, host keys, addresses and open connections are the frozen machine's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::accelerator;
use super::qemu::Plan;
use super::{Vm, VmBuilder};
use crate::image::Image;
use crate::namespace::Switch;
use crate::{cache, ledger, process, wait};

/// A first boot, with cloud-init, on an emulated machine whose host is busy: with a load of 18 on two
/// processors 180 s were not enough.
const BOOTED: Duration = Duration::from_secs(600);

/// A frozen machine.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
    image: Image,
    plan: Plan,
    /// Whether the folder is this value's own, not the cache's.
    own: bool,
}

impl Vm {
    /// Freezes the machine as it is now; it goes on afterwards.
    pub fn freeze(&self) -> Result<Snapshot> {
        let (folder, _) = ledger::place("gf")?;
        self.freeze_into(&folder)?;
        Ok(Snapshot { folder, image: self.image.clone(), plan: self.plan.clone(), own: true })
    }

    fn freeze_into(&self, folder: &Path) -> Result<()> {
        // The kernel's write-back has nothing to do with what is tested, but a copy of the disk
        // that is mostly on the disk is smaller in memory.
        self.sh("sync")?;
        self.qmp("stop", json!({}))?;
        self.qmp("migrate-set-parameters", json!({ "max-bandwidth": 1u64 << 40 }))?;
        let uri = format!("exec:cat >'{}'", folder.join("state").display());
        self.qmp("migrate", json!({ "uri": uri }))?;
        wait::until_true("the memory to be written", Duration::from_secs(120), || {
            let status = self.qmp("query-migrate", json!({}))?;
            match status.get("status").and_then(Value::as_str) {
                Some("completed") => Ok(true),
                Some("failed" | "cancelled") => bail!("freezing failed: {status}"),
                _ => Ok(false),
            }
        })?;
        // Written out and let go by qemu, so a plain copy is whole.
        for name in ["disk.qcow2", "seed.iso", "home.img"] {
            let from = self.place.join(name);
            if from.exists() {
                process::host(
                    "cp",
                    &[
                        "--sparse=always",
                        &from.to_string_lossy(),
                        &folder.join(name).to_string_lossy(),
                    ],
                )?;
            }
        }
        fs::write(folder.join("plan.json"), self.plan.to_json())
            .context("cannot write the plan")?;
        self.qmp("cont", json!({}))?;
        Ok(())
    }
}

impl VmBuilder {
    /// The machine booted, prepared by `prepare` and frozen, from the cache if it has been made
    /// before: `prepared` has to change whenever what `prepare` does changes (its commands, the
    /// content of the packages it installs); the image, the seed and the hardware are seen to.
    pub fn frozen(
        self,
        name: &str,
        prepared: &[&[u8]],
        prepare: impl FnOnce(&Vm) -> Result<()>,
    ) -> Result<Snapshot> {
        let own = self.key().to_le_bytes();
        // A state is of one qemu and one processor.
        let qemu = process::host("qemu-system-x86_64", &["--version"])?;
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu.lines().find(|line| line.starts_with("model name")).unwrap_or_default();
        accelerator::probe(self.image())?;
        let [accelerator, _] = accelerator::of_this_machine();
        // qemu.rs is the machine's board: a state fits no other.
        let board = include_bytes!("qemu.rs");
        let around =
            [&own[..], qemu.as_bytes(), cpu.as_bytes(), accelerator.as_bytes(), &board[..]];
        let key = cache::key(around.into_iter().chain(prepared.iter().copied()));
        let image = self.image().clone();
        let kind = format!("frozen-{name}-{}", image.release().name());
        let folder = cache::folder_of(&kind, key, |folder| {
            let start = Instant::now();
            let vm = self.boot()?;
            vm.wait_booted(BOOTED)?;
            prepare(&vm)?;
            vm.freeze_into(folder)?;
            let took = start.elapsed().as_secs_f64();
            crate::say(format_args!("made the frozen machine {name} in {took:.1} s"));
            Ok(())
        })?;
        let plan =
            fs::read_to_string(folder.join("plan.json")).context("a frozen machine's plan")?;
        Ok(Snapshot { plan: Plan::from_json(&plan)?, folder, image, own: false })
    }
}

impl Snapshot {
    /// Resumes a machine from here, its interfaces on these switches, in the order in which the
    /// frozen machine had them. Several at once need a switch each: they share their addresses.
    pub fn start(&self, switches: &[&Switch]) -> Result<Vm> {
        if switches.len() != self.plan.nics.len() {
            bail!(
                "frozen with {} interfaces, resumed with {}",
                self.plan.nics.len(),
                switches.len()
            );
        }
        for (nic, switch) in self.plan.nics.iter().zip(switches) {
            switch.take_address(&nic.address)?;
        }
        let switches = switches.iter().map(|switch| (*switch).clone()).collect();
        let parts = (self.image.clone(), self.plan.clone(), switches);
        let disk = self.folder.join("disk.qcow2");
        let seed = self.folder.join("seed.iso");
        let mut vm = Vm::on_disk(parts, (&disk, "qcow2"), |place, _| {
            if seed.exists() {
                fs::copy(&seed, place.join("seed.iso")).context("cannot copy the seed")?;
            }
            let home = self.folder.join("home.img");
            if home.exists() {
                let copy = place.join("home.img");
                let (home, copy) = (home.to_string_lossy(), copy.to_string_lossy());
                process::host("cp", &["--sparse=always", &home, &copy])?;
            }
            Ok(())
        })?;
        vm.power_on(Some(&self.folder.join("state")))?;
        Ok(vm)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if self.own {
            ledger::leave(&self.folder);
        }
    }
}
