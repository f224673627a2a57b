//! Tailscale SSH: tailscaled serves it by itself, so no sshd and no socket of the kernel's tells
//! of a person or a command. Real tailscaled on both sides, in a tailnet without an internet.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lab::process::Spawned;
use lab::tailnet::{Tailnet, programs};
use lab::{Namespace, Terminal, ledger, scenario};
use serde_json::Value;

use crate::machine::{Box, IDLE, LONG, calm, config, detail_of, state_of};
use crate::watcher::{Watcher, only};

/// A person's own machine in the tailnet.
struct Peer<'a> {
    host: &'a Namespace,
    place: PathBuf,
    tailscale: String,
    daemon: Spawned,
}

impl<'a> Peer<'a> {
    fn join(tailnet: &Tailnet, host: &'a Namespace, programs: &Path) -> Result<Self> {
        let (place, _) = ledger::place("gt")?;
        let (there, programs) = (place.display(), programs.display());
        // No device of its own: the host's kernel has no part in the tailnet.
        let daemon = host.spawn(&format!(
            "exec {programs}/tailscaled --tun=userspace-networking --no-logs-no-support --state=mem: \
             --statedir={there} --socket={there}/socket >{there}/log 2>&1"
        ))?;
        let tailscale =
            format!("env XDG_CONFIG_HOME={there} {programs}/tailscale --socket={there}/socket");
        let peer = Self { host, place, tailscale, daemon };
        lab::wait::until_true("the peer's tailscaled", LONG, || {
            Ok(peer.place.join("socket").exists())
        })?;
        host.sh_within(LONG, &format!("{} {} --hostname=laptop", peer.tailscale, tailnet.up()))?
            .ok()?;
        Ok(peer)
    }

    /// `tailscale ssh dev@box` with a command, or none.
    fn ssh(&self, command: &str) -> String {
        format!("{} ssh dev@box {command}", self.tailscale)
    }

    fn shell(&self) -> Result<Terminal> {
        let shell = self.host.terminal(&self.ssh(""))?;
        shell.wait_for("$", LONG)?;
        Ok(shell)
    }
}

impl Drop for Peer<'_> {
    fn drop(&mut self) {
        self.daemon.kill();
        ledger::leave(&self.place);
    }
}

/// Makes the box a part of the tailnet, as its packages would.
fn install(it: &Box, tailnet: &Tailnet) -> Result<()> {
    let script = format!(
        "curl -sSf {} | tar -xC / && systemctl daemon-reload && systemctl start tailscaled && \
         tailscale {} --ssh --hostname=box",
        tailnet.archive(),
        tailnet.up()
    );
    it.vm.sh_within(LONG, &script)?.ok().map(drop)
}

/// Types until the daemon has seen a key, and gives its explanation of that tick.
fn seen_typing(it: &Box, shell: &mut Terminal) -> Result<Value> {
    lab::wait::until("a key to be seen", LONG, || {
        shell.type_keys(" ")?;
        let explained = it.explain()?;
        Ok((state_of(&explained, "terminals")? == "active").then_some(explained))
    })
}

#[test]
fn tailscale_ssh_keeps_the_box_up_while_it_is_used_and_no_longer() {
    scenario(|| {
        // Long enough to install in; the times under test come with the session under test.
        Box::each(&calm(), a_shell_and_a_command)
    });
}

fn a_shell_and_a_command(it: Box) -> Result<()> {
    let vm = &it.vm;
    let programs = programs()?;
    let tailnet = Tailnet::start(it.switch.host()?)?;
    let laptop = Peer::join(&tailnet, &it.client, &programs)?;
    install(&it, &tailnet)?;

    let mut shell = laptop.shell()?;
    let command = it.client.spawn(&format!("exec {}", laptop.ssh("sleep 100000")))?;
    seen_typing(&it, &mut shell)?;
    // The shell is all that the installed daemon is shown, the command all that another is.
    it.configure(&only("terminals"))?;
    let watcher = Watcher::start(&it, "commands", "sleep 100000")?;

    let sockets = vm.sh("ss -Hnt state connected '( sport = :22 or dport = :22 )'")?.ok()?;
    ensure!(sockets.is_empty(), "the kernel knows of ssh: {sockets}");
    ensure!(vm.sh("pgrep -f '[s]shd.*: dev'")?.status == 1, "sshd serves it");

    let since = it.uptime()?;
    lab::wait::until_true("three idle times to pass", LONG, || {
        shell.type_keys(" ")?;
        // As people type: the next key in a few seconds.
        vm.stays_on(Duration::from_secs(5))?;
        Ok(it.uptime()? > since + 3.2 * IDLE)
    })?;
    let typed = seen_typing(&it, &mut shell)?;
    ensure!(!it.has_stopped_since(since)?, "a shell typed into did not keep the box up: {typed:#}");
    let ran = it.explain_at(&watcher.socket())?;
    ensure!(!watcher.would_have_stopped(&it, since)?, "a command alone did not: {ran:#}");
    ensure!(state_of(&ran, "commands")? == "active", "{ran:#}");
    for detail in [detail_of(&typed, "terminals")?, detail_of(&ran, "commands")?] {
        lab::say(&detail);
        ensure!(detail.contains("Tailscale SSH"), "{detail}");
    }

    // Its client is gone, and so is the reason to stay: what it has left behind is detached.
    drop(command);
    lab::wait::until_true("the command to be no reason any more", LONG, || {
        Ok(state_of(&it.explain_at(&watcher.socket())?, "commands")? == "quiet")
    })?;

    // Open and silent, with every kind of evidence on: tailscaled's own work is none.
    it.configure(&config(""))?;
    let silent = Instant::now();
    let told = shell.wait_for("this box stops in", LONG)?;
    lab::say(format_args!("read over Tailscale SSH: {}", told.lines().last().unwrap_or_default()));
    ensure!(shell.ended()?.is_none(), "the shell has ended");
    let off = vm.wait_power_off(LONG)?;
    let after = off.at.saturating_duration_since(silent);
    lab::say(format_args!("off after {:.0} s of silence", after.as_secs_f64()));
    Ok(())
}
