//! The headline: all agents of a box are ended at one moment, and come back by themselves, each in
//! its own conversation, once.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario, wait};

use crate::container::{Contained, with_agents};
use crate::fleet::{Fleet, Verdict};
use crate::listing;
use crate::machine::{Box, LONG, Machine, USER};
use crate::provider::Provider;

const RESTART: &str = "systemctl restart guppy-tmux@dev.service";

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
    let blows = [Blow::PowerCut, Blow::PowerCutAtWork, Blow::RestartOfTheServer];
    for (blow, number) in blows.into_iter().zip(1..) {
        if blow == Blow::PowerCutAtWork {
            fleet.busy(&it.container)?;
        }
        if blow == Blow::RestartOfTheServer {
            it.container.sh_within(LONG, RESTART)?.ok()?;
        } else {
            it.container.cut()?;
            it.container.start_again()?;
        }
        comes_back(&mut fleet, &it.container, &provider, (release, blow, number))?;
    }
    Ok(())
}

/// All of them do, each in its own conversation; it is the blow of this number.
fn comes_back(
    fleet: &mut Fleet,
    machine: &dyn Machine,
    provider: &Provider,
    (release, blow, number): (Release, Blow, usize),
) -> Result<()> {
    let took = fleet.back(machine).with_context(|| format!("after {blow:?}"))?;
    let verdict = fleet.ask(machine, blow == Blow::PowerCutAtWork)?;
    lab::say(format_args!(
        "{}, {blow:?}: {} agents back in {:.0} s: {verdict:?}",
        release.name(),
        fleet.size(),
        took.as_secs_f64()
    ));
    ensure!(
        verdict == Verdict::default(),
        "after {blow:?}: {verdict:?}\n{}",
        listing::all_that_is_known(machine)
    );
    fleet.asked_once(provider, number)
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

/// With `--full`.
const ALL_BLOWS: &[Blow] = &[
    Blow::PowerCut,
    Blow::PowerCutAtWork,
    Blow::PowerCutWithoutProvider,
    Blow::Reboot,
    Blow::RestartOfTheServer,
];
/// Of the others, a container has seen the like.
const WORST_BLOWS: &[Blow] = &[Blow::PowerCutAtWork, Blow::PowerCutWithoutProvider, Blow::Reboot];

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
    let (mut fleet, blows) = match lab::full() {
        true => (Fleet::of(4, 16)?, ALL_BLOWS),
        // An emulated machine takes a minute for what is a second of a real one.
        false => (Fleet::of(1, 7)?, WORST_BLOWS),
    };
    fleet.settle(&it.vm, &it.provider)?;
    fleet.back(&it.vm)?;
    // Only what is asked for is written back from here on.
    it.vm.sh("sysctl -q vm.dirty_writeback_centisecs=0")?.ok()?;
    fleet.tell(&it.vm)?;
    for (blow, number) in blows.iter().copied().zip(1..) {
        strike(&mut it, &fleet, blow).with_context(|| format!("{blow:?}"))?;
        comes_back(&mut fleet, &it.vm, &it.provider, (release, blow, number))?;
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
        Blow::RestartOfTheServer => it.vm.sh_within(LONG, RESTART)?.ok().map(drop),
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
        let all = fleet.all_wait_for(&it.vm, &it.provider)?;
        let said = it.vm.sh_within(LONG, &age)?.ok()?;
        Ok(all && said.parse::<u64>().context("the keeper's age")? >= 120)
    })
}
