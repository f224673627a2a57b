//! `docker build` from another machine: the client is there, the step runs here and only sleeps.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Container, Image, scenario};

use crate::machine::{Box, IDLE, LONG, WARNING, patient};
use crate::watcher::{Watcher, only};

#[test]
fn a_remote_docker_build_that_sleeps_keeps_the_box_up() {
    // Nothing stops before the build is there.
    scenario(|| Box::each(&patient(&only("builds")), over_ssh));
}

fn over_ssh(it: Box) -> Result<()> {
    it.start_docker()?;
    // Only its docker and ssh matter, so the other machine is a container of the same Debian.
    let client = Container::boot(&Image::of(it.vm.image().release())?, &it.switch)?;
    client.write_file("/root/.ssh/id", &std::fs::read(it.key.folder().join("key"))?)?;
    client
        .write_file(
            "/root/.ssh/config",
            b"Host *\nIdentityFile /root/.ssh/id\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\n",
        )
        .context("the client's ssh")?;
    client
        .sh("chmod 600 /root/.ssh/* && install -d /root/context && \
             printf 'FROM box\\nRUN sleep 100000\\n' >/root/context/Dockerfile")?
        .ok()?;
    let build = format!(
        "export HOME=/root DOCKER_BUILDKIT=1 DOCKER_HOST=ssh://dev@{}; exec docker build --no-cache -q /root/context",
        it.vm.address()
    );
    client
        .sh(&format!("systemd-run --quiet --collect --unit=remote-build bash -c '{build}'"))?
        .ok()?;

    // Only builds count for the installed daemon, and only commands for the one beside it.
    let commands = Watcher::start(&it, "commands", "dial-stdio")?;
    lab::wait::until_true("the step to be seen", LONG, || Ok(it.kind("builds")? == "active"))
        .with_context(|| {
            format!("{:?}", client.sh("journalctl -u remote-build -o cat").map(|log| log.stdout))
        })?;
    it.configure(&only("builds"))?;
    let since = it.uptime()?;
    it.vm.stays_on(Duration::from_secs_f64(3.2 * IDLE))?;
    ensure!(!it.has_stopped_since(since)? && it.kind("builds")? == "active", "{:#}", it.explain()?);
    commands.has_kept_up(&it, since)?;

    client.sh("systemctl stop remote-build")?.ok()?;
    let off = it.vm.wait_power_off(LONG).with_context(|| {
        let running = it.vm.sh("ps -eo pid,stat,args --forest | tail -40; docker ps 2>&1");
        format!("{:#?}\n{:#?}", it.explain(), running.map(|output| output.stdout))
    })?;
    lab::say(format_args!(
        "off {:.0} s after its start; nothing but the build kept it up",
        off.after.as_secs_f64()
    ));
    ensure!(off.after.as_secs_f64() > 3.2 * IDLE + WARNING);
    Ok(())
}
