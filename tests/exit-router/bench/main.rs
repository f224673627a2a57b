//! The numbers of guppy-exit-router, and of the same plan made by hand: one table on stdout.
//!
//! The box is a booted container: this machine's processor and kernel, Debian's systemd, real
//! Tailscale, and wireguard-go at both ends of the tunnel.
//!
//! Nothing here is a pass or a fail: a target is printed beside what was measured. What cannot be
//! measured fails the bench, with the reason.

#[allow(dead_code, reason = "the stories use the rest")]
#[path = "../guppy.rs"]
mod guppy;
mod measure;
mod table;
#[allow(dead_code, reason = "the stories use the rest")]
#[path = "../traffic.rs"]
mod traffic;
#[allow(dead_code, reason = "the stories use the rest")]
#[path = "../world.rs"]
mod world;

use anyhow::Result;
use lab::Release;
use lab::customer::Vpn;

use measure::Bench;
use table::Table;
use world::World;

fn main() -> Result<()> {
    println!("{}", bench()?);
    Ok(())
}

fn bench() -> Result<String> {
    lab::require_privilege()?;
    let mut table = Table::default();
    let it = Bench { it: World::up(Release::Trixie, Vpn::WireGuard)? };
    lab::say("convergence");
    it.converges(&mut table)?;
    lab::say("10,000 rule events");
    it.events(&mut table)?;
    lab::say("at rest");
    it.rests(&mut table)?;
    lab::say("throughput");
    it.throughput(&mut table)?;
    let versions = it
        .it
        .guppy
        .sh("dpkg-query -W -f '${Package} ${Version}, ' guppy-exit-router nftables; \
                        tailscale version | head -n 1")?;
    let kernel = it.it.guppy.sh("uname -r")?;
    Ok(table.print(&versions, &kernel))
}
