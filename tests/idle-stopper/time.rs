//! The wall clock does not matter; time that nobody watched starts a new grace.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::scenario;

use crate::machine::{Box, CGROUP, IDLE, LONG, Line, STAMP_STEP, TICK, UNIT, WARNING, config};

#[test]
fn steps_of_the_wall_clock_have_no_effect() {
    scenario(|| {
        Box::each(&config(""), |mut it| {
            // An open shell: its stamp is wall time, and must not look touched or old.
            let shell = it.client.ssh_terminal(&it.key, &it.vm, "dev", "", "")?;
            shell.wait_for("$", LONG)?;
            let begin = it.wait_login_over()?;
            for step in ["+1 day", "-1 day", "1970-01-02"] {
                it.vm.step_clock(step)?;
            }
            let warned = it.wait_event_after("warning", begin, LONG)?;
            // On a slow machine what a login leaves behind works a while longer, truly: time counts
            // from when all was quiet. The shell and the clock are never what worked.
            let story: Vec<Line> =
                it.journal(0)?.into_iter().filter(|line| line.at <= warned.at).collect();
            let quiet = story.iter().rfind(|line| line.event == "idle").context("never quiet")?;
            let spent = warned.at - quiet.at;
            let touched =
                |line: &&Line| line.event == "gap" || line.text.contains("quiet: terminals");
            let touched = story.iter().filter(|line| line.at > begin).find(touched);
            ensure!(touched.is_none(), "{touched:?} in {story:#?}");
            ensure!(
                (IDLE - 2.0 * TICK - 1.0..=IDLE + STAMP_STEP + TICK).contains(&spent),
                "warned {spent:.1} s after {}, in {story:#?}",
                quiet.text
            );
            it.vm.step_clock("+1 day")?;
            let left = it.goes_off_after(warned.at)?.at - warned.at;
            ensure!(
                (WARNING - 0.5..WARNING + TICK + 2.0).contains(&left),
                "stopped {left:.1} s after the warning"
            );
            Ok(())
        })
    });
}

/// Freezes the daemon for longer than it would have waited. Gives when it was thawed, and the gap that
/// it has told of since `quiet`; both in seconds since boot.
fn freeze_and_thaw(it: &Box, quiet: f64) -> Result<(f64, Line)> {
    let freezer = format!("{CGROUP}/cgroup.freeze");
    it.vm.sh(&format!("echo 1 >{freezer}"))?.ok()?;
    it.vm.stays_on(Duration::from_secs_f64(IDLE + WARNING + 5.0))?;
    it.vm.sh(&format!("echo 0 >{freezer}"))?.ok()?;
    let thawed = it.uptime()?;
    let gap = it.wait_event_after("gap", quiet, LONG)?;
    lab::say(format_args!("{}", gap.text));
    Ok((thawed, gap))
}

/// The box goes off, and no sooner than a grace and all the rest after the thaw.
fn stops_a_grace_after(it: &mut Box, thawed: f64, gap: f64, grace: f64) -> Result<()> {
    let stopping = it.goes_off_after(gap)?;
    ensure!(
        stopping.at >= thawed - 1.0 + grace + IDLE + WARNING,
        "stopped {:.1} s after the thaw",
        stopping.at - thawed
    );
    Ok(())
}

#[test]
fn a_daemon_frozen_beyond_its_time_gives_a_new_grace_when_it_thaws() {
    scenario(|| {
        Box::each(&config("").replace("grace = \"0s\"", "grace = \"8s\""), |mut it| {
            let quiet = it.wait_event("idle", LONG)?;
            let (thawed, gap) = freeze_and_thaw(&it, quiet.at)?;
            stops_a_grace_after(&mut it, thawed, gap.at, 8.0)
        })
    });
}

/// Its watchdog kills it as it thaws: the gap then lies between two daemons.
#[test]
fn a_daemon_frozen_until_its_watchdog_kills_it_gives_a_new_grace_too() {
    scenario(|| {
        Box::each(&config("").replace("grace = \"0s\"", "grace = \"15s\""), |mut it| {
            // SIGABRT waits for the thaw; without the second line SIGKILL would not.
            it.vm.write_file(
                "/etc/systemd/system/guppy-idle-stopper.service.d/watchdog.conf",
                b"[Service]\nWatchdogSec=5s\nTimeoutAbortSec=5min\n",
            )?;
            it.vm.sh(&format!("systemctl daemon-reload && systemctl restart {UNIT}"))?.ok()?;
            // The restart may have been a gap already: the next counts once something was active.
            let release = it.hold("somebody is there")?;
            lab::wait::until_true("the hold to count", LONG, || Ok(it.kind("holds")? == "active"))?;
            let released = it.uptime()?;
            it.vm.sh(&release)?.ok()?;
            let quiet = it.wait_event_after("idle", released, LONG)?;
            let (thawed, gap) = freeze_and_thaw(&it, quiet.at)?;
            let restarts = it.vm.sh(&format!("systemctl show -P NRestarts {UNIT}"))?.ok()?;
            ensure!(restarts.trim() != "0", "the watchdog did not kill it");
            stops_a_grace_after(&mut it, thawed, gap.at, 15.0)
        })
    });
}

#[test]
fn a_box_that_slept_gives_a_new_grace_when_it_wakes() {
    scenario(|| {
        Box::each(&config("").replace("grace = \"0s\"", "grace = \"8s\""), |mut it| {
            it.wait_event("idle", LONG)?;
            it.vm.suspend(LONG)?;
            // qemu's guest clock goes on while it sleeps: this is what makes the gap.
            it.vm.stays_on(Duration::from_secs_f64(IDLE + WARNING + 5.0))?;
            it.vm.wake(LONG)?;
            let gap = it.wait_event("gap", LONG)?;
            lab::say(format_args!("{}", gap.text));
            let waited = it.goes_off_after(gap.at)?.at - gap.at;
            ensure!(waited >= 8.0 + IDLE + WARNING - 1.0, "{waited:.1} s after waking");
            Ok(())
        })
    });
}
