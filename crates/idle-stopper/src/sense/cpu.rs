//! CPU time: of each unit from the walk over the cgroups, and what the hypervisor took.
//!
//! The units are summed instead of reading the whole box's counter: that one is sampled at timer
//! ticks, and was seen to miss a quarter of what the slices had used.

use super::CpuTotals;
use super::cgroups::Cgroups;
use super::file::{self, Failure, number};
use super::processes::Proc;

/// /proc counts in USER_HZ, 100 to the second on every architecture that systemd runs on.
const TICK_MICROS: u64 = 10_000;

pub(super) fn read(proc: &Proc, cgroups: Cgroups) -> Result<CpuTotals, Failure> {
    // The line of all processors comes first, and fits.
    let mut buffer = [0; 512];
    let text = file::read_once(proc.folder(), c"stat", &mut buffer)
        .map_err(|errno| Failure::read(proc.path("stat"), errno))?;
    let steal = steal(text).ok_or_else(|| Failure::form(proc.path("stat"), text))?;
    Ok(CpuTotals { units: cgroups.units, total: cgroups.total, steal })
}

/// The eighth number of the line `cpu` (proc_stat(5)), in microseconds.
pub(super) fn steal(text: &[u8]) -> Option<u64> {
    let line = file::lines(text).next()?.strip_prefix(b"cpu ")?;
    number(file::words(line).nth(7)?)?.checked_mul(TICK_MICROS)
}
