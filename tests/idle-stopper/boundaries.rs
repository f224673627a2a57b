//! What the daemon may and may not do, and who may ask.

use std::time::Duration;

use anyhow::ensure;
use lab::scenario;

use crate::machine::{Box, LONG, UNIT, calm};

#[test]
fn the_unit_is_locked_in() {
    scenario(|| {
        Box::each(&calm(), |it| {
            // The two that run what the box's owner has written are exempt, and say so.
            let others = ["warn", "poweroff"].map(|of| format!("guppy-idle-stopper-{of}.service"));
            for unit in [UNIT].into_iter().chain(others.iter().map(String::as_str)) {
                let report = it
                    .vm
                    .sh(&format!("systemd-analyze security --no-pager --threshold=15 {unit}"))?;
                let last = report.stdout.lines().last().unwrap_or_default().to_owned();
                lab::say(&last);
                ensure!(report.status == 0, "{last}");
            }
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
            // 1 << 4 is SD_LOGIND_SKIP_INHIBITORS: with it, it is polkit that refuses.
            for call in ["PowerOff b false", "PowerOffWithFlags t 16"] {
                let output = as_daemon(&format!("{login} {call}"))?;
                ensure!(output.status != 0, "it may ignore inhibitors: {call}");
            }
            it.vm.stays_on(Duration::from_secs(5))
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
            let released = sh("runuser -u member -- guppy release 1 --json")?.ok()?;
            ensure!(released.contains("\"why\": \"mine\""), "{released}");
            sh("usermod -a -G guppy robot && runuser -u robot -- guppy hold 1h")?.ok()?;
            sh("runuser -u dev -- guppy release 1")?.ok()?;
            ensure!(sh("runuser -u dev -- guppy hold 100h")?.status == 4, "more than hold_at_most");
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
