//! The daemon is killed, hangs, and is given bad config; the box neither stops early nor stays.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::{Terminal, scenario};

use crate::machine::{
    Box, CGROUP, IDLE, LONG, STAMP_STEP, TICK, UNIT, WARNING, calm, config, text_of,
};

/// Half of them under a hold, which is kept. The others while somebody types, and after the last
/// key: what they typed is not forgotten, nor is the time since.
#[test]
fn fifty_kills_keep_the_holds_and_stop_nothing_early() {
    scenario(|| {
        Box::each(&config(""), |mut it| {
            let release = it.hold("fifty kills")?;
            // More kills a minute than systemd's second between two starts would allow.
            let dropin = "/etc/systemd/system/guppy-idle-stopper.service.d/quick.conf";
            it.vm.write_file(dropin, b"[Service]\nRestartSec=50ms\n")?;
            it.vm.sh("systemctl daemon-reload")?.ok()?;
            it.vm.sh_within(LONG, &kills(25))?.ok()?;
            let explained = it.explain()?;
            let holds =
                explained.get("holds").and_then(|holds| holds.as_array()).map_or(0, Vec::len);
            ensure!(holds == 1, "{explained:#}");
            ensure!(!it.has_stopped_since(0.0)?, "it stopped under a hold");

            let mut shell = it.client.ssh_terminal(&it.key, &it.vm, "dev", "", "")?;
            shell.wait_for("$", LONG)?;
            it.vm.sh(&release)?.ok()?;
            let killing = it.vm.spawn(&kills(25))?;
            // Three kills or so come after the last key: a daemon that had forgotten it would stop
            // one warning after the last of them, which is early.
            let before = type_until_kills(&it, &mut shell, 47)?;
            lab::wait::until("the last kill", LONG, || it.vm.ended(killing))?.ok()?;
            ensure!(restarts(&it)? >= 50, "{} restarts", restarts(&it)?);

            let after_key = it.goes_off_after(0.0)?.at - before;
            lab::say(format_args!("stopped {after_key:.1} s after the last key"));
            ensure!(after_key >= IDLE + WARNING, "stopped {after_key:.1} s after the last key");
            // Kills do not begin the count anew either: the last of them came well before its end.
            ensure!(
                after_key <= IDLE + WARNING + STAMP_STEP + TICK + 8.0,
                "stopped only {after_key:.1} s after the last key"
            );
            Ok(())
        })
    });
}

/// A script: each kill comes at an instant that nobody chose, once the daemon serves again. It asks
/// and kills by itself: programs that it would start for that are most of an emulated machine's work.
fn kills(number: u32) -> String {
    format!(
        r#"exec python3 -c "
import os, random, signal, socket, time
def serves():
    answer = b''
    while not answer:
        with socket.socket(socket.AF_UNIX) as asks:
            asks.connect('/run/guppy/idle-stopper.sock')
            asks.sendall(b'{{\"method\":\"dev.guppy.IdleStopper.Explain\"}}\0')
            try: answer = asks.recv(1)
            except ConnectionResetError: pass
for kill in range({number}):
    serves()
    time.sleep(random.random() / 2)
    for pid in open('{CGROUP}/cgroup.procs').read().split():
        os.kill(int(pid), signal.SIGKILL)
serves()
""#
    )
}

/// Types until the daemon has been restarted so often; gives the guest's moment before the last key.
fn type_until_kills(it: &Box, shell: &mut Terminal, kills: u32) -> Result<f64> {
    lab::wait::until("kills beside a person who types", LONG, || {
        let before = it.uptime()?;
        shell.type_keys(" ")?;
        // As people type: the next key in a moment.
        it.vm.stays_on(Duration::from_secs(2))?;
        Ok((restarts(it)? >= kills).then_some(before))
    })
}

/// How often systemd has started the daemon again.
fn restarts(it: &Box) -> Result<u32> {
    let shown = it.vm.sh(&format!("systemctl show -P NRestarts {UNIT}"))?.ok()?;
    Ok(shown.trim().parse()?)
}

#[test]
fn a_loop_that_hangs_is_restarted() {
    scenario(|| {
        Box::each(&calm(), |it| {
            it.vm.write_file(
                "/etc/systemd/system/guppy-idle-stopper.service.d/watchdog.conf",
                b"[Service]\nWatchdogSec=5s\n",
            )?;
            it.vm.sh(&format!("systemctl daemon-reload && systemctl restart {UNIT}"))?.ok()?;
            it.vm.sh(&format!("systemctl kill --signal=STOP {UNIT}"))?.ok()?;
            lab::wait::until_true("the watchdog", LONG, || {
                Ok(restarts(&it)? > 0 && it.explain().is_ok())
            })?;
            let log = it.vm.sh(&format!("journalctl -u {UNIT} -o cat"))?.ok()?;
            ensure!(log.contains("Watchdog timeout"), "{log}");
            // And a loop that goes on is left alone for longer than the watchdog waits.
            let before = restarts(&it)?;
            it.vm.stays_on(Duration::from_secs(12))?;
            ensure!(restarts(&it)? == before);
            Ok(())
        })
    });
}

#[test]
fn a_bad_reload_leaves_the_running_config_in_force_and_says_so() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let file = "/etc/guppy/idle-stopper.d/99-bad.toml";
            it.vm.write_file(file, b"idle_after = \"2h\"\n\nwarning = 3\n")?;
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
                explained.get("idle_after_seconds").and_then(serde_json::Value::as_u64)
                    == Some(3600),
                "{explained:#}"
            );
            ensure!(text_of(&explained, "config_error").contains("99-bad.toml"), "{explained:#}");
            it.vm
                .sh(&format!(
                    "echo 'idle_after = \"2h\"' >{file} && guppy-idle-stopper --check-config && \
                     systemctl reload {UNIT}"
                ))?
                .ok()?;
            it.wait_event("reloaded", LONG)?;
            let explained = it.explain()?;
            ensure!(
                explained.get("idle_after_seconds").and_then(serde_json::Value::as_u64)
                    == Some(7200),
                "{explained:#}"
            );
            Ok(())
        })
    });
}
