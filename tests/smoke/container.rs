//! A container boots, is on the network beside a host, and installs a package by apt.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{AptRepo, Container, Image, Release, Switch, scenario};

/// A package with one file, made on the spot.
fn package(folder: &std::path::Path, version: &str) -> Result<PathBuf> {
    let tree = folder.join("tree");
    fs::create_dir_all(tree.join("DEBIAN"))?;
    fs::create_dir_all(tree.join("usr/share/lab-probe"))?;
    fs::write(tree.join("usr/share/lab-probe/version"), version)?;
    let control = format!(
        "Package: lab-probe\nVersion: {version}\nArchitecture: all\nMaintainer: lab <lab@localhost>\n\
         Description: proves that a guest installs from the test's repository\n"
    );
    fs::write(tree.join("DEBIAN/control"), control)?;
    let deb = folder.join(format!("lab-probe_{version}_all.deb"));
    let (tree, out) = (tree.to_string_lossy(), deb.to_string_lossy());
    lab::process::host("dpkg-deb", &["--root-owner-group", "--build", &tree, &out])?;
    Ok(deb)
}

#[test]
fn a_container_boots_and_installs_a_package() {
    scenario(|| {
        let (folder, _) = lab::ledger::place("gp")?;
        for release in Release::of_this_run() {
            let switch = Switch::new()?;
            let repository = AptRepo::serve(&switch, &[package(&folder, "1")?])?;
            let mut container = Container::boot(&Image::of(*release)?, &switch)?;
            let took = container.took().as_secs_f64();
            lab::say(format_args!("{}: container boot {took:.1} s", release.name()));
            let failed = container.sh("systemctl list-units --failed --plain --no-legend")?.ok()?;
            ensure!(failed.is_empty(), "failed units: {failed}");

            let host = switch.host()?;
            host.sh(&format!("ping -c 1 -W 5 {}", container.address()))?.ok()?;
            container
                .write_file("/etc/apt/sources.list.d/lab.list", repository.source().as_bytes())?;
            let install = "apt-get -q update && apt-get -q install -y lab-probe";
            container.sh_within(Duration::from_secs(120), install)?.ok()?;
            ensure!(container.sh("cat /usr/share/lab-probe/version")?.ok()? == "1");
            repository.add(&package(&folder, "2")?)?;
            container.sh_within(Duration::from_secs(120), install)?.ok()?;
            ensure!(container.sh("cat /usr/share/lab-probe/version")?.ok()? == "2");

            // A unit of the container's own systemd, in a control group with accounts.
            container.sh("systemd-run --wait --unit=work true")?.ok()?;
            container.sh("test -r /sys/fs/cgroup/system.slice/cpu.stat")?.ok()?;
            container.sh("systemctl poweroff")?;
            container.wait_power_off(Duration::from_secs(60))?;
        }
        lab::ledger::leave(&folder);
        Ok(())
    });
}
