//! `packaging/demo session-keeper`: a box installed by cloud-init loses its power while agents work
//! on it, and has all of them back, told as it happens.

#[path = "fleet.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod fleet;
#[path = "listing.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod listing;
#[path = "machine.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod machine;
#[path = "provider.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod provider;
#[path = "real.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod real;

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario};

use fleet::{Fleet, Verdict};
use machine::{Box, LONG, Machine as _};

fn main() {
    scenario(act);
}

fn act() -> Result<()> {
    let begin = Instant::now();
    let say = |text: &str| println!("{:4.0} s  {text}", begin.elapsed().as_secs_f64());
    say(
        "a Debian 13 box boots, and cloud-init installs guppy-control-plane (kept for the next time)",
    );
    let mut it = Box::control_plane(Release::Trixie)?;
    let mut fleet = Fleet::of(2, 3)?;
    fleet.settle(&it.vm, &it.provider)?;
    say("two claude and three scripted agents are declared, four of them in one folder");
    fleet.back(&it.vm)?;
    show(&it)?;
    fleet.tell(&it.vm)?;
    say("each was told a word of its own, which stands nowhere but in its conversation");
    fleet.busy(&it.vm)?;
    say("each is at work; now the power goes");
    let lost = it.vm.power_cut()?.context("no volatile disk")?;
    say(&format!(
        "{} blocks of the disk were not flushed, {} of them are lost",
        lost.unflushed, lost.lost
    ));
    it.vm.start_again()?;
    it.vm.wait_booted(LONG)?;
    say("the power is back, and nobody does anything");
    let took = fleet.back(&it.vm)?;
    say(&format!("all agents are back, {:.0} s after the boot", took.as_secs_f64()));
    show(&it)?;
    let verdict = fleet.ask(&it.vm, true)?;
    ensure!(verdict == Verdict::default(), "{verdict:?}");
    say("asked for its word, each says its own: none is lost, none is wrong, none is there twice");
    println!("the journal of its keeper since the boot:");
    let journal = "journalctl -b --no-pager -o cat -u 'guppy-session-keeper@*' | tail -n 20";
    for line in it.vm.sh_within(LONG, journal)?.ok()?.lines() {
        println!("          {line}");
    }
    Ok(())
}

/// What a person would type, and see.
fn show(it: &Box) -> Result<()> {
    println!("        $ guppy ls");
    for line in it.vm.user("guppy ls")?.ok()?.lines() {
        println!("          {line}");
    }
    Ok(())
}
