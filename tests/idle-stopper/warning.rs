//! The warning: read at the far end of every kind of terminal, and called off by whoever is there.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::scenario;

use crate::machine::{Box, IDLE, LONG, TICK, config, journal_of, text_of};

const MESSAGE: &str = "this box stops in";

#[test]
fn every_terminal_is_told_and_a_key_calls_the_stop_off() {
    scenario(|| {
        // A longer warning, so that what happens within it happens within it on a slow machine too.
        let config = config("").replace("warning = \"6s\"", "warning = \"45s\"");
        Box::each(&config, |it| {
            let vm = &it.vm;
            let mut plain = it.client.ssh_terminal(&it.key, vm, "dev", "", "")?;
            plain.wait_for("$", LONG)?;
            let mut tmux =
                it.client.ssh_terminal(&it.key, vm, "dev", "", "tmux new-session -s work")?;
            tmux.wait_for("$", LONG)?;
            let mut closed = it.client.ssh_terminal(&it.key, vm, "dev", "", "")?;
            closed.wait_for("$", LONG)?;
            closed.type_keys("mesg n; echo silent$((1+1))\r")?;
            closed.wait_for("silent2", LONG)?;
            let console = vm.console_text().len();
            vm.type_console("\r")?;
            // A terminal that Ctrl-S has stopped must not keep the others from being told.
            let mut stopped = it.client.ssh_terminal(&it.key, vm, "dev", "", "")?;
            stopped.wait_for("$", LONG)?;
            stopped.type_keys("tty; yes\r")?;
            stopped.wait_for("y\ny", LONG).or_else(|_| stopped.wait_for("y\r\ny", LONG))?;
            stopped.type_keys("\u{13}")?;
            let shown = stopped.text();
            let stopped_name = shown
                .split_whitespace()
                .find_map(|word| word.strip_prefix("/dev/"))
                .context("the stopped terminal does not know its name")?;

            let warned = it.wait_event("warning", LONG)?;
            for (name, terminal) in [("ssh", &plain), ("tmux", &tmux), ("mesg n", &closed)] {
                terminal.wait_for(MESSAGE, LONG).map_err(|error| error.context(name))?;
            }
            vm.wait_console_after(console, MESSAGE, LONG)?;
            lab::say(format_args!(
                "told on ssh, tmux, a closed ssh terminal and the console: {}",
                warned.text
            ));

            the_helper_told_all_but(&it, stopped_name)?;

            plain.type_keys(" ")?;
            let cancelled = it.wait_event_after("cancelled", warned.at, LONG)?;
            ensure!(cancelled.text.contains("ssh dev"), "{}", cancelled.text);
            plain.wait_for("this box stays up", LONG)?;
            // So do a key at the console and one in a pane.
            for (what, wanted) in [("the console", "typing: console"), ("tmux", "tmux")] {
                lab::wait::until_true(&format!("a key at {what} to count"), LONG, || {
                    match what {
                        "tmux" => tmux.type_keys(" ")?,
                        _ => vm.type_console("\r")?,
                    }
                    Ok(text_of(&it.explain()?, "last_activity").contains(wanted))
                })?;
            }
            // Past the moment at which it would have stopped, and not yet idle again.
            vm.stays_on(Duration::from_secs_f64(45.0 + TICK))
        })
    });
}

/// The unit that warns has ended by itself, and has told every terminal but the stopped one.
fn the_helper_told_all_but(it: &Box, stopped: &str) -> Result<()> {
    let unit = "guppy-idle-stopper-warn.service";
    let show = |property: &str| -> Result<String> {
        it.vm.sh(&format!("systemctl show -P {property} {unit}"))?.ok()
    };
    lab::wait::until_true("the warning unit to end", LONG, || {
        Ok(matches!(show("ActiveState")?.as_str(), "inactive" | "failed"))
    })?;
    ensure!(show("Result")? == "success", "{unit} ended with {}", show("Result")?);
    let lines = journal_of(&it.vm, unit, 0)?;
    let said = |begin: &str| {
        let line = lines.iter().find_map(|line| line.text.strip_prefix(begin));
        line.with_context(|| format!("no {begin:?}: {lines:#?}"))
    };
    let failed = said("not told: ")?;
    ensure!(failed.starts_with(&format!("{stopped} (")) && !failed.contains(", "), "{failed}");
    // ssh, the closed one, the tmux client and its pane, and the console.
    let told: u32 = said("told ")?.split(' ').next().unwrap_or_default().parse()?;
    ensure!(told >= 5, "told {told} terminals: {lines:#?}");
    Ok(())
}

#[test]
fn work_that_begins_after_the_warning_calls_the_stop_off() {
    scenario(|| {
        // One look at the warning, the next at its end: what comes between is seen by the last.
        // Rates need a window of a tick, and an idle time of a window.
        let config = config("")
            .replace("idle_after = \"15s\"", "idle_after = \"30s\"")
            .replace("tick = \"2s\"", "tick = \"30s\"")
            .replace("window = \"6s\"", "window = \"30s\"")
            .replace("warning = \"6s\"", "warning = \"30s\"");
        Box::each(&config, |it| {
            let warned = it.wait_event("warning", LONG)?;
            let command = it.client.ssh_spawn(&it.key, &it.vm, "dev", "", "exec sleep 100000")?;
            let cancelled = it.wait_event_after("cancelled", warned.at, LONG)?;
            lab::say(format_args!("{}", cancelled.text));
            let after = cancelled.at - warned.at;
            ensure!(after >= 29.5, "a look {after:.1} s after the warning is not the last");
            it.vm.stays_on(Duration::from_secs_f64(TICK))?;
            drop(command);
            Ok(())
        })
    });
}

/// systemd merges the start of a unit that still runs, so the second message must wait for it.
#[test]
fn whoever_is_warned_and_spared_at_once_is_told_both() {
    scenario(|| {
        Box::each(&config("").replace("warning = \"6s\"", "warning = \"40s\""), |it| {
            // A slow box: telling takes longer than what happens meanwhile.
            it.vm.write_file(
                "/etc/systemd/system/guppy-idle-stopper-warn.service.d/slow.conf",
                b"[Service]\nExecStartPost=/bin/sleep 12\n",
            )?;
            it.vm.sh("systemctl daemon-reload")?.ok()?;
            let shell = it.client.ssh_terminal(&it.key, &it.vm, "dev", "", "")?;
            shell.wait_for("$", LONG)?;
            let warned = it.wait_event("warning", LONG)?;
            it.vm.sh("guppy hold 1h --why 'not yet'")?.ok()?;
            let cancelled = it.wait_event_after("cancelled", warned.at, LONG)?;
            ensure!(
                cancelled.at < warned.at + 12.0,
                "the box was too slow for this: {:.1} s",
                cancelled.at - warned.at
            );
            shell.wait_for(MESSAGE, LONG)?;
            shell.wait_for("this box stays up", LONG).map(drop)
        })
    });
}

#[test]
fn a_hold_placed_during_the_warning_calls_the_stop_off_at_once() {
    scenario(|| {
        Box::each(&config(""), |it| {
            let warned = it.wait_event("warning", LONG)?;
            it.vm.sh("guppy hold 1h --why 'not yet'")?.ok()?;
            it.wait_event_after("cancelled", warned.at, LONG)?;
            it.vm.stays_on(Duration::from_secs_f64(IDLE))
        })
    });
}
