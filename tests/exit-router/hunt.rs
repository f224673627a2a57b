//! The hunt for leaks: something breaks, a peer goes on to send every kind of packet, and a capture
//! of the box's uplink is the judge. Then the peer's packets come back.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::capture::Capture;
use lab::customer::Vpn;
use lab::dice::{Dice, number_of};
use lab::{Release, full, say, scenario};

use crate::disturbances::{ALL, Disturbance, LAYERS};
use crate::traffic::{Traffic, kinds};
use crate::world::{World, of};

/// Steps of a random walk, of each of the two kinds of VPN: with the disturbances in turn 300 in every
/// run.
const STEPS: u64 = 150 - ALL.len() as u64;
/// With `--full`.
const MANY_STEPS: u64 = 2000;

#[test]
fn each_disturbance_in_turn_leaks_nothing_by_wireguard() {
    scenario(|| Hunt::begin(Vpn::WireGuard)?.each());
}

#[test]
fn each_disturbance_in_turn_leaks_nothing_by_openvpn() {
    scenario(|| Hunt::begin(Vpn::OpenVpn)?.each());
}

#[test]
fn a_random_walk_of_disturbances_leaks_nothing_by_wireguard() {
    scenario(|| Hunt::begin(Vpn::WireGuard)?.walk());
}

#[test]
fn a_random_walk_of_disturbances_leaks_nothing_by_openvpn() {
    scenario(|| Hunt::begin(Vpn::OpenVpn)?.walk());
}

#[test]
fn whatever_is_left_of_all_layers_closes_again() {
    scenario(|| Hunt::begin(Vpn::WireGuard)?.layers());
}

struct Hunt {
    it: World,
    vpn: Vpn,
    judge: Capture,
    traffic: Traffic,
    outages: Vec<(&'static str, Duration)>,
}

impl Hunt {
    fn begin(vpn: Vpn) -> Result<Self> {
        let it = World::up(Release::Trixie, vpn)?;
        let judge = it.judge()?;
        let mut traffic = it.traffic()?;
        traffic.until_answered(&kinds(&["v4", "v6"]))?;
        Ok(Self { it, vpn, judge, traffic, outages: Vec::new() })
    }

    /// One disturbance, from its begin to the answer that comes back.
    fn step(&mut self, what: &Disturbance) -> Result<()> {
        let both = kinds(&["v4", "v6"]);
        (what.happens)(&mut self.it, self.vpn).with_context(|| format!("cannot: {}", what.name))?;
        self.traffic.until_sent(&both)?;
        (what.ends)(&mut self.it, self.vpn)
            .with_context(|| format!("cannot end: {}", what.name))?;
        let came_back = self.traffic.until_answered(&both);
        let leaks = self.it.leaks(&mut self.judge)?;
        ensure!(leaks.is_empty(), "{} leaked {}: {leaks:#?}", what.name, leaks.len());
        let outage = came_back.with_context(|| self.it.story()).context(what.name)?;
        self.outages.push((what.name, outage));
        // A container has two layers, and the next step may take the other one.
        self.it.until_layers()
    }

    fn each(mut self) -> Result<()> {
        for what in ALL {
            self.step(what)?;
            self.it.own_way_is_untouched().context(what.name)?;
        }
        self.it.until_converged()?;
        for (name, outage) in &self.outages {
            say(format_args!("{:?}: {name}: {:.1} s", self.vpn, outage.as_secs_f64()));
        }
        say(format_args!("{:?}: {} disturbances, 0 packets leaked", self.vpn, ALL.len()));
        Ok(())
    }

    fn walk(mut self) -> Result<()> {
        let steps = match number_of("GUPPY_STEPS")? {
            Some(steps) => steps,
            None if full() => MANY_STEPS,
            None => STEPS,
        };
        let (mut dice, seed) = Dice::new()?;
        say(format_args!("{:?}: {steps} steps, GUPPY_SEED={seed}", self.vpn));
        let weight: u64 = ALL.iter().map(|what| what.often).sum();
        for number in 1..=steps {
            let mut at = dice.below(weight);
            let chosen = ALL.iter().find(|what| {
                let here = at < what.often;
                at = at.saturating_sub(what.often);
                here
            });
            let what = chosen.context("no disturbance")?;
            self.step(what).with_context(|| format!("step {number} of GUPPY_SEED={seed}"))?;
        }
        self.it.until_converged()?;
        self.it.own_way_is_untouched()?;
        let mut outages: Vec<_> =
            self.outages.iter().map(|(_, outage)| outage.as_secs_f64()).collect();
        outages.sort_by(f64::total_cmp);
        say(format_args!(
            "{:?}: {steps} steps, 0 packets leaked; the probe's longest silence a step: median {:.1} s, \
             at most {:.1} s",
            self.vpn,
            outages.get(outages.len() / 2).copied().unwrap_or_default(),
            outages.last().copied().unwrap_or_default(),
        ));
        Ok(())
    }

    /// Any layer alone may go without a leak. All that this kernel has at once: what leaks until they
    /// are back is printed, and then nothing does.
    fn layers(mut self) -> Result<()> {
        let both = kinds(&["v4", "v6"]);
        let third = of(&self.it.status()?, "/layers/tc") == true;
        for (name, gone) in LAYERS {
            for _ in 0..5 {
                self.it.guppy.sh(gone)?;
                self.traffic.until_sent(&both)?;
                self.traffic.until_answered(&both)?;
                let leaks = self.it.leaks(&mut self.judge)?;
                ensure!(leaks.is_empty(), "without {name}: {leaks:#?}");
            }
        }
        let all = LAYERS.map(|(_, gone)| gone).join("\n");
        for number in 1..=5 {
            self.it.guppy.sh(&all)?;
            self.it.until_converged()?;
            self.traffic.until_sent(&both)?;
            let leaks = self.it.leaks(&mut self.judge)?;
            let times: Vec<f64> = leaks
                .iter()
                .filter_map(|line| line.split_whitespace().next()?.parse().ok())
                .collect();
            let span = times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0);
            say(format_args!(
                "all layers gone, {number}: {} packets leaked within {:.0} ms (tc layer: {third})",
                leaks.len(),
                1000.0 * span
            ));
            // Closed again, and it stays closed.
            self.traffic.until_sent(&both)?;
            self.traffic.until_answered(&both)?;
            self.traffic.until_sent(&both)?;
            let later = self.it.leaks(&mut self.judge)?;
            ensure!(later.is_empty(), "after all layers were back: {later:#?}");
        }
        Ok(())
    }
}
