//! The daemon is killed, hangs, and is given bad config; the box neither stops early nor stays.

use std::time::Duration;

use anyhow::ensure;
use lab::scenario;

use crate::machine::{Box, IDLE, LONG, TICK, UNIT, config, text_of};

#[test]
fn fifty_kills_keep_the_holds_and_stop_nothing_early() {
    scenario(|| {
        Box::each(&config(""), |it| {
            it.vm.sh("guppy hold 2h --why 'fifty kills'")?.ok()?;
            // Each kill comes at an instant that nobody chose, once the daemon serves again.
            let script = format!(
                "for i in $(seq 50); do \
                   until guppy idle >/dev/null 2>&1; do :; done; \
                   perl -e 'select undef, undef, undef, rand' ; \
                   systemctl kill --signal=KILL {UNIT}; \
                 done; until guppy idle >/dev/null 2>&1; do :; done"
            );
            it.vm.sh_within(Duration::from_secs(600), &script)?.ok()?;
            let restarts: u32 =
                it.vm.sh(&format!("systemctl show -P NRestarts {UNIT}"))?.ok()?.trim().parse()?;
            ensure!(restarts >= 50, "{restarts} restarts");
            let explained = it.explain()?;
            let holds =
                explained.get("holds").and_then(|holds| holds.as_array()).map_or(0, Vec::len);
            ensure!(holds == 1, "{explained:#}");
            ensure!(!it.has_stopped_since(0.0)?, "it stopped under a hold");
            // The hold goes, and the box with it, though not before its time.
            it.vm.sh("guppy release 1")?.ok()?;
            let released = it.uptime()?;
            let stopping = it.wait_event("stopping", LONG)?;
            ensure!(
                stopping.at >= released + IDLE - TICK - 1.0,
                "stopped {:.1} s after the release",
                stopping.at - released
            );
            it.vm.wait_power_off(LONG).map(drop)
        })
    });
}

#[test]
fn a_loop_that_hangs_is_restarted() {
    scenario(|| {
        Box::each(&config(""), |it| {
            it.vm.write_file(
                "/etc/systemd/system/guppy-idle-stopper.service.d/watchdog.conf",
                b"[Service]\nWatchdogSec=5s\n",
            )?;
            it.vm.sh(&format!("systemctl daemon-reload && systemctl restart {UNIT}"))?.ok()?;
            it.vm.sh(&format!("systemctl kill --signal=STOP {UNIT}"))?.ok()?;
            lab::wait::until_true("the watchdog", LONG, || {
                let shown = it.vm.sh(&format!("systemctl show -P NRestarts {UNIT}"))?.ok()?;
                Ok(shown.trim() != "0" && it.explain().is_ok())
            })?;
            let log = it.vm.sh(&format!("journalctl -u {UNIT} -o cat"))?.ok()?;
            ensure!(log.contains("Watchdog timeout"), "{log}");
            // And a loop that goes on is left alone for longer than the watchdog waits.
            let before = it.vm.sh(&format!("systemctl show -P NRestarts {UNIT}"))?.ok()?;
            it.vm.stays_on(Duration::from_secs(12))?;
            ensure!(it.vm.sh(&format!("systemctl show -P NRestarts {UNIT}"))?.ok()? == before);
            Ok(())
        })
    });
}

#[test]
fn a_bad_reload_leaves_the_running_config_in_force_and_says_so() {
    scenario(|| {
        Box::each(&config(""), |it| {
            let file = "/etc/guppy/idle-stopper.d/99-bad.toml";
            it.vm.write_file(file, b"idle_after = \"1h\"\n\nwarning = 3\n")?;
            let check = it.vm.sh("guppy-idle-stopper --check-config")?;
            ensure!(check.status == 1, "{check:?}");
            it.vm.sh(&format!("systemctl reload {UNIT}"))?.ok()?;
            let told = it.wait_event("config-error", LONG)?;
            ensure!(
                told.text.contains("99-bad.toml:3") && told.text.contains("stays in force"),
                "{}",
                told.text
            );
            let explained = it.explain()?;
            ensure!(
                explained.get("idle_after_seconds").and_then(serde_json::Value::as_f64)
                    == Some(IDLE),
                "{explained:#}"
            );
            ensure!(text_of(&explained, "config_error").contains("99-bad.toml"), "{explained:#}");
            it.vm
                .sh(&format!("echo 'idle_after = \"1h\"' >{file} && systemctl reload {UNIT}"))?
                .ok()?;
            it.wait_event("reloaded", LONG)?;
            let explained = it.explain()?;
            ensure!(
                explained.get("idle_after_seconds").and_then(serde_json::Value::as_u64)
                    == Some(3600),
                "{explained:#}"
            );
            Ok(())
        })
    });
}
