//! Nothing happens, and the box goes: not early, not late, and the next boot tells why.

use anyhow::{Result, ensure};
use lab::scenario;

use crate::machine::{Box, IDLE, LONG, STAMP_STEP, TICK, WARNING, calm, config};

#[test]
fn a_box_that_nobody_uses_powers_itself_off_in_time() {
    scenario(|| {
        Box::each(&config(""), |mut it| {
            let mut shell = it.client.ssh_terminal(&it.key, &it.vm, "dev", "", "")?;
            shell.wait_for("$", LONG)?;
            // The login itself has moved bytes and burned cycles; the key comes when that is over.
            it.wait_login_over()?;
            // The clock is read on both sides of the key, so the window has no slack for slow ssh.
            let before = it.uptime()?;
            shell.type_keys("echo pressed$((40+2))\r")?;
            shell.wait_for("pressed42", LONG)?;
            let after = it.uptime()?;

            let off = it.vm.wait_power_off(LONG)?;
            lab::say(format_args!(
                "the machine went off by itself after {:.1} s",
                off.after.as_secs_f64()
            ));

            it.vm.start_again()?;
            let journal = it.journal(-1)?;
            let told = |event: &str| {
                let line = journal.iter().rfind(|line| line.event == event);
                line.ok_or_else(|| anyhow::anyhow!("the journal has no {event}: {journal:#?}"))
            };
            let stopping = told("stopping")?;
            lab::say(format_args!("the next boot reads: {}", stopping.text));
            // The key is seen twice, as the terminal's stamp and as bytes on its connection: the last
            // look at either is told.
            ensure!(
                stopping.text.contains("typing: ssh dev")
                    || stopping.text.contains("tcp: port 22 from"),
                "{}",
                stopping.text
            );
            // The call to logind lies between two lines: the first begins the stop, the other
            // is written when logind has answered.
            let ordered = told("powering-off")?;
            let earliest = before + IDLE + WARNING;
            let latest = after + IDLE + WARNING + STAMP_STEP + TICK + 2.0;
            ensure!(
                earliest <= stopping.at && ordered.at <= latest,
                "ordered from {:.1} to {:.1}, not within {earliest:.1} and {latest:.1}",
                stopping.at,
                ordered.at
            );
            Ok(())
        })
    });
}

/// A line is a decision or a change: a tick that finds the same as the last writes none, and the
/// operator's checks, which systemd starts at each, write none either.
#[test]
fn a_quiet_tick_writes_nothing() {
    scenario(|| {
        Box::each(&calm(), |it| {
            it.vm
                .sh("printf '#!/bin/sh\\necho looked\\nexit 1\\n' >/etc/guppy/idle-stopper.checks.d/queue && \
                     chmod 755 /etc/guppy/idle-stopper.checks.d/queue")?
                .ok()?;
            it.wait_event("idle", LONG)?;
            let said = |pattern: &str| -> Result<usize> {
                let count = it.vm.sh(&format!("journalctl -b -q -o cat | grep -c '{pattern}'"))?;
                Ok(count.stdout.trim().parse()?)
            };
            let (ticks, lines) = (said("^looked$")?, it.journal(0)?.len());
            lab::wait::until_true("ten ticks", LONG, || Ok(said("^looked$")? >= ticks + 10))?;
            ensure!(it.journal(0)?.len() == lines, "{:#?}", it.journal(0)?);
            let by_systemd = said("Runs the checks of this box")?;
            ensure!(by_systemd == 0, "systemd told of {by_systemd} starts and ends");
            Ok(())
        })
    });
}
