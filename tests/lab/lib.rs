//! The test laboratory: real machines on real links, made in seconds and gone afterwards.
//!
//! What may enter: a Debian release, cloud-init data, `.deb` files, commands. What leaves: what
//! was seen (output, console text, power events with their time).
//!
//! * [`Image`]: Debian 12 or 13, built once and cached outside the checkout.
//! * [`Vm`]: a full virtual machine; [`Snapshot`]: the same machine, resumed in a moment.
//! * [`volatile_disk`]: a disk that loses at a power cut what was not flushed.
//! * [`Namespace`] and [`Switch`]: hosts without a kernel of their own, and the links between all.
//! * [`Container`]: the image's tree, booted under systemd-nspawn.
//! * [`AptRepo`]: `.deb` files served to a guest's apt.
//! * [`tailnet`], [`internet`], [`customer`]: whom a box with an exit node talks to; [`capture`]: what
//!   has left it.
//!
//! **Architecture Invariant:** the observer is never activity. Guests are asked through the qemu
//! guest agent (virtio-serial), never through ssh or a terminal, because the programs under test
//! watch exactly those.
//!
//! **Architecture Invariant:** nothing here sleeps a fixed time. [`wait::until`] is the only
//! place that pauses, and it ends as soon as its condition holds.

pub mod agent;
pub mod apt_repo;
mod base64;
pub mod cache;
pub mod capture;
pub mod container;
pub mod customer;
pub mod debian;
pub mod dice;
pub mod image;
pub mod internet;
pub mod ledger;
pub mod namespace;
pub mod process;
pub mod qmp;
mod scenario;
mod seed;
pub mod ssh;
pub mod tailnet;
pub mod terminal;
pub mod vm;
pub mod volatile_disk;
pub mod wait;

pub use apt_repo::AptRepo;
pub use container::Container;
pub use image::{Image, Release};
pub use namespace::{Namespace, Switch};
pub use process::Output;
pub use scenario::scenario;
pub use ssh::SshKey;
pub use terminal::Terminal;
pub use vm::{PowerOff, Snapshot, Vm, VmBuilder};

/// Says something to the person at the terminal, past the test harness's capture.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write as _;
    // A closed stderr is no reason to fail a test.
    let _ = writeln!(std::io::stderr(), "lab: {line}");
}

/// Whether a failed machine is to be left up (`GUPPY_KEEP=1`, `tests/run --keep`).
#[must_use]
pub fn keep() -> bool {
    std::env::var_os("GUPPY_KEEP").is_some_and(|value| value == "1")
}

/// Whether the whole matrix is asked for (`GUPPY_FULL=1`, `tests/run --full`).
#[must_use]
pub fn full() -> bool {
    std::env::var_os("GUPPY_FULL").is_some_and(|value| value == "1")
}

/// The folder with the `.deb` files under test, handed over by `tests/run`.
pub fn debs() -> anyhow::Result<std::path::PathBuf> {
    std::env::var_os("GUPPY_DEBS")
        .map(std::path::PathBuf::from)
        .ok_or_else(|| anyhow::anyhow!("GUPPY_DEBS names no folder with .deb files: run tests/run"))
}

/// Fails, with a reason a person can act on, where the lab cannot work at all.
///
/// A test that cannot run is a failure, never a pass.
pub fn require_privilege() -> anyhow::Result<()> {
    anyhow::ensure!(
        rustix::process::geteuid().is_root(),
        "the lab makes network namespaces and machines: run it as root (sudo tests/run)"
    );
    Ok(())
}
