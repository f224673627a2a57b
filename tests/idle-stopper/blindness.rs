//! What the sandbox must not hide from the daemon: each directive that blinds it, put into its unit.
//! This is why the unit leaves them out, and what the other tests would see if somebody put one in.

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario};
use serde_json::Value;

use crate::machine::{Box, LONG, UNIT, calm, detail_of, state_of};
use crate::survives::DPKG_LOCK;

/// What the daemon sees of a box where a remote command runs, somebody sits at the console and a
/// package manager holds its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Seen {
    command: bool,
    connections: bool,
    interfaces: bool,
    terminals: bool,
    package_lock: bool,
    cpu: bool,
}

const EVERYTHING: Seen = Seen {
    command: true,
    connections: true,
    interfaces: true,
    terminals: true,
    package_lock: true,
    cpu: true,
};

impl Seen {
    fn of(explained: &Value) -> Result<Self> {
        let open = detail_of(explained, "terminals")?;
        let open = open.split(' ').next().and_then(|count| count.parse().ok()).unwrap_or(0);
        let known = |kind: &str| -> Result<bool> {
            Ok(matches!(state_of(explained, kind)?.as_str(), "active" | "quiet"))
        };
        Ok(Self {
            command: state_of(explained, "commands")? == "active",
            connections: known("tcp")?
                && !detail_of(explained, "tcp")?.starts_with("0 connections"),
            interfaces: known("network")?
                && !detail_of(explained, "network")?.starts_with("0 interfaces"),
            terminals: open > 0,
            package_lock: state_of(explained, "packages")? == "active",
            cpu: known("cpu")?,
        })
    }
}

#[test]
fn each_silent_directive_blinds_it() {
    scenario(|| {
        // Short ticks: what a rate needs is a number of looks.
        Box::each(&calm().replace("tick = \"2s\"", "tick = \"1s\""), |it| {
            let _command = it.client.ssh_spawn(&it.key, &it.vm, "dev", "", "exec sleep 100000")?;
            it.vm.type_console("\r")?;
            it.vm.service("backup", DPKG_LOCK)?;
            lab::wait::until_true("everything to be seen, as shipped", LONG, || {
                Ok(Seen::of(&it.explain()?)? == EVERYTHING)
            })
            .with_context(|| format!("{:#?}", it.explain()))?;
            let no_network = Seen { connections: false, interfaces: false, ..EVERYTHING };
            let no_files = Seen { package_lock: false, cpu: false, ..EVERYTHING };
            // With what it then says that it cannot read.
            for (directive, blind, unknown) in [
                ("PrivateNetwork=yes", no_network, &[][..]),
                ("ProtectProc=invisible", Seen { command: false, ..EVERYTHING }, &["commands"]),
                ("PrivateDevices=yes", Seen { terminals: false, ..EVERYTHING }, &[]),
                ("ProcSubset=pid", no_files, &["packages", "cpu"]),
            ] {
                let explained = look(&it, directive)?;
                let seen = Seen::of(&explained)?;
                ensure!(seen.lacks(&blind), "{directive} hides nothing of {blind:?}: {seen:?}");
                for kind in unknown {
                    ensure!(state_of(&explained, kind)? == "unknown", "{directive}: {explained:#}");
                }
            }
            without_tmux_s_sockets(&it)?;
            without_netlink(&it)?;
            with_its_own_cgroup_only(&it)?;
            with_its_own_users_only(&it)?;
            without_unix_sockets(&it)
        })
    });
}

impl Seen {
    /// Whether all that `other` does not see is not seen here either.
    fn lacks(&self, other: &Self) -> bool {
        let pairs = [
            (self.command, other.command),
            (self.connections, other.connections),
            (self.interfaces, other.interfaces),
            (self.terminals, other.terminals),
            (self.package_lock, other.package_lock),
            (self.cpu, other.cpu),
        ];
        pairs.into_iter().all(|(mine, its)| its || !mine)
    }
}

/// Writes the drop-in, and nothing else.
fn put_in(it: &Box, directives: &str) -> Result<()> {
    let dropin = "/etc/systemd/system/guppy-idle-stopper.service.d/blind.conf";
    it.vm.write_file(dropin, format!("[Service]\n{directives}\n").as_bytes())?;
    it.vm.sh("systemctl daemon-reload")?.ok().map(drop)
}

/// What the daemon explains with a directive in its unit.
fn look(it: &Box, directive: &str) -> Result<Value> {
    put_in(it, directive)?;
    it.vm.sh(&format!("systemctl restart {UNIT}"))?.ok()?;
    lab::wait::until_true("a first look", LONG, || Ok(it.kind("holds")? == "quiet"))?;
    // Three more: a rate needs two, and the first may fall into the command's start.
    let begin = it.uptime()?;
    lab::wait::until_true("three looks", LONG, || Ok(it.uptime()? > begin + 3.5))?;
    it.explain()
}

/// Nothing asks them today: it is the daemon's own view of /tmp that is looked at.
fn without_tmux_s_sockets(it: &Box) -> Result<()> {
    it.vm.sh("touch /tmp/tmux-1000")?.ok()?;
    let sees = || -> Result<bool> {
        let pid = it.vm.sh(&format!("systemctl show -P MainPID {UNIT}"))?.ok()?;
        Ok(it.vm.sh(&format!("test -e /proc/{pid}/root/tmp/tmux-1000"))?.status == 0)
    };
    look(it, "")?;
    ensure!(sees()?, "as shipped, it does not see /tmp");
    look(it, "PrivateTmp=yes")?;
    ensure!(!sees()?, "PrivateTmp= hides nothing");
    Ok(())
}

fn without_netlink(it: &Box) -> Result<()> {
    let explained = look(it, "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_UNIX")?;
    ensure!(state_of(&explained, "tcp")? == "unknown", "{explained:#}");
    lab::say(format_args!("without AF_NETLINK: {}", detail_of(&explained, "tcp")?));
    Ok(())
}

/// Debian 12's systemd does not know the word, and says so.
fn with_its_own_cgroup_only(it: &Box) -> Result<()> {
    let explained = look(it, "ProtectControlGroups=strict")?;
    if it.vm.image().release() == Release::Bookworm {
        let log = it.vm.sh("journalctl --boot --quiet -o cat _PID=1 | grep blind.conf")?.ok()?;
        ensure!(log.contains("ignoring: strict"), "it is not said that the word is unknown: {log}");
        return Ok(());
    }
    for kind in ["cpu", "builds"] {
        ensure!(state_of(&explained, kind)? == "unknown", "{kind}: {explained:#}");
    }
    lab::say(format_args!("ProtectControlGroups=strict: {}", detail_of(&explained, "cpu")?));
    Ok(())
}

/// Every other user reads as 65534, nobody: a person's hold is refused, and they are told.
fn with_its_own_users_only(it: &Box) -> Result<()> {
    look(it, "PrivateUsers=yes")?;
    let refused = it.vm.sh("runuser -u dev -- guppy hold 1h")?;
    ensure!(refused.status == 4 && refused.stderr.contains("65534"), "{refused:?}");
    lab::say(format_args!("PrivateUsers=yes: {}", refused.stderr.trim()));
    Ok(())
}

/// It cannot even say that it is ready: systemd tells of a unit that does not start.
fn without_unix_sockets(it: &Box) -> Result<()> {
    put_in(it, "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_NETLINK\nTimeoutStartSec=5s")?;
    let restarted = it.vm.sh(&format!("systemctl restart {UNIT}"))?;
    ensure!(restarted.status != 0, "it starts without AF_UNIX");
    let doctor = it.vm.sh("guppy doctor --json")?;
    let report: Value = serde_json::from_str(&doctor.stdout).context(doctor.stdout.clone())?;
    ensure!(doctor.status == 1, "doctor finds nothing wrong: {report:#}");
    let shown = it.vm.sh(&format!("systemctl show -P Result -P ActiveState {UNIT}"))?.ok()?;
    lab::say(format_args!("without AF_UNIX: {}", shown.replace('\n', " ")));
    Ok(())
}
