//! A long time on one box: work of every kind starts and ends at random, and each stop, and each
//! that did not come, is judged by what really ran. The daemon observes, so the box stays.
//!
//! `GUPPY_SOAK` is its length in minutes, `GUPPY_SEED` repeats a run whose seed was printed.

mod judge;
mod work;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use lab::dice::{Dice, number_of};
use lab::process::Spawned;
use lab::{Terminal, scenario};

use crate::machine::{Box, IDLE, LONG, UNIT, config};
use judge::{BOUND, Span, judge};
use work::{Kind, Work};

const MINUTES: u64 = 15;
/// What the daemon may have grown by, in KiB and in open files: a leak grows with every episode.
const GROWTH_AT_MOST: (u64, u64) = (512, 2);

#[test]
#[ignore = "a quarter of an hour: tests/run --full"]
fn every_stop_of_a_long_random_walk_is_right() {
    scenario(|| Box::each(&config("mode = \"observe\""), soak));
}

fn soak(it: Box) -> Result<()> {
    let minutes = number_of("GUPPY_SOAK")?.unwrap_or(MINUTES);
    let (dice, seed) = Dice::new()?;
    lab::say(format_args!("soak: {minutes} min, GUPPY_SEED={seed}"));
    let mut walk = Walk::begin(&it, dice)?;
    // Once through everything, so that what the daemon keeps for good it has by now.
    walk.episode(&Kind::ALL, true)?;
    let at_first = Footprint::of(&it)?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(60 * minutes) {
        let kinds = walk.some_kinds();
        let long_rest = walk.dice.below(2) == 0;
        walk.episode(&kinds, long_rest)?;
    }
    // It ends with a rest in which the box must stop.
    walk.episode(&[Kind::Command], true)?;
    let at_last = Footprint::of(&it)?;
    let until = it.uptime()?;
    let stops: Vec<f64> =
        it.journal(0)?.iter().filter(|line| line.event == "stopping").map(|line| line.at).collect();
    lab::say(format_args!(
        "soak: {} pieces of work, {} stops; at first {at_first:?}, at last {at_last:?}",
        walk.spans.len(),
        stops.len()
    ));
    judge(&walk.spans, &stops, until)
        .with_context(|| format!("GUPPY_SEED={seed}: {:#?}", it.journal(0)))?;
    ensure!(at_first.pid == at_last.pid, "the daemon was restarted");
    let (memory, files) = GROWTH_AT_MOST;
    ensure!(at_last.kibibytes <= at_first.kibibytes + memory, "{at_first:?}, then {at_last:?}");
    ensure!(at_last.files <= at_first.files + files, "{at_first:?}, then {at_last:?}");
    Ok(())
}

/// What has been done so far, and who types.
struct Walk<'a> {
    it: &'a Box,
    dice: Dice,
    shell: Terminal,
    spans: Vec<Span>,
    /// Where the box downloads from.
    _server: Spawned,
}

impl<'a> Walk<'a> {
    fn begin(it: &'a Box, dice: Dice) -> Result<Self> {
        let server = work::prepare(it)?;
        // It stays open all the time: an open shell is no work.
        let shell = it.client.ssh_terminal(&it.key, &it.vm, "dev", "", "")?;
        shell.wait_for("$", LONG)?;
        it.wait_login_over()?;
        Ok(Self { it, dice, shell, spans: Vec::new(), _server: server })
    }

    /// One, two or three kinds of work.
    fn some_kinds(&mut self) -> Vec<Kind> {
        let mut kinds = Kind::ALL.to_vec();
        let wanted = 1 + self.dice.below(3) as usize;
        while kinds.len() > wanted {
            let out = self.dice.below(kinds.len() as u64) as usize;
            kinds.remove(out);
        }
        kinds
    }

    /// Some work at once, each piece for a time of its own, and then a rest.
    fn episode(&mut self, kinds: &[Kind], long_rest: bool) -> Result<()> {
        let mut running = Vec::new();
        for kind in kinds {
            let seconds = 5 + self.dice.below(35);
            let work = Work::begin(self.it, *kind)?;
            running.push((Instant::now() + Duration::from_secs(seconds), work));
        }
        running.sort_by_key(|(end, _)| std::cmp::Reverse(*end));
        while let Some((end, mut work)) = running.pop() {
            let others = running.iter_mut().map(|(_, work)| work);
            pass(self.it, &mut self.shell, end, others.chain([&mut work]))?;
            self.spans.push(work.end(self.it)?);
        }
        let rest = match long_rest {
            true => BOUND + 5.0,
            false => 5.0 + self.dice.below(IDLE as u64) as f64,
        };
        let end = Instant::now() + Duration::from_secs_f64(rest);
        pass(self.it, &mut self.shell, end, std::iter::empty())
    }
}

/// Lets time pass; meanwhile, where typing is among the work, keys come as people's do.
fn pass<'w>(
    it: &Box,
    shell: &mut Terminal,
    end: Instant,
    running: impl Iterator<Item = &'w mut Work>,
) -> Result<()> {
    let mut typing = running.filter(|work| work.kind == Kind::Keys).last();
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        if let Some(typing) = &mut typing {
            typing.press_key(it, shell)?;
        }
        it.vm.stays_on(left.min(Duration::from_secs(2)))?;
    }
}

/// What the daemon takes.
#[derive(Debug)]
struct Footprint {
    pid: u64,
    kibibytes: u64,
    files: u64,
}

impl Footprint {
    fn of(it: &Box) -> Result<Self> {
        let text = it
            .vm
            .sh(&format!(
                "p=$(systemctl show -P MainPID {UNIT}); echo $p; \
                 awk '/^VmRSS/ {{ print $2 }}' /proc/$p/status; ls /proc/$p/fd | wc -l"
            ))?
            .ok()?;
        let numbers: Vec<u64> = text.lines().map(str::parse).collect::<Result<_, _>>()?;
        let &[pid, kibibytes, files] = numbers.as_slice() else {
            anyhow::bail!("{text}");
        };
        Ok(Self { pid, kibibytes, files })
    }
}
