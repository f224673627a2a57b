//! What must not keep a box up.

use std::time::Duration;

use anyhow::{Result, ensure};
use lab::scenario;

use crate::machine::{Box, IDLE, LONG, TICK, UNIT, WARNING, config};

/// Everything at once that has kept other tools' boxes up for ever, on one box that must go.
#[test]
fn nothing_that_merely_exists_keeps_the_box_up() {
    scenario(|| Box::each(&config(""), everything_that_merely_exists));
}

fn everything_that_merely_exists(it: Box) -> Result<()> {
    let vm = &it.vm;
    // The role's sshd drop-in, in seconds instead of minutes.
    vm.sh("sed -i 's/^ClientAliveInterval.*/ClientAliveInterval 5/; s/^ClientAliveCountMax.*/ClientAliveCountMax 2/' \
           /etc/ssh/sshd_config.d/guppy-data-plane.conf && grep -q 'Interval 5' /etc/ssh/sshd_config.d/guppy-data-plane.conf && \
           systemctl reload ssh")?
        .ok()?;
    it.client.wait_sshd(vm, LONG)?;
    it.start_docker()?;
    // logind waits for delay locks at most 5 s, in which a busy machine's guest may tell nothing.
    vm.write_file("/etc/systemd/logind.conf.d/patient.conf", b"[Login]\nInhibitDelayMaxSec=60\n")?;
    vm.sh("systemctl restart systemd-logind")?.ok()?;

    // A silent shell whose client says "alive" every second. A slow machine's answers may be late.
    let silent = it.client.ssh_terminal(
        &it.key,
        vm,
        "dev",
        "-o ServerAliveInterval=1 -o ServerAliveCountMax=1000",
        "",
    )?;
    silent.wait_for("$", LONG)?;
    // An htop left open: it draws far more than the floor of a connection, and nobody types.
    let htop = it.client.ssh_terminal(&it.key, vm, "dev", "", "htop")?;
    htop.wait_for("Load average", LONG)?;
    // A peer that is cut in mid-output, and one that is cut while silent.
    let talker = it.switch.host()?;
    let talking = talker.ssh_spawn(&it.key, vm, "dev", "", "while :; do date; sleep 1; done")?;
    let sleeper = it.switch.host()?;
    let sleeping = sleeper.ssh_spawn(&it.key, vm, "dev", "", "exec sleep 100000")?;
    // A shell in a tmux that nobody is attached to.
    vm.sh("runuser -l dev -c 'tmux new-session -d -s dead'")?.ok()?;
    // A container that is merely up, as `restart: always` keeps it.
    vm.sh_within(
        LONG,
        "docker run -d --restart always --stop-timeout 1 --name idler box sleep 100000",
    )?
    .ok()?;
    // Something that writes a line to the journal every second.
    vm.service("chatter", "while :; do echo line; sleep 1; done")?;
    // A reading that fails for ever, a hook that hangs, and a service that ignores TERM.
    vm.sh("printf '#!/bin/sh\\nexit 7\\n' >/etc/guppy/idle-stopper.checks.d/broken && \
           printf '#!/bin/sh\\nexec sleep 100000\\n' >/etc/guppy/idle-stopper.stop.d/10-hangs && \
           printf '#!/bin/sh\\necho the second hook ran\\n' >/etc/guppy/idle-stopper.stop.d/20-next && \
           chmod 755 /etc/guppy/idle-stopper.*.d/*")?
        .ok()?;
    // When the order is out, while logind still waits for a delay lock: what the hooks have said is
    // written to the console, which outlives the box, and somebody asks for a hold. Then the lock is
    // given back, however slow the box is.
    vm.sh("mkfifo /run/told")?.ok()?;
    vm.service(
        "delayer",
        "exec systemd-inhibit --what=shutdown --mode=delay bash -c 'read </run/told'",
    )?;
    vm.service(
        "late",
        "grep --quiet 'the order to power off was taken' \
            < <(exec journalctl --follow --lines=0 --unit=guppy-idle-stopper --output=cat); \
         journalctl --sync; \
         journalctl --unit=guppy-idle-stopper-hooks.service --output=cat >/dev/ttyS0; \
         guppy hold 1h --why late >/dev/ttyS0 2>&1; echo >/run/told",
    )?;
    vm.sh("systemd-run --quiet --unit=stubborn -p TimeoutStopSec=5 bash -c 'trap \"\" TERM; while :; do sleep 1000; done'")?
        .ok()?;
    lab::wait::until_true("all of it to be there", LONG, || {
        Ok(vm
            .sh("pgrep -x htop && pgrep -f 'while :; do date' && docker ps -q | grep -q . && \
                  [ $(pgrep -fc 'sleep 100000') -ge 2 ]")?
            .status
            == 0)
    })?;
    lab::wait::until_true("the broken check to be seen", LONG, || {
        // By now it may have counted for as long as it may.
        Ok(matches!(it.kind("checks")?.as_str(), "unknown" | "ignored"))
    })?;
    talker.link(false)?;
    sleeper.link(false)?;

    let off = it.vm.wait_power_off(LONG)?;
    lab::say(format_args!(
        "went off after {:.0} s, with all of that there",
        off.after.as_secs_f64()
    ));
    drop((talking, sleeping));
    for told in ["10-hangs: killed", "the second hook ran", "this box is powering off"] {
        let console = vm.console_text();
        ensure!(console.contains(told), "the console does not show {told:?}: {console}");
    }
    Ok(())
}

/// logind refuses while a block lock is held; past `inhibit_at_most` the box goes all the same.
#[test]
fn a_block_lock_held_for_ever_does_not_make_the_box_eternal() {
    scenario(|| {
        Box::each(
            &config("").replace("inhibit_at_most = \"10min\"", "inhibit_at_most = \"20s\""),
            |it| {
                it.vm.service(
                    "backup",
                    "exec systemd-inhibit --what=shutdown --who=backup --why=stuck sleep 100000",
                )?;
                lab::wait::until_true("the lock to be seen", LONG, || {
                    Ok(it.kind("inhibitors")? == "active")
                })?;
                let refused = it.wait_event("refused", LONG)?;
                lab::say(format_args!("with the lock: {}", refused.text));
                it.vm.wait_power_off(LONG).map(drop)
            },
        )
    });
}

/// Nobody is there to take an order: no bus, and no polkit that would allow one.
#[test]
fn a_box_without_dbus_and_polkit_stops_all_the_same() {
    scenario(|| {
        Box::each(&config(""), |it| {
            // systemctl speaks to PID 1 over a socket of its own, as root.
            it.vm
                .sh("systemctl mask --runtime --quiet dbus.socket dbus.service polkit.service && \
                     systemctl kill --signal=KILL dbus.service; \
                     systemctl kill --signal=KILL polkit.service; rm -f /run/dbus/system_bus_socket; \
                     ! busctl --system list >/dev/null 2>&1")?
                .ok()?;
            let refused = it.wait_event("refused", LONG)?;
            lab::say(format_args!("without a bus: {}", refused.text));
            // Three refusals, with a delay that doubles from 15 s, come first.
            let last = it.wait_event("last-resort", 2 * LONG)?;
            ensure!(last.at > refused.at);
            it.vm.wait_power_off(LONG).map(drop)
        })
    });
}

/// And without the role nothing but the daemon's own word: root's second look refuses it.
#[test]
fn the_last_resort_is_none_for_a_box_that_only_observes() {
    scenario(|| {
        Box::each(&config("mode = \"observe\""), |it| {
            it.vm
                .sh("runuser -u guppy-idle-stopper -- sh -c \
                     'echo 5 >/run/guppy-idle-stopper/power-off'")?
                .ok()?;
            let unit = "guppy-idle-stopper-poweroff.service";
            lab::wait::until_true("the refusal", LONG, || {
                let shown = it.vm.sh(&format!("systemctl show -P Result {unit}"))?.ok()?;
                Ok(shown.trim() == "exit-code")
            })?;
            let now = "awk '{printf \"%d\", $1 * 1000}' /proc/uptime";
            it.vm
                .sh(&format!(
                    "{now} >/run/power-off && mv /run/power-off /run/guppy-idle-stopper/"
                ))?
                .ok()?;
            lab::wait::until_true("the second refusal", LONG, || {
                let log = it.vm.sh(&format!("journalctl -u {unit} -o cat"))?.ok()?;
                Ok(log.contains("in mode observe nothing is powered off"))
            })?;
            it.vm.stays_on(Duration::from_secs(5))
        })
    });
}

/// Killed again and again, and started with a drop-in that is broken.
#[test]
fn neither_crashes_nor_a_typo_make_the_box_eternal() {
    scenario(|| {
        Box::each(&config(""), |it| {
            it.vm.write_file("/etc/guppy/idle-stopper.d/95-typo.toml", b"idle_aftr = \"1h\"\n")?;
            it.vm.sh(&format!("systemctl restart {UNIT}"))?.ok()?;
            let told = it.wait_event("config-error", LONG)?;
            ensure!(
                told.text.contains("95-typo.toml:1") && told.text.contains("idle_aftr"),
                "{}",
                told.text
            );
            let pause = 0.8 * IDLE;
            let kills =
                format!("while :; do sleep {pause}; systemctl kill --signal=KILL {UNIT}; done");
            it.vm.service("killer", &kills)?;
            it.vm.wait_power_off(LONG).map(drop)
        })
    });
}

/// Killed so often that no daemon lives through one warning.
#[test]
fn a_crash_loop_faster_than_the_warning_does_not_make_the_box_eternal() {
    scenario(|| {
        Box::each(&config(""), |mut it| {
            let begin = it.uptime()?;
            let kills = "while :; do sleep 3; systemctl kill --signal=KILL guppy-idle-stopper.service; done";
            ensure!(WARNING > 3.0 + 1.0);
            it.vm.service("killer", kills)?;
            let warned = it.wait_event_after("warning", begin, LONG)?;
            let left = it.goes_off_after(warned.at)?.at - warned.at;
            ensure!(left >= WARNING - 0.5, "stopped {left:.1} s after the first warning");
            Ok(())
        })
    });
}

/// The role's word stands where no typo of a person's reaches it, not even at the first start.
#[test]
fn a_folder_that_cannot_be_read_does_not_take_the_role_back() {
    scenario(|| {
        Box::each(&config(""), |it| {
            it.vm
                .sh(&format!(
                    "systemctl stop {UNIT} && rm -r /run/guppy-idle-stopper/* && \
                     echo 'mode = stop' >/etc/guppy/idle-stopper.toml && \
                     chmod 700 /etc/guppy/idle-stopper.d && systemctl start {UNIT}"
                ))?
                .ok()?;
            let told = it.wait_event("config-error", LONG)?;
            ensure!(told.text.contains("idle-stopper.d: cannot read it"), "{}", told.text);
            ensure!(told.text.contains("idle-stopper.toml:1"), "{}", told.text);
            let explained = it.explain()?;
            ensure!(crate::machine::text_of(&explained, "mode") == "stop", "{explained:#}");
            Ok(())
        })
    });
}

/// Observing does all but stop.
#[test]
fn the_bare_package_only_observes() {
    scenario(|| {
        Box::each(&config("mode = \"observe\""), |it| {
            let line = it.wait_event("stopping", LONG)?;
            ensure!(line.text.contains("would be stopping (mode observe)"), "{}", line.text);
            it.vm.stays_on(Duration::from_secs_f64(IDLE + WARNING + TICK))?;
            let lines = it.journal(0)?;
            ensure!(!lines.iter().any(|line| line.event == "powering-off"), "{lines:#?}");
            Ok(())
        })
    });
}
