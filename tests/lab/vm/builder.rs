//! A machine before its first boot.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::Vm;
use super::qemu::{NicPlan, Plan};
use crate::image::Image;
use crate::namespace::Switch;
use crate::seed::Seed;
use crate::{cache, process};

/// Describes a machine. Defaults: 1 GiB, two processors, no link, no cloud-init.
#[derive(Debug, Clone)]
pub struct VmBuilder {
    image: Image,
    plan: Plan,
    switches: Vec<Switch>,
    seed: Option<Seed>,
}

impl VmBuilder {
    pub(super) fn new(image: &Image) -> Self {
        Self { image: image.clone(), plan: Plan::default(), switches: Vec::new(), seed: None }
    }

    /// Memory in MiB.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.plan.memory = mebibytes;
        self
    }

    /// Number of processors.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.plan.cpus = cpus;
        self
    }

    /// A network interface (`eth0`, `eth1` …) on a switch, with the switch's next free address.
    #[must_use]
    pub fn nic(self, switch: &Switch) -> Self {
        self.add_nic(switch, None)
    }

    /// A network interface on a switch with an address of 10.99.0.0/16 below 10.99.0.100: for
    /// machines that are frozen, since a snapshot keeps its address wherever it is resumed.
    #[must_use]
    pub fn nic_at(self, switch: &Switch, address: &str) -> Self {
        self.add_nic(switch, Some(address))
    }

    fn add_nic(mut self, switch: &Switch, address: Option<&str>) -> Self {
        // Which address it gets is settled at boot, where a failure can be told.
        self.plan.nics.push(NicPlan::new(address.unwrap_or_default()));
        self.switches.push(switch.clone());
        self
    }

    fn settle_addresses(&mut self) -> Result<()> {
        for (nic, switch) in self.plan.nics.iter_mut().zip(&self.switches) {
            if nic.address.is_empty() {
                *nic = NicPlan::new(&switch.next_address()?);
            } else {
                switch.take_address(&nic.address)?;
            }
        }
        Ok(())
    }

    /// The machine can sleep (S3) and wake; its boot takes some seconds more.
    #[must_use]
    pub fn sleeps(mut self) -> Self {
        self.plan.sleeps = true;
        self
    }

    /// `/home`, with what the image has in it, on a disk of its own that loses at
    /// [`Vm::power_cut`] what was not flushed; its size in MiB.
    #[must_use]
    pub fn volatile_home(mut self, mebibytes: u32) -> Self {
        self.plan.volatile_home = mebibytes;
        self
    }

    /// Words appended to the kernel's command line.
    #[must_use]
    pub fn kernel_arguments(mut self, words: &str) -> Self {
        self.plan.arguments = format!("{} {words}", self.plan.arguments);
        self
    }

    /// cloud-init's user-data, as in `#cloud-config …`. Without any seed cloud-init is off.
    #[must_use]
    pub fn user_data(mut self, text: &str) -> Self {
        text.clone_into(&mut self.seed().user_data);
        self
    }

    /// cloud-init's meta-data; by default an instance id and a host name.
    #[must_use]
    pub fn meta_data(mut self, text: &str) -> Self {
        self.seed().meta_data = Some(text.to_owned());
        self
    }

    /// cloud-init's network-config; by default the addresses the switches gave.
    #[must_use]
    pub fn network_config(mut self, text: &str) -> Self {
        self.seed().network_config = Some(text.to_owned());
        self
    }

    /// One more file on the seed disk (label `cidata`).
    #[must_use]
    pub fn seed_file(mut self, name: &str, content: &[u8]) -> Self {
        self.seed().files.push((name.to_owned(), content.to_vec()));
        self
    }

    fn seed(&mut self) -> &mut Seed {
        self.seed.get_or_insert_default()
    }

    /// Changes with everything that goes into the machine's first boot.
    #[must_use]
    pub fn key(&self) -> u64 {
        let mut parts =
            vec![self.image.key().to_le_bytes().to_vec(), self.plan.to_json().into_bytes()];
        parts.extend(self.seed.iter().flat_map(Seed::parts));
        cache::key(parts.iter().map(Vec::as_slice))
    }

    pub(super) fn image(&self) -> &Image {
        &self.image
    }

    /// Makes the disk, boots, and waits until the guest agent answers.
    pub fn boot(mut self) -> Result<Vm> {
        self.settle_addresses()?;
        self.plan.seed = self.seed.is_some();
        let (seed, network) = (self.seed, self.plan.network_config());
        let (image, home) = (self.image.clone(), self.plan.volatile_home);
        let disk = (&*self.image.disk(), "raw");
        let parts = (self.image, self.plan, self.switches);
        let mut vm = Vm::on_disk(parts, disk, |place, name| {
            if home > 0 {
                make_home(&image, &place.join("home.img"), home)?;
            }
            seed.map_or(Ok(()), |seed| seed.write(&place.join("seed.iso"), name, &network))
        })?;
        vm.power_on(None)?;
        Ok(vm)
    }
}

/// An ext4 file system with the image's `/home` in it.
fn make_home(image: &Image, disk: &Path, mebibytes: u32) -> Result<()> {
    let file = fs::File::create(disk).context("cannot make the home's disk")?;
    file.set_len(u64::from(mebibytes) << 20).context("cannot size the home's disk")?;
    let (from, disk) = (image.tree().join("home"), disk.to_string_lossy());
    // The features that both releases' kernels and e2fsprogs know, as the image's own disk.
    let features = ["-O", "^metadata_csum_seed,^orphan_file"];
    let whole = ["-E", "lazy_itable_init=0,lazy_journal_init=0"];
    // Blocks as large as the disk's: a small disk would get smaller ones.
    let kind = ["-q", "-t", "ext4", "-b", "4096", "-L", "home", "-d", &from.to_string_lossy()];
    process::host("mke2fs", &[&kind[..], &features, &whole, &[&disk]].concat())?;
    Ok(())
}
