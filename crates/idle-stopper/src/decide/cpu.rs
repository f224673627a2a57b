//! CPU: core-seconds by unit, never a percentage of the machine: one busy core of sixteen is work.

use std::collections::BTreeMap;

use service::clock::Boottime;

use super::meter::{Meter, grown};
use super::verdict::Verdict;
use crate::config::{Config, Cpu};
use crate::sense::CpuTotals;

/// The key of the whole box among those of the units, which all contain a slash.
const BOX: &str = "box";
const MICROS: f64 = 1e6;

/// What is carried from tick to tick.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    meter: Meter<String>,
    previous: Option<CpuTotals>,
    /// Microseconds that work has used since the daemon started: everything but the baseline.
    work: u64,
    /// What each baseline unit used in the last interval.
    baseline: BTreeMap<String, u64>,
    /// Since when every tick was above a floor.
    above_since: Option<Boottime>,
}

impl Memory {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(super) fn judge(&mut self, totals: &CpuTotals, config: &Config, now: Boottime) -> Verdict {
        self.count_work(totals, &config.cpu);
        let mut units: Vec<(String, u64)> = totals
            .units
            .iter()
            .filter(|(path, _)| class(path, &config.cpu) != Class::Baseline)
            .cloned()
            .collect();
        units.push((BOX.to_owned(), self.work));
        self.meter.push(now, config.window, units);
        self.previous = Some(totals.clone());

        let span = self.meter.span(config.window).as_secs_f64();
        let mut top: Option<(f64, String, f64)> = None;
        let mut above: Option<(Boottime, String, f64)> = None;
        for moved in self.meter.moved() {
            let cores = moved.amount as f64 / MICROS / span;
            let floor = floor_of(&moved.key, &config.cpu);
            let excess = cores / floor.max(f64::MIN_POSITIVE);
            if top.as_ref().is_none_or(|(most, ..)| excess > *most) {
                top = Some((excess, moved.key.clone(), cores));
            }
            if cores > floor
                && let Some(at) = self.meter.last_above(&moved.key, floor * MICROS)
                && above.as_ref().is_none_or(|(latest, ..)| at > *latest)
            {
                above = Some((at, moved.key, cores));
            }
        }
        let Some((at, unit, cores)) = above else {
            self.above_since = None;
            return Verdict::Quiet(top.map_or_else(
                || "first look".to_owned(),
                |(_, unit, cores)| format!("most: {} {cores:.3} cores", short(&unit)),
            ));
        };
        let since = *self.above_since.get_or_insert(now);
        let detail = format!("{}: {cores:.2} cores", short(&unit));
        if cores * span >= config.cpu.spike_core_seconds || now.since(since) >= config.window {
            Verdict::Active { at, detail }
        } else {
            Verdict::Quiet(format!("{detail}, a spike so far"))
        }
    }

    /// Adds what work used since the last tick. It is the growth of the root's total, which keeps
    /// the time of units that came and went in between, less that of the baseline units.
    fn count_work(&mut self, totals: &CpuTotals, cpu: &Cpu) {
        let Some(previous) = &self.previous else {
            return;
        };
        let before: BTreeMap<&str, u64> =
            previous.units.iter().map(|(path, usec)| (path.as_str(), *usec)).collect();
        let mut baseline: BTreeMap<String, u64> = BTreeMap::new();
        for (path, usec) in &totals.units {
            if class(path, cpu) == Class::Baseline {
                let used = grown(before.get(path.as_str()).copied().unwrap_or(0), *usec);
                baseline.insert(path.clone(), used);
            }
        }
        // A baseline unit that has ended took its total with it: it is held to have gone on as in
        // the interval before, so that the end of apt-daily.service does not look like work.
        let ended: u64 = self
            .baseline
            .iter()
            .filter(|(path, _)| !baseline.contains_key(*path))
            .map(|(_, used)| *used)
            .sum();
        let excepted = baseline.values().sum::<u64>().saturating_add(ended);
        let used = grown(previous.total, totals.total)
            .saturating_add(totals.steal.saturating_sub(previous.steal));
        self.work = self.work.saturating_add(used.saturating_sub(excepted));
        self.baseline = baseline;
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Baseline,
    Daemon,
    Work,
}

fn class(path: &str, cpu: &Cpu) -> Class {
    let name = short(path);
    let among = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
    // Sessions, user managers and machines are people's, whatever a pattern for services says
    // (a machine's unit is systemd-nspawn@NAME.service).
    if path.starts_with("user.slice/") || path.starts_with("machine.slice/") {
        Class::Work
    } else if among(&cpu.baseline) {
        Class::Baseline
    } else if among(&cpu.daemons) {
        Class::Daemon
    } else {
        Class::Work
    }
}

fn floor_of(key: &str, cpu: &Cpu) -> f64 {
    if key == BOX {
        return cpu.box_cores;
    }
    match class(key, cpu) {
        Class::Daemon => cpu.daemon_cores,
        Class::Baseline | Class::Work => cpu.unit_cores,
    }
}

/// A unit's own name: the last part of its path.
fn short(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A pattern is a name, or the beginning of one before a `*`.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        Some((beginning, _)) => name.starts_with(beginning),
        None => pattern == name,
    }
}
