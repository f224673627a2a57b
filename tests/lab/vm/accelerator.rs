//! Who runs the guest's instructions: this machine's processor where a probe boot has shown that
//! it can, else qemu's emulation.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::image::Image;
use crate::process::Spawned;
use crate::{cache, ledger, wait};

const EMULATION: [&str; 2] = ["tcg,thread=multi,tb-size=256", "Nehalem,+rdtscp"];
const HARDWARE: [&str; 2] = ["kvm", "host"];

static WORKS: OnceLock<bool> = OnceLock::new();

/// qemu's accelerator and processor; emulation until [`probe`] has been asked.
pub(super) fn of_this_machine() -> [&'static str; 2] {
    if WORKS.get() == Some(&true) { HARDWARE } else { EMULATION }
}

/// Finds out once per boot of this machine whether a kernel really starts under KVM: a `/dev/kvm`
/// that opens proves nothing.
pub(super) fn probe(image: &Image) -> Result<()> {
    if WORKS.get().is_some() {
        return Ok(());
    }
    let works = fs::File::options().read(true).write(true).open("/dev/kvm").is_ok() && {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let key = cache::key([boot.as_bytes(), &image.key().to_le_bytes()]);
        let folder = cache::folder_of("kvm", key, |folder| {
            let works = boots(image)?;
            let word = if works { "runs" } else { "does not run" };
            crate::say(format_args!("a probe boot {word} under KVM"));
            fs::write(folder.join("works"), works.to_string()).context("cannot note the probe")
        })?;
        fs::read_to_string(folder.join("works")).is_ok_and(|text| text == "true")
    };
    let _ = WORKS.set(works);
    Ok(())
}

/// Starts the image's kernel without a disk and waits for its first process.
fn boots(image: &Image) -> Result<bool> {
    let (place, _) = ledger::place("gp")?;
    let log = place.join("console");
    let [accelerator, processor] = HARDWARE;
    let mut command = Command::new("qemu-system-x86_64");
    command.args(["-machine", "pc", "-accel", accelerator, "-cpu", processor, "-m", "512"]);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    command.arg("-kernel").arg(image.kernel()).arg("-initrd").arg(image.initrd());
    command.args(["-append", "console=ttyS0 panic=-1", "-serial"]);
    command.arg(format!("file:{}", log.display()));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut qemu = Spawned::start(&mut command)?;
    let seen = wait::until("the probe", Duration::from_secs(10), || {
        let text = fs::read(&log).unwrap_or_default();
        let started = String::from_utf8_lossy(&text).contains("as init process");
        Ok(if started { Some(true) } else { qemu.ended()?.map(|_| false) })
    });
    drop(qemu);
    ledger::leave(&place);
    Ok(seen.unwrap_or(false))
}
