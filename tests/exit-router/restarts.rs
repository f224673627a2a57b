//! The agent's own end, however it comes, changes nothing in the kernel; its start finds its way from
//! wherever the last one was.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::customer::Vpn;
use lab::process::Spawned;
use lab::{Release, full, say, scenario};

use crate::guppy::Guppy;
use crate::traffic::kinds;
use crate::world::{ACME, World, of};

const UNIT: &str = "guppy-exit-router.service";
/// All that is the agent's own in the kernel, and the other rules.
const KERNEL: &str = "ip rule; ip -6 rule; ip route show table 5310; ip -6 route show table 5310
    nft -s list table inet guppy_exit_router | grep -v -e elements -e counter";

#[test]
fn a_stop_an_upgrade_and_a_purge_do_what_they_say() {
    scenario(|| {
        let it = World::up(Release::Trixie, Vpn::WireGuard)?;
        for unit in [UNIT, "guppy-exit-router-block.service"] {
            // Ten times the score.
            it.guppy.sh(&format!("systemd-analyze security --no-pager --threshold=15 {unit}"))?;
        }
        let mut judge = it.judge()?;
        let mut traffic = it.traffic()?;
        let both = kinds(&["v4", "v6"]);
        let client = || it.guppy.sh(&format!("systemctl show -P MainPID guppy-vpn@{ACME}.service"));
        let before = client()?;

        let kernel = it.guppy.sh(KERNEL)?;
        it.guppy.sh(&format!("systemctl stop {UNIT}"))?;
        let after = it.guppy.sh(KERNEL)?;
        ensure!(after == kernel, "a stop has changed the kernel from\n{kernel}\nto\n{after}");
        traffic.until_answered(&both)?;
        it.guppy.sh(&format!("systemctl start {UNIT}"))?;
        it.until_converged()?;

        let daemon = || it.guppy.sh(&format!("systemctl show -P MainPID {UNIT}"));
        let old = daemon()?;
        upgrade(&it)?;
        ensure!(daemon()? != old, "the old agent still runs");
        ensure!(client()? == before, "an upgrade has restarted the VPN's client");
        traffic.until_answered(&both)?;
        it.until_converged()?;
        let leaks = it.leaks(&mut judge)?;
        ensure!(leaks.is_empty(), "over a stop and an upgrade: {leaks:#?}");

        // Only these two open what was closed, and they say so.
        let disabled = it.vpn("disable")?;
        ensure!(of(&disabled, "/changed") == true, "{disabled:#}");
        ensure!(
            gone(&it)?,
            "left by `guppy vpn disable`: {}",
            it.guppy.sh("ip rule; nft list tables")?
        );
        it.until_egress(&it.own_addresses()?)?;
        it.vpn(&format!("up {ACME} --wait-healthy --timeout 4min"))?;
        it.until_egress(&it.customer.addresses()?)?;
        // Whatever has failed goes with its package.
        it.guppy.sh("conf=/run/systemd/system/guppy-exit-router-block.service.d/test.conf
             mkdir -p $(dirname $conf)
             printf '[Service]\nExecStartPre=/bin/false\n' >$conf && systemctl daemon-reload
             systemctl restart guppy-exit-router-block.service && exit 1
             rm $conf && systemctl daemon-reload")?;
        it.guppy.apt("purge -y guppy-exit-router")?;
        ensure!(gone(&it)?, "left by a purge: {}", it.guppy.sh("ip rule; nft list tables")?);
        let units =
            "systemctl list-units --all --plain --no-legend 'guppy-exit-router*' 'guppy-vpn@*'";
        let units = it.guppy.sh(units)?;
        ensure!(units.is_empty(), "left by a purge: {units}");
        // The manual of `guppy vpn` is guppy-cli's.
        let left = it.guppy.sh(
            "find / -xdev \\( -name '*exit-router*' -o -name '*guppy-vpn*' \\) -not -path '/proc/*' \
             -not -path '/sys/*' -not -path '/var/log/*' -not -path '/var/lib/apt/*' \
             -not -path '/var/cache/*' -not -path '/etc/credstore/*' \
             -not -path '/usr/share/man/man1/guppy-vpn*' 2>/dev/null",
        )?;
        ensure!(left.is_empty(), "left behind:\n{left}");
        Ok(())
    });
}

#[test]
fn without_tailscale_the_agent_waits_and_takes_up_its_work_when_it_comes() {
    scenario(|| {
        let mut it = World::without_agent(Release::Trixie, Guppy::container, &[])?;
        // It takes its interface with it.
        it.guppy
            .sh("systemctl stop tailscaled.service && ! ip link show tailscale0 2>/dev/null")?;
        it.install()?;
        let missing = "there is no tailscale0";
        let status = it.guppy.sh("guppy status")?;
        ensure!(status.contains(missing), "{status}");
        for _ in 0..3 {
            it.guppy.sh("ip rule add pref 30000 lookup 5000; ip rule del pref 30000")?;
            it.until_converged()?;
        }
        let said = it.guppy.sh(&format!("journalctl -o cat -u {UNIT} | grep -c '^{missing}'"))?;
        let starts = it.guppy.sh(&format!("systemctl show -P NRestarts {UNIT}"))?;
        ensure!((&*said, &*starts) == ("1", "0"), "said {said} times, {starts} restarts");

        it.guppy.sh("systemctl start tailscaled.service")?;
        it.until("tailscale0 to be seen", |it| {
            Ok(!it.guppy.sh("guppy status")?.contains(missing))
        })?;
        let mut judge = it.judge()?;
        it.raise(Vpn::WireGuard)?;
        let leaks = it.leaks(&mut judge)?;
        ensure!(leaks.is_empty(), "{leaks:#?}");
        Ok(())
    });
}

/// Nothing of ours is in the kernel.
fn gone(it: &World) -> Result<bool> {
    // ip(8) takes a protocol for rules too, and heeds it only when it flushes.
    let left = it.guppy.sh("{ ip rule; ip -6 rule; } | grep 'proto 173'
         ip route show table all protocol 173; ip -6 route show table all protocol 173
         nft list tables | grep guppy || true")?;
    Ok(left.is_empty())
}

/// The same package with a higher number.
fn upgrade(it: &World) -> Result<()> {
    it.guppy
        .sh("cd $(mktemp -d) && apt-get -qq download guppy-exit-router && \
             dpkg-deb -R guppy-exit-router_*.deb t && \
             sed -i 's/^Version: .*/Version: 99/' t/DEBIAN/control && \
             dpkg-deb --root-owner-group -Znone -b t up.deb && \
             DEBIAN_FRONTEND=noninteractive dpkg -i up.deb </dev/null")
        .map(drop)
}

/// What an agent has to mend, so that it acts, and how often it acts on it at most.
const WORK: [(&str, &str); 3] = [
    (
        "all of ours is gone",
        "ip rule flush protocol 173; ip -6 rule flush protocol 173
        ip route flush table 5310; ip -6 route flush table 5310
        nft delete table inet guppy_exit_router 2>/dev/null || true",
    ),
    ("the rules are gone", "ip rule flush protocol 173; ip -6 rule flush protocol 173"),
    ("the tunnel is gone", "ip link del vpn-acme"),
];

#[test]
fn killed_at_each_of_its_actions_the_agent_converges_and_nothing_leaks() {
    scenario(|| {
        let it = World::up(Release::Trixie, Vpn::WireGuard)?;
        let mut judge = it.judge()?;
        let mut traffic = it.traffic()?;
        let both = kinds(&["v4", "v6"]);
        it.guppy.sh("for unit in guppy-exit-router guppy-vpn@; do
                 mkdir -p /run/systemd/system/$unit.service.d
                 printf '[Unit]\\nStartLimitIntervalSec=0\\n[Service]\\nRestartSec=0\\n' \
                     >/run/systemd/system/$unit.service.d/test.conf
             done
             systemctl daemon-reload")?;
        let mut kills = 0;
        for (name, work) in WORK {
            // With all gone at once it leaks until somebody closes, so nobody sends then.
            let all = name == "all of ours is gone";
            if all {
                it.own_exit()?;
            }
            let most = if full() { 400 } else { 40 };
            for number in 1..=most {
                it.until("the tunnel", |it| {
                    Ok(it.guppy.try_sh("ip link show vpn-acme up")?.stdout.contains("UP"))
                })?;
                let killed = kill_at(&it, work, number)?;
                it.until_converged().with_context(|| format!("{name}: killed at {number}"))?;
                if !all {
                    traffic.until_sent(&both)?;
                }
                if !killed {
                    break;
                }
                kills += 1;
            }
            if all {
                it.exit_by_box()?;
                it.until_egress(&it.customer.addresses()?)?;
            }
            traffic.until_answered(&both).with_context(|| it.story())?;
            let leaks = it.leaks(&mut judge)?;
            // The laptop's own traffic does not come by the box at all while it has its own exit.
            ensure!(leaks.is_empty(), "{name}: {leaks:#?}");
        }
        ensure!(kills > 10, "killed only {kills} times: the test proves little");
        say(format_args!("killed {kills} times in mid-action, 0 packets leaked"));
        Ok(())
    });
}

/// Gives the agent work and kills it at its Nth message to the kernel or program started; false if
/// it was done before that.
fn kill_at(it: &World, work: &str, number: usize) -> Result<bool> {
    let Guppy::Container(container) = &it.guppy else { anyhow::bail!("no container") };
    let pid = it.guppy.sh(&format!("systemctl show -P MainPID {UNIT}"))?;
    // As this machine numbers it.
    let outside = container.pid_of(pid.parse().context("no pid of the agent")?)?;
    let mut strace = Command::new("strace");
    let outside = outside.to_string();
    strace.args(["-q", "-p", &outside, "-e", "trace=sendto,sendmsg,clone,clone3,vfork"]);
    strace.args([
        "-e",
        &format!("inject=sendto,sendmsg,clone,clone3,vfork:signal=SIGKILL:when={number}"),
    ]);
    strace.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    strace.stderr(std::process::Stdio::null());
    let mut strace = Spawned::start(&mut strace)?;
    lab::wait::until_true("strace to trace", crate::world::LONG, || {
        let status = std::fs::read_to_string(format!("/proc/{outside}/status")).unwrap_or_default();
        let traced = status
            .lines()
            .any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"));
        Ok(traced || strace.ended()?.is_some())
    })?;
    it.guppy.sh(work)?;
    let now = || it.guppy.sh(&format!("systemctl show -P MainPID {UNIT}"));
    lab::wait::until("the agent to act or to die", crate::world::LONG, || {
        if now()? != pid {
            return Ok(Some(true));
        }
        let plan = it.try_vpn("plan")?;
        let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap_or_default();
        Ok(of(&plan, "/actions").as_array().is_some_and(Vec::is_empty).then_some(false))
    })
}
