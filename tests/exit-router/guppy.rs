//! The box: a container, as quick as one can be had, or a whole machine with Debian's own kernel.

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::process::Output;
use lab::{Container, Image, Release, Switch, Vm};

use crate::world::LONG;

/// The box.
pub(crate) enum Guppy {
    Container(Box<Container>),
    Vm(Box<Vm>, String),
}

impl Guppy {
    /// A container on a switch.
    pub(crate) fn container(release: Release, switch: &Switch) -> Result<Self> {
        Ok(Self::Container(Box::new(Container::boot_router(&Image::of(release)?, switch)?)))
    }

    /// A machine on a switch.
    pub(crate) fn machine(release: Release, switch: &Switch) -> Result<Self> {
        let address = "10.99.0.10";
        let vm = Vm::builder(&Image::of(release)?).nic_at(switch, address).cpus(1).boot()?;
        vm.wait_cloud_init(Duration::from_secs(600))?;
        Ok(Self::Vm(Box::new(vm), address.to_owned()))
    }

    /// Its address on the switch.
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::Container(container) => container.address(),
            Self::Vm(_, address) => address,
        }
    }

    /// The MAC address of its uplink.
    pub(crate) fn mac(&self) -> Result<String> {
        let line = self.sh("ip -o link show eth0")?;
        let mut words = line.split_whitespace().skip_while(|word| *word != "link/ether");
        Ok(words.nth(1).context("eth0 has no MAC address")?.to_owned())
    }

    /// Runs a shell command as root, however it ends.
    pub(crate) fn try_sh(&self, shell: &str) -> Result<Output> {
        match self {
            Self::Container(container) => container.sh_within(LONG, shell),
            Self::Vm(vm, _) => vm.sh_within(LONG, shell),
        }
    }

    /// Runs a shell command as root that has to succeed.
    pub(crate) fn sh(&self, shell: &str) -> Result<String> {
        self.try_sh(shell)?.ok().with_context(|| format!("`{shell}`"))
    }

    /// Writes a file that everybody may read.
    pub(crate) fn write(&self, path: &str, content: &str) -> Result<()> {
        match self {
            Self::Container(container) => container.write_file(path, content.as_bytes()),
            Self::Vm(vm, _) => vm.write_file(path, content.as_bytes()),
        }
    }

    /// Runs apt-get without anybody to answer it.
    pub(crate) fn apt(&self, words: &str) -> Result<()> {
        self.sh(&format!(
            "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold {words} \
             </dev/null"
        ))
        .map(drop)
    }
}
