//! A memory hog among the agents dies alone. It needs the memory controller: a machine.

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario, wait};

use crate::fleet::Fleet;
use crate::machine::{Box, LONG, Machine as _, USER};

/// A cap for each agent.
const LIMITS: &str = "[limits]\nmemory_max = \"400MiB\"\n";
const CAP: u64 = 400 << 20;
/// More than the cap; MiB.
const HOG: u32 = 600;
/// More than the machine; MiB.
const GREATER_HOG: u32 = 4000;
const UNIT: &str = "/sys/fs/cgroup/guppy.slice/guppy-tmux@dev.service";

#[test]
fn a_hog_dies_alone_by_its_own_cap_and_by_that_of_all() {
    scenario(|| {
        for release in Release::of_this_run() {
            dies_alone(*release).with_context(|| format!("on {}", release.name()))?;
        }
        Ok(())
    });
}

/// The child of an agent that eats too much is ended, and its agent sees a failed command.
fn dies_alone(release: Release) -> Result<()> {
    let it = Box::control_plane(release)?;
    it.vm.write_file("/etc/guppy/session-keeper.d/50-local.toml", LIMITS.as_bytes())?;
    it.vm.sh(&format!("systemctl reload guppy-session-keeper@{USER}"))?.ok()?;
    let mut fleet = Fleet::of(0, 3)?;
    fleet.settle(&it.vm, &it.provider)?;
    fleet.back(&it.vm)?;
    let before = processes(&it, &fleet)?;
    let same = |what: &str| -> Result<()> {
        let now = processes(&it, &fleet).with_context(|| format!("after {what}"))?;
        ensure!(now == before, "after {what}: {now:?}, not {before:?}");
        Ok(())
    };
    let name = fleet.name(1);
    let group = format!("{UNIT}/agent-{}", name.replace('/', "+"));
    let cap = it.vm.sh(&format!("cat {group}/memory.max"))?.ok()?;
    ensure!(cap == CAP.to_string(), "{cap}");
    hog(&it, name, HOG, 1)?;
    same("a hog")?;
    let own = exceeded(&it, &group)?;
    ensure!(own > 0 && exceeded(&it, UNIT)? == 0, "not by the agent's own cap");

    // Its user may lift its cap, and not that of all agents together.
    it.vm.user(&format!("echo max >{group}/memory.max"))?.ok()?;
    let of_all = it.vm.sh(&format!("cat {UNIT}/memory.max"))?.ok()?;
    ensure!(of_all != "max", "there is no cap");
    for way in [
        format!("echo max >{UNIT}/memory.max"),
        format!(
            "systemctl --no-ask-password set-property --runtime guppy-tmux@{USER}.service \
             MemoryMax=infinity"
        ),
        "echo $$ >/sys/fs/cgroup/cgroup.procs".to_owned(),
    ] {
        let lifted = it.vm.user(&way)?;
        ensure!(lifted.status != 0, "the user lifts the cap of all: {way}: {lifted:?}");
    }
    ensure!(it.vm.sh(&format!("cat {UNIT}/memory.max"))?.ok()? == of_all, "it was lifted");
    hog(&it, name, GREATER_HOG, 2)?;
    same("a hog that only the cap of all agents stops")?;
    let by_all = exceeded(&it, UNIT)?;
    ensure!(exceeded(&it, &group)? == own && by_all > 0, "not by the cap of all agents");
    Ok(())
}

/// How often just this cap was what something died of.
fn exceeded(it: &Box, group: &str) -> Result<u32> {
    let count = format!("sed -n 's/^oom //p' {group}/memory.events.local");
    it.vm.sh(&count)?.ok()?.parse().context("a count of memory.events.local")
}

/// The server's process and those of the agents.
fn processes(it: &Box, fleet: &Fleet) -> Result<(String, Vec<u64>)> {
    let server = it.vm.sh(&format!("systemctl show -P MainPID guppy-tmux@{USER}.service"))?.ok()?;
    Ok((server, fleet.pids(&it.vm)?))
}

fn hog(it: &Box, name: &str, mebibytes: u32, times: usize) -> Result<()> {
    it.vm.user(&format!("guppy send {name} '/eat {mebibytes}'"))?.ok()?;
    wait::until_true("the hog's end", LONG, || {
        let screen = it.vm.user(&format!("guppy logs {name}"))?.stdout;
        Ok(screen.matches("the child ended with -9").count() == times)
    })
}
