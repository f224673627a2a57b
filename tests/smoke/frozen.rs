//! Snapshots: frozen once, resumed several times at once, each a machine of its own.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Image, Release, Snapshot, SshKey, Switch, Vm, scenario};

const SOON: Duration = Duration::from_secs(120);

/// A machine with a key for root, from the cache.
fn frozen(release: Release, key: &SshKey) -> Result<Snapshot> {
    let switch = Switch::new()?;
    let builder = Vm::builder(&Image::of(release)?).nic_at(&switch, "10.99.0.10");
    builder.frozen("smoke", &[key.public().as_bytes()], |vm| {
        key.authorize(vm, "root")?;
        vm.sh("echo frozen >/run/in-memory")?.ok().map(drop)
    })
}

#[test]
fn two_machines_resume_from_one_state() {
    scenario(|| {
        let key = SshKey::cached()?;
        for release in Release::of_this_run() {
            let snapshot = frozen(*release, &key)?;
            let (left, right) = (Switch::new()?, Switch::new()?);
            let one = snapshot.start(&[&left])?;
            let mut other = snapshot.start(&[&right])?;
            for vm in [&one, &other] {
                let took = vm.took().as_secs_f64();
                lab::say(format_args!("{}: resumed in {took:.2} s", release.name()));
                ensure!(vm.read_file("/run/in-memory")? == "frozen\n");
            }
            one.sh("echo mine >/root/file")?.ok()?;
            ensure!(other.sh("cat /root/file")?.status != 0, "two machines share a disk");
            let host = left.host()?;
            ensure!(host.ssh(&key, &one, "root", "echo $((6 * 7))")?.ok()? == "42");

            one.set_clock()?;
            let guest: f64 = one.sh("date +%s.%N")?.ok()?.parse()?;
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
            ensure!((now.as_secs_f64() - guest).abs() < 5.0, "the clock was not set");

            // A resumed machine can be switched off and on like any other.
            other.spawn("systemctl poweroff")?;
            other.wait_power_off(SOON)?;
            other.start_again()?;
            ensure!(other.sh("cat /run/in-memory")?.status != 0, "memory outlived a power-off");
            other.wait_booted(SOON)?;
            let ping = format!("ping -c 1 -W 1 {}", other.address());
            let far = right.host()?;
            lab::wait::until_true("the guest to answer", SOON, || Ok(far.sh(&ping)?.status == 0))?;
        }
        Ok(())
    });
}

#[test]
fn a_person_types_at_a_far_terminal_and_at_the_console() {
    scenario(|| {
        let key = SshKey::cached()?;
        let snapshot = frozen(Release::Trixie, &key)?;
        let switch = Switch::new()?;
        let host = switch.host()?;
        let vm = snapshot.start(&[&switch])?;

        let mut far = host.ssh_terminal(&key, &vm, "root", "", "")?;
        far.wait_for("root@guppy-box", SOON)?;
        far.type_keys("tty; echo $((6 * 7))\r")?;
        far.wait_for("/dev/pts/0\n42", SOON)?;
        far.type_keys("exit\r")?;
        ensure!(far.wait_end(SOON)? == 0);

        vm.type_console("\r")?;
        vm.wait_console("guppy-box login:", SOON)?;
        vm.type_console("root\r")?;
        vm.wait_console("root@guppy-box", SOON)?;
        vm.type_console("tty; echo $((6 * 7))\r")?;
        vm.wait_console("/dev/ttyS0\n42", SOON)?;
        Ok(())
    });
}

#[test]
fn a_frozen_machine_goes_on_by_itself() {
    scenario(|| {
        let key = SshKey::cached()?;
        let cached = frozen(Release::Trixie, &key)?;
        let switch = Switch::new()?;
        let vm = cached.start(&[&switch])?;
        vm.sh("echo later >/run/in-memory")?.ok()?;
        let snapshot = vm.freeze()?;
        vm.sh("echo last >/run/in-memory")?.ok()?;
        let other = Switch::new()?;
        ensure!(snapshot.start(&[&other])?.read_file("/run/in-memory")? == "later\n");
        ensure!(vm.read_file("/run/in-memory")? == "last\n");
        Ok(())
    });
}
