//! The numbers of guppy-idle-stopper and, in the same run on the same box, of Debian's
//! autosuspend with comparable checks: one table on stdout, its notes below it.
//!
//! The box is a booted container: this machine's processor and kernel (so no emulation distorts
//! CPU time), Debian's systemd, D-Bus and logind, and both programs as their packages' own units.
//! What is measured from near is measured by this same program inside the box; see [`inside`].
//!
//! Nothing here is a pass or a fail: a target is printed beside what was measured. What cannot be
//! measured fails the bench, with the reason.

mod inside;
mod measure;
mod sizes;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use lab::{AptRepo, Container, Image, Release, Switch, cache};

use measure::Bench;
use table::Table;

/// For what takes as long as it takes.
const LONG: Duration = Duration::from_secs(300);
/// Connections and processes: the small size, then each of the two grown a hundredfold.
const LOADS: [(usize, usize); 3] = [(100, 50), (10_000, 50), (100, 5_000)];
/// How long both programs are watched at their default interval.
const CALM_SECONDS: u64 = 240;
const STARTS: usize = 11;
/// Seconds between two ticks: ours by default, and theirs here.
const INTERVAL: u32 = 20;
/// The port whose connections both programs watch.
const PORT: u16 = 2375;
const OURS: &str = "guppy-idle-stopper";
const THEIRS: &str = "autosuspend";
/// This program, inside the box.
const PROBE: &str = "/usr/local/bin/bench-idle-stopper";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => bench().map(|table| println!("{table}")),
        ["connect", address, number] => inside::connect(address, number),
        ["watch", seconds, pids @ ..] => inside::watch(seconds, pids),
        ["start", user, mark, program @ ..] => inside::start(user, mark, program),
        _ => Err(anyhow!("usage: GUPPY_DEBS=FOLDER bench-idle-stopper")),
    }
}

fn bench() -> Result<String> {
    lab::require_privilege()?;
    let ours = lab::apt_repo::built()?;
    let minimal = minimal_debian().context("autosuspend cannot be had from Debian")?;
    let mut table = Table::default();
    let switch = Switch::new()?;
    let theirs = debs_in(&minimal.join("tree/var/cache/apt/archives"))?;
    let repository = AptRepo::serve(&switch, &[ours, theirs].concat())?;
    let it = Bench { container: Container::boot(&Image::of(Release::Trixie)?, &switch)? };
    it.install(&repository)?;

    lab::say("start to ready");
    it.starts(&mut table)?;
    lab::say(format_args!("{CALM_SECONDS} s at the default interval"));
    it.calm(&mut table)?;
    for load in LOADS {
        lab::say(format_args!("{} connections, {} processes", load.0, load.1));
        it.load(&mut table, load)?;
    }
    it.sizes(&mut table, &minimal)?;
    let versions =
        it.sh(&format!("dpkg-query -W -f '${{Package}} ${{Version}}, ' {OURS} {THEIRS}"))?;
    let kernel = it.sh("uname -r")?;
    Ok(table.print(&versions, &kernel))
}

/// Debian as small as it boots, and beside it, as packages, what autosuspend adds to that.
fn minimal_debian() -> Result<PathBuf> {
    let script = r#"set -e
        mmdebstrap --quiet --mode=root --format=directory --variant=minbase \
            --include=systemd-sysv,dbus --aptopt='APT::Install-Recommends "false"' \
            --skip=cleanup/apt --customize-hook='chroot "$1" sh -ec "apt-get clean
                apt-get -qq --yes --download-only install autosuspend"' "$0" "$1/tree""#;
    let key = cache::key([script.as_bytes()]);
    cache::folder_of("bench-minimal-trixie", key, |folder| {
        lab::say("fetching Debian's autosuspend, once");
        let mut command = Command::new("bash");
        command.args(["-c", script, Release::Trixie.name()]).arg(folder);
        lab::process::run(command, b"", Duration::from_secs(900))?.ok().map(drop)
    })
}

fn debs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}
