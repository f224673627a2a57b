//! The headline: all agents of a box are ended at one moment, and come back by themselves, each in
//! its own conversation, once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario, wait};

use crate::container::{Contained, with_agents};
use crate::fleet::{Fleet, Verdict};
use crate::machine::{Box, LONG, USER};
use crate::provider::Provider;

/// Real agents of a container, each of 280 MB at rest: with `--full` all that were promised.
fn claudes() -> usize {
    if lab::full() { 20 } else { 8 }
}

#[test]
fn real_agents_that_all_die_at_once_are_back_in_their_conversations() {
    scenario(|| {
        for release in Release::of_this_run() {
            all_die_at_once(*release).with_context(|| format!("on {}", release.name()))?;
        }
        Ok(())
    });
}

fn all_die_at_once(release: Release) -> Result<()> {
    let mut it = Contained::boot(release, with_agents)?;
    let provider = Provider::start(&it.switch.host()?)?;
    let mut fleet = Fleet::of(claudes(), 0)?;
    fleet.settle(&it.container, &provider)?;
    fleet.back(&it.container)?;
    fleet.tell(&it.container)?;
    for cut in 1..=2 {
        let in_mid_turn = cut == 2;
        if in_mid_turn {
            fleet.busy(&it.container)?;
        }
        it.container.cut()?;
        it.container.start_again()?;
        let took = fleet.back(&it.container)?;
        let verdict = fleet.ask(&it.container, in_mid_turn)?;
        lab::say(format_args!(
            "{}, cut {cut}: {} agents back in {:.0} s: {verdict:?}",
            release.name(),
            fleet.size(),
            took.as_secs_f64()
        ));
        ensure!(verdict == Verdict::default(), "{verdict:?}");
        fleet.asked_once(&provider, cut)?;
    }
    Ok(())
}

/// What befalls a machine with all its agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    PowerCut,
    /// In the middle of a turn of each.
    PowerCutAtWork,
    /// The provider is there only when the keeper has waited for it two minutes.
    PowerCutWithoutProvider,
    Reboot,
    /// `systemctl restart` of the tmux server's unit.
    RestartOfTheServer,
}

#[test]
fn a_box_that_is_cut_from_power_has_all_agents_back() {
    scenario(|| {
        for release in Release::of_this_run() {
            cut_from_power(*release).with_context(|| format!("on {}", release.name()))?;
        }
        Ok(())
    });
}

fn cut_from_power(release: Release) -> Result<()> {
    let mut it = Box::control_plane(release)?;
    let mut fleet = Fleet::of(4, 16)?;
    fleet.settle(&it.vm, &it.provider)?;
    fleet.back(&it.vm)?;
    // Only what is asked for is written back from here on.
    it.vm.sh("sysctl -q vm.dirty_writeback_centisecs=0")?.ok()?;
    fleet.tell(&it.vm)?;
    let blows = [
        Blow::PowerCut,
        Blow::PowerCutAtWork,
        Blow::PowerCutWithoutProvider,
        Blow::Reboot,
        Blow::RestartOfTheServer,
    ];
    for (blow, number) in blows.into_iter().zip(1..) {
        strike(&mut it, &fleet, blow).with_context(|| format!("{blow:?}"))?;
        let took = fleet.back(&it.vm).with_context(|| format!("after {blow:?}"))?;
        let verdict = fleet.ask(&it.vm, blow == Blow::PowerCutAtWork)?;
        lab::say(format_args!(
            "{}, {blow:?}: {} agents back in {:.0} s: {verdict:?}",
            release.name(),
            fleet.size(),
            took.as_secs_f64()
        ));
        ensure!(verdict == Verdict::default(), "after {blow:?}: {verdict:?}");
        fleet.asked_once(&it.provider, number)?;
    }
    Ok(())
}

fn strike(it: &mut Box, fleet: &Fleet, blow: Blow) -> Result<()> {
    match blow {
        Blow::PowerCut => {
            fleet.saved(&it.vm)?;
            cut(it)
        }
        Blow::PowerCutAtWork => {
            fleet.saved(&it.vm)?;
            fleet.busy(&it.vm)?;
            cut(it)
        }
        Blow::PowerCutWithoutProvider => {
            fleet.saved(&it.vm)?;
            it.far.link(false)?;
            cut(it)?;
            waits_for_its_provider(it, fleet)?;
            it.far.link(true)
        }
        Blow::Reboot => {
            it.vm.spawn("systemctl reboot")?;
            it.vm.wait_reboot(LONG)?;
            it.vm.wait_booted(LONG).map(drop)
        }
        Blow::RestartOfTheServer => {
            it.vm.sh_within(LONG, &format!("systemctl restart guppy-tmux@{USER}"))?.ok().map(drop)
        }
    }
}

fn cut(it: &mut Box) -> Result<()> {
    let lost = it.vm.power_cut()?.context("no volatile disk")?;
    lab::say(format_args!("the power cut: {lost:?}"));
    it.vm.start_again()?;
    it.vm.wait_booted(LONG)?;
    it.vm.sh("sysctl -q vm.dirty_writeback_centisecs=0")?.ok().map(drop)
}

/// Two minutes of the keeper's life: no agent is started, and each says what it waits for.
fn waits_for_its_provider(it: &Box, fleet: &Fleet) -> Result<()> {
    let age = format!(
        "begun=$(systemctl show -P ActiveEnterTimestampMonotonic guppy-session-keeper@{USER}) && \
         read -r now _ </proc/uptime && echo $((${{now%.*}} - begun / 1000000))"
    );
    wait::until_true("the keeper to have waited two minutes", Duration::from_secs(600), || {
        fleet.all_wait_for(&it.vm, &it.provider)?;
        let said = it.vm.sh_within(LONG, &age)?.ok()?;
        Ok(said.parse::<u64>().context("the keeper's age")? >= 120)
    })
}
