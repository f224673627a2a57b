//! The units and the package under a real systemd, in a container: what an upgrade leaves alone,
//! what the server's end leaves behind, whom the sockets shut out, what a purge leaves.

use anyhow::{Result, ensure};
use lab::{scenario, wait};

use crate::kept::Kept;
use crate::machine::LONG;

/// A shell that is deaf to all that may be ignored.
const DEAF: &str = "trap '' HUP TERM; while :; do sleep 1; done";

#[test]
fn a_session_is_where_it_belongs_and_an_upgrade_leaves_it_there() {
    scenario(|| {
        Kept::each(|it| {
            belongs(it)?;
            upgrade(it)
        })
    });
}

#[test]
fn agents_end_with_their_server_and_not_with_the_package() {
    scenario(|| {
        Kept::each(|it| {
            servers_end(it)?;
            purge(it)
        })
    });
}

/// It is in a control group of its own, and its user's alone.
fn belongs(it: &Kept) -> Result<()> {
    let unit = "/guppy.slice/guppy-tmux@alice.service";
    let pids = it.pids("shop+fix")?;
    for (pid, leaf) in
        [(&pids.server, "server"), (&pids.shim, "server"), (&pids.agent, "agent-shop+fix")]
    {
        let group = it.sh(&format!("sed -n s/^0:://p /proc/{pid}/cgroup"))?;
        ensure!(group == format!("{unit}/{leaf}"), "{pid}: {group}");
    }
    let keeper = it.sh("systemctl show -P ControlGroup guppy-session-keeper@alice.service")?;
    ensure!(!keeper.contains("guppy-tmux@"), "the keeper is in {keeper}");
    ensure!(it.alice("tmux -N list-sessions -F '#{session_name}'")?.contains("shop/fix"));
    // tmux 3.4 and later would have moved the pane to a scope.
    let server = it.sh(&format!("tr '\\0' '\\n' </proc/{}/environ", pids.server))?;
    ensure!(!server.contains("XDG_RUNTIME_DIR") && !server.contains("NOTIFY_SOCKET"), "{server}");

    let socket = "/run/guppy/session-keeper/alice.sock";
    let mode = it.sh(&format!("stat -c '%a %U' {socket}"))?;
    ensure!(mode == "600 alice", "{mode}");
    let uid = it.sh("id -u alice")?;
    // What one keeper has started all may read, and it alone may say.
    let starts = format!("/run/guppy/session-keeper/starts/{uid}");
    let owner = it.sh(&format!("stat -c '%a %U' $(dirname {starts}) && stat -c %U {starts}"))?;
    ensure!(owner == "1777 root\nalice", "{owner}");
    for forbidden in [
        format!("tmux -N -S /tmp/tmux-{uid}/default list-sessions"),
        format!("test -w {socket}"),
        format!("test -w {starts}"),
        format!("rm -f {starts}"),
        "cat /home/alice/.local/state/guppy/reports/shop+fix.json".to_owned(),
        format!("echo 0 >/sys/fs/cgroup{unit}/agent-shop+fix/cgroup.procs"),
        format!("mkdir /sys/fs/cgroup{unit}/agent-bob"),
        format!("kill -0 {}", pids.agent),
        format!("cat /proc/{}/environ", pids.shim),
        format!("guppy --socket {socket} stop shop/fix"),
        "systemctl --no-ask-password stop guppy-tmux@alice.service".to_owned(),
        "systemctl --no-ask-password stop guppy-session-keeper@alice.service".to_owned(),
    ] {
        let said = it.container().sh(&format!("cd / && runuser -u bob -- sh -c '{forbidden}'"))?;
        ensure!(said.status != 0, "bob may: {forbidden}: {said:?}");
    }
    ensure!(!it.container().sh("runuser -l bob -c 'guppy ls'")?.stdout.contains("shop/fix"));

    // Where somebody works, all goes on as it would without us: sudo too.
    it.container().write_file("/etc/sudoers.d/alice", b"alice ALL=(ALL) NOPASSWD: ALL\n")?;
    let who = "/home/alice/who";
    let pane = format!("sudo -n id -u >{who}.new; mv {who}.new {who}");
    it.sh(&format!("runuser -l alice -c \"tmux new-session -d -s mine '{pane}'\""))?;
    wait::until_true("sudo in a pane", LONG, || {
        Ok(it.container().sh(&format!("cat {who}"))?.stdout.trim() == "0")
    })
}

/// The next version of the packages replaces the keeper and leaves agents alone.
fn upgrade(it: &Kept) -> Result<()> {
    let before = it.pids("shop+fix")?;
    let keeper = || it.sh("systemctl show -P MainPID guppy-session-keeper@alice.service");
    let old = keeper()?;
    // The same package with a higher number.
    it.sh("cd $(mktemp -d) && apt-get -qq download guppy-session-keeper && \
           dpkg-deb -R guppy-session-keeper_*.deb t && \
           sed -i 's/^Version: .*/Version: 99/' t/DEBIAN/control && \
           dpkg-deb --root-owner-group -Znone -b t up.deb && \
           DEBIAN_FRONTEND=noninteractive dpkg -i up.deb </dev/null")?;
    ensure!(keeper()? != old, "the old keeper still runs");
    ensure!(it.pids("shop+fix")? == before, "{:?}, not {before:?}", it.pids("shop+fix")?);
    it.sh(
        "systemctl daemon-reload && systemctl daemon-reexec && systemctl restart systemd-logind",
    )?;
    ensure!(it.pids("shop+fix")? == before, "{:?}, not {before:?}", it.pids("shop+fix")?);
    for pid in [&before.server, &before.shim, &before.agent] {
        ensure!(it.is_alive(pid)?, "{pid} of {before:?}");
    }
    // A shim from before the upgrade still ends and reports as it should.
    it.sh(&format!("kill -TERM {}", before.shim))?;
    wait::until_true("the report", LONG, || Ok(it.report("shop+fix", "phase")? == "ended"))?;
    ensure!(it.report("shop+fix", "asked")? == true, "{:?}", it.report("shop+fix", "exit_code")?);
    Ok(())
}

/// A server that ends, however, leaves no agent behind; each is due again.
fn servers_end(it: &Kept) -> Result<()> {
    it.intent("shop+deaf", &format!("\"-c\", {DEAF:?}"))?;
    it.sh("systemctl restart guppy-session-keeper@alice.service")?;
    it.until_started("shop+deaf")?;
    let mut before = it.pids("shop+deaf")?;
    for end in [
        "kill -KILL $(systemctl show -P MainPID guppy-tmux@alice.service)",
        "systemctl restart guppy-tmux@alice.service",
        "runuser -l alice -c 'tmux kill-server'",
    ] {
        let start = it.report("shop+deaf", "start")?.as_u64();
        it.sh(end)?;
        wait::until_true("another server", LONG, || {
            let pid = it.pids("shop+deaf")?.server;
            Ok(pid != before.server && pid != "0")
        })?;
        ensure!(!it.is_alive(&before.agent)?, "after `{end}` {before:?} has an agent");
        // Due again, and back.
        wait::until_true("the agent to be back", LONG, || {
            let now = it.report("shop+deaf", "start")?.as_u64();
            Ok(it.report("shop+deaf", "phase")? == "started" && now > start)
        })?;
        before = it.pids("shop+deaf")?;
    }
    Ok(())
}

/// A purge ends no session, and leaves nothing of the packages.
fn purge(it: &Kept) -> Result<()> {
    it.until_started("shop+fix")?;
    let before = it.pids("shop+fix")?;
    it.sh("DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y guppy-control-plane guppy-exit-router guppy-session-keeper guppy-cli </dev/null")?;
    ensure!(it.is_alive(&before.agent)?, "whoever typed this in a pane has lost it");
    it.sh("systemctl stop guppy-tmux@alice.service")?;
    wait::until_true("the agent to end", LONG, || Ok(!it.is_alive(&before.agent)?))?;
    let left = it.sh(
        "find / -xdev \\( -name '*guppy*' -o -name 'session-keeper*' \\) -not -path '/proc/*' -not -path '/sys/*' \
         -not -path '/home/*' -not -path '/var/log/*' -not -path '/var/lib/apt/*' -not -path '/var/cache/*' \
         -not -path '/etc/apt/*' 2>/dev/null; ls -d /run/*guppy* 2>/dev/null; \
         systemctl list-units --all --no-legend --state=active,failed 'guppy*'",
    )?;
    ensure!(left.is_empty(), "left behind:\n{left}");
    // What is in a home is its user's.
    it.sh("test -s /home/alice/.config/guppy/sessions.d/shop+fix.toml").map(drop)
}
