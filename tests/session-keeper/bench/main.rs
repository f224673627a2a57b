//! The numbers of guppy-session-keeper and, in the same run on the same box, those of tmux itself,
//! of Debian's tmuxp and of shpool, where they do the same work: one table on stdout, its notes
//! below it.
//!
//! The box is a booted container: this machine's processor and kernel, Debian's systemd and tmux,
//! and our packages with their own units. An agent is a program that notes when it runs.
//!
//! Nothing here is a pass or a fail: a target is printed beside what was measured. What cannot be
//! measured fails the bench, with the reason.

mod measure;
mod peers;
mod table;

use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{AptRepo, Container, Image, Release, Switch};

use measure::Bench;
use table::Table;

/// For what takes as long as it takes.
const LONG: Duration = Duration::from_secs(900);
/// Sessions that are started together.
const FLEETS: [usize; 2] = [20, 100];
/// Sessions that are listed.
const LISTED: usize = 200;
/// How often a listing is asked for.
const LISTINGS: usize = 21;
/// How often an agent is killed.
const CRASHES: usize = 7;
/// How long all are watched at rest.
const CALM_SECONDS: usize = 60;

fn main() -> Result<()> {
    println!("{}", bench()?);
    Ok(())
}

fn bench() -> Result<String> {
    lab::require_privilege()?;
    let ours = lab::apt_repo::built()?;
    let tmuxp = peers::tmuxp().context("tmuxp cannot be had from Debian")?;
    let shpool = peers::shpool().context("shpool cannot be had from crates.io")?;
    let mut table = Table::default();
    let switch = Switch::new()?;
    let repository = AptRepo::serve(&switch, &[ours, tmuxp].concat())?;
    let container = Container::boot(&Image::of(Release::Trixie)?, &switch)?;
    let it = Bench { container };
    it.install(&repository, &shpool)?;
    for count in FLEETS {
        lab::say(format_args!("{count} sessions"));
        it.boots(&mut table, count)?;
        lab::say(format_args!("{CALM_SECONDS} s at rest"));
        it.rests(&mut table, count)?;
        if count == FLEETS[0] {
            it.crashes(&mut table)?;
        }
    }
    lab::say(format_args!("{LISTED} sessions"));
    it.listings(&mut table)?;
    let versions =
        it.sh("dpkg-query -W -f '${Package} ${Version}, ' guppy-session-keeper tmux tmuxp && shpool version")?;
    let kernel = it.sh("uname -r")?;
    Ok(table.print(&versions, &kernel))
}
