//! What the daemon may and may not do, what its sandbox must not hide from it, and who may ask.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::scenario;
use serde_json::Value;

use crate::machine::{Box, LONG, UNIT, config, state_of, text_of};

/// A long time, so that nothing stops while a test looks.
fn calm() -> String {
    config("").replace("idle_after = \"25s\"", "idle_after = \"1h\"")
}

#[test]
fn the_unit_is_locked_in() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let report =
                it.vm.sh(&format!("systemd-analyze security --no-pager --threshold=15 {UNIT}"))?;
            let last = report.stdout.lines().last().unwrap_or_default().to_owned();
            lab::say(&last);
            ensure!(report.status == 0, "{last}");
            let shown = it.vm.sh(&format!(
                "p=$(systemctl show -P MainPID {UNIT}); grep -E '^(CapEff|CapBnd|NoNewPrivs)' /proc/$p/status; \
                 stat -c %U /proc/$p"
            ))?;
            let shown = shown.ok()?;
            ensure!(
                shown.contains("CapEff:\t0000000000000000")
                    && shown.contains("CapBnd:\t0000000000000000")
                    && shown.contains("NoNewPrivs:\t1")
                    && shown.contains("guppy-idle-stopper"),
                "{shown}"
            );
            Ok(())
        })
    });
}

/// polkit grants exactly what the rule names, also on 252, where a transient unit has no name.
#[test]
fn its_user_may_start_four_units_and_nothing_else() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let manager = "busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager";
            let login = "busctl call org.freedesktop.login1 /org/freedesktop/login1 org.freedesktop.login1.Manager";
            let as_daemon =
                |call: &str| it.vm.sh(&format!("runuser -u guppy-idle-stopper -- {call}"));
            it.vm
                .sh("install -o guppy-idle-stopper /dev/null /run/guppy-idle-stopper/message")?
                .ok()?;
            as_daemon(&format!("{manager} StartUnit ss guppy-idle-stopper-warn.service replace"))?
                .ok()?;
            let can = as_daemon(&format!("{login} CanPowerOff"))?.ok()?;
            ensure!(can.contains("yes"), "{can}");
            for call in [
                format!("{manager} StartUnit ss ssh.service replace"),
                format!("{manager} StartUnit ss reboot.target replace"),
                format!("{manager} StopUnit ss guppy-idle-stopper-warn.service replace"),
                format!("{manager} StopUnit ss ssh.service replace"),
                format!("{manager} KillUnit ssi ssh.service all 9"),
                format!("{manager} Reload"),
                "systemd-run --wait touch /root/owned".to_owned(),
                format!(
                    "{manager} StartTransientUnit 'ssa(sv)a(sa(sv))' x.service replace 1 ExecStart 'a(sasb)' 1 /bin/touch 2 /bin/touch /root/owned false 0"
                ),
                format!("{login} Reboot b false"),
                // 1<<4: SD_LOGIND_ROOT_CHECK_INHIBITORS aside, no flag gets past an inhibitor.
                format!("{login} ScheduleShutdown st reboot 1"),
            ] {
                let output = as_daemon(&call)?;
                let refused = ["Access denied", "authentication required", "Permission denied"];
                ensure!(
                    output.status != 0 && refused.iter().any(|why| output.stderr.contains(why)),
                    "the daemon's user may, or the call was wrong: {call}: {}",
                    output.stderr
                );
            }
            ensure!(it.vm.sh("test -e /root/owned")?.status != 0);
            // With a lock held, its power-off is refused.
            it.vm.service("backup", "exec systemd-inhibit --what=shutdown --why=x sleep 100000")?;
            lab::wait::until_true("the lock", LONG, || Ok(it.kind("inhibitors")? == "active"))?;
            ensure!(
                as_daemon(&format!("{login} PowerOff b false"))?.status != 0,
                "it may ignore inhibitors"
            );
            it.vm.stays_on(Duration::from_secs(5))
        })
    });
}

/// Each of these blinds the daemon without a word: this is why the unit leaves them out, and what
/// the other tests would see if somebody put one in.
#[test]
fn each_silent_directive_blinds_it() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let _command = it.client.ssh_spawn(&it.key, &it.vm, "dev", "", "exec sleep 100000")?;
            it.vm.type_console("\r")?;
            it.vm.service(
                "backup",
                "exec python3 -c \"
import fcntl,time
f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(100000)\"",
            )?;
            let sees = |explained: &Value| -> Result<[bool; 6]> {
                let detail = |kind: &str| {
                    explained["evidence"]
                        .as_array()
                        .and_then(|list| list.iter().find(|line| line["kind"] == kind))
                        .map(|line| text_of(line, "detail"))
                        .unwrap_or_default()
                };
                let open = detail("terminals")
                    .split(' ')
                    .next()
                    .and_then(|count| count.parse().ok())
                    .unwrap_or(0);
                Ok([
                    state_of(explained, "commands")? == "active",
                    !detail("tcp").starts_with("0 connections"),
                    !detail("network").starts_with("0 interfaces"),
                    open > 0,
                    state_of(explained, "packages")? == "active",
                    state_of(explained, "cpu")? == "quiet"
                        || state_of(explained, "cpu")? == "active",
                ])
            };
            let look = |directive: &str| -> Result<[bool; 6]> {
                let dropin = "/etc/systemd/system/guppy-idle-stopper.service.d/blind.conf";
                it.vm.write_file(dropin, format!("[Service]\n{directive}\n").as_bytes())?;
                it.vm.sh(&format!("systemctl daemon-reload && systemctl restart {UNIT}"))?.ok()?;
                // Three looks: a rate needs two, and the first may fall into the command's start.
                let begin = it.uptime()?;
                lab::wait::until_true("three looks", LONG, || Ok(it.uptime()? > begin + 7.0))?;
                sees(&it.explain()?)
            };
            // An idle getty's terminal is stamped but not touched, so the key above is long over.
            let all = look("")?;
            ensure!(all == [true; 6], "as shipped it should see everything: {all:?}");
            for (directive, blind) in [
                ("PrivateNetwork=yes", &[1, 2][..]),
                ("ProtectProc=invisible", &[0]),
                ("PrivateDevices=yes", &[3]),
                ("ProcSubset=pid", &[4, 5]),
            ] {
                let seen = look(directive)?;
                for &index in blind {
                    ensure!(
                        seen.get(index) == Some(&false),
                        "{directive} hides nothing at {index}: {seen:?}"
                    );
                }
            }
            Ok(())
        })
    });
}

#[test]
fn the_peer_s_uid_decides() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let sh = |shell: &str| it.vm.sh(shell);
            sh("useradd -m other && useradd -m -G guppy member && useradd --system robot")?.ok()?;
            sh("runuser -u dev -- guppy hold 1h --why mine")?.ok()?;
            ensure!(
                sh("runuser -u other -- guppy release 1")?.status == 4,
                "another user released it"
            );
            ensure!(
                sh("runuser -u robot -- guppy hold 1h")?.status == 4,
                "a system user held the box"
            );
            sh("runuser -u robot -- guppy idle")?.ok()?;
            sh("runuser -u member -- guppy release 1")?.ok()?;
            sh("runuser -u dev -- guppy release 1")?.ok()?;
            ensure!(sh("runuser -u dev -- guppy hold 100h")?.status != 0, "more than hold_at_most");
            ensure!(sh("guppy hold never")?.status == 2, "no time at all");
            Ok(())
        })
    });
}

/// `guppy hold -- COMMAND`: the command's own pid, streams and exit status, and no longer than it.
#[test]
fn a_command_is_held_for_as_long_as_it_lives() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let output = it
                .vm
                .sh("runuser -u dev -- guppy hold -- sh -c 'echo out; echo err >&2; exit 7'")?;
            ensure!(
                (output.status, output.stdout.trim()) == (7, "out")
                    && output.stderr.contains("err"),
                "{output:?}"
            );
            it.vm.service("held", "exec guppy hold --why tests -- sleep 100000")?;
            lab::wait::until_true("the hold", LONG, || Ok(it.kind("holds")? == "active"))?;
            // The client is killed as hard as can be; nobody is left to say goodbye.
            it.vm.sh("systemctl kill --signal=KILL held")?.ok()?;
            lab::wait::until_true("the hold to end", LONG, || Ok(it.kind("holds")? == "quiet"))?;
            ensure!(it.vm.sh("guppy hold -- /no/such/program")?.status == 127);
            lab::wait::until_true("its hold to end", LONG, || Ok(it.kind("holds")? == "quiet"))
        })
    });
}

/// Root runs what is in these folders, so only root may have written it.
#[test]
fn a_check_that_others_can_write_is_refused() {
    scenario(|| {
        Box::each(&calm(), |it| {
            it.vm
                .sh("cd /etc/guppy/idle-stopper.checks.d && printf '#!/bin/sh\\ntouch /root/owned\\nexit 1\\n' >theirs && \
                     chmod 755 theirs && chown dev theirs")?
                .ok()?;
            lab::wait::until_true("the refusal", LONG, || {
                Ok(it.kind("checks")? == "unknown"
                    && format!("{}", it.explain()?).contains("does not belong to root"))
            })?;
            it.vm.sh("chown root /etc/guppy/idle-stopper.checks.d/theirs")?.ok()?;
            lab::wait::until_true("the check to run", LONG, || Ok(it.kind("checks")? == "quiet"))?;
            ensure!(it.vm.sh("test -e /root/owned")?.status == 0);
            Ok(())
        })
    });
}
