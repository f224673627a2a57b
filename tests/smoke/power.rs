//! Off, reboot, plug pulled, asleep, cable out: each is seen, and told from the others.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Image, Release, Switch, Vm, scenario};

const SOON: Duration = Duration::from_secs(120);

#[test]
fn power_is_seen_on_debian_13() {
    scenario(|| power(Release::Trixie));
}

#[test]
fn power_is_seen_on_debian_12() {
    scenario(|| power(Release::Bookworm));
}

fn power(release: Release) -> Result<()> {
    let switch = Switch::new()?;
    let host = switch.host()?;
    let mut vm = Vm::boot(&Image::of(release)?, &switch)?;
    let name = release.name();
    lab::say(format_args!("{name}: cold boot {:.1} s", vm.took().as_secs_f64()));
    let state = vm.wait_booted(SOON)?;
    lab::say(format_args!("{name}: {state}; {}", vm.sh("systemd-analyze | head -1")?.ok()?));
    ensure!(state == "running", "{}", vm.sh("systemctl --failed")?.stdout);

    // The cable.
    let ping = format!("ping -c 1 -W 1 {}", vm.address());
    host.sh(&ping)?.ok()?;
    vm.link(0, false)?;
    ensure!(host.sh(&ping)?.status != 0, "a guest without a cable answered");
    vm.link(0, true)?;
    lab::wait::until_true("the guest to answer again", SOON, || Ok(host.sh(&ping)?.status == 0))?;

    // The plug: what was flushed survives, and so does the journal.
    vm.sh("echo kept >/root/flushed && sync && logger before-the-cut && journalctl --sync")?
        .ok()?;
    vm.power_cut()?;
    ensure!(vm.wait_power_off(SOON).is_err(), "a power cut is no power-off");
    vm.start_again()?;
    lab::say(format_args!("{name}: second boot {:.1} s", vm.took().as_secs_f64()));
    ensure!(vm.read_file("/root/flushed")? == "kept\n");
    let journal = vm.sh("journalctl --boot=-1 --output=cat --lines=50")?.ok()?;
    ensure!(journal.contains("before-the-cut"), "the journal of the cut boot: {journal}");

    // A reboot is no power-off.
    let before = vm.read_file("/proc/sys/kernel/random/boot_id")?;
    vm.spawn("systemctl reboot")?;
    vm.wait_reboot(SOON)?;
    ensure!(before != vm.read_file("/proc/sys/kernel/random/boot_id")?, "the same boot");
    vm.spawn("systemctl reboot")?;
    let error = vm.wait_power_off(SOON).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(error.contains("rebooted instead"), "a reboot was taken for: {error}");
    vm.wait_ready(SOON)?;

    // A power-off, by the button.
    vm.wait_booted(SOON)?;
    vm.press_power_button()?;
    let off = vm.wait_power_off(SOON)?;
    lab::say(format_args!("{name}: off after {:.1} s", off.after.as_secs_f64()));
    ensure!(!vm.is_on()?);
    Ok(())
}

#[test]
fn a_machine_sleeps_and_wakes() {
    scenario(|| {
        for release in Release::of_this_run() {
            let vm = Vm::builder(&Image::of(*release)?).sleeps().boot()?;
            vm.wait_booted(SOON)?;
            vm.suspend(SOON)?;
            vm.wake(SOON)?;
            let dmesg = vm.sh("dmesg | grep -i 'PM: suspend exit'")?.ok()?;
            lab::say(format_args!("{}: slept and woke: {dmesg}", release.name()));
        }
        Ok(())
    });
}
