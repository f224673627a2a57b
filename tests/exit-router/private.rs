//! The customer's private networks are subnet routes: advertised by whoever calls `up`, approved by
//! the tailnet's admin, accepted by the client. What overlaps the box's own is refused.

use anyhow::{Result, ensure};
use lab::customer::{PREFIXES, PRIVATE, Vpn};
use lab::{Release, scenario};

use crate::world::{ACME, SOON, World, of, url};

#[test]
fn private_prefixes_are_merged_approved_and_withdrawn() {
    scenario(|| {
        let mut it = World::new(Release::Trixie)?;
        it.customer.serve(Vpn::WireGuard, "")?;
        for (prefix, why) in
            [("10.99.7.0/24", "eth0"), ("100.100.0.0/16", "tailnet"), ("0.0.0.0/0", "0.0.0.0/0")]
        {
            it.profile("wireguard", &format!("prefixes = [\"{prefix}\"]\n"))?;
            it.secret(&it.customer.config(Vpn::WireGuard, 1420)?)?;
            let refused = it.try_vpn(&format!("up {ACME}"))?;
            ensure!(refused.status != 0, "{prefix} is taken: {refused:?}");
            let said = refused.stdout + &refused.stderr;
            ensure!(said.contains(prefix) && said.contains(why), "{prefix}: {said}");
        }

        // Somebody's route was there before, and stays.
        it.guppy.sh("tailscale set --advertise-exit-node --advertise-routes=198.18.7.0/24")?;
        it.add_customer(Vpn::WireGuard, 1420)?;
        let up = it.vpn(&format!("up {ACME} --wait-healthy --timeout 4min"))?;
        ensure!(*of(&up, "/advertised") == serde_json::json!(PREFIXES), "{up:#}");
        let routes = advertised(&it)?;
        for prefix in PREFIXES.iter().chain(&["198.18.7.0/24", "0.0.0.0/0", "::/0"]) {
            ensure!(routes.contains(prefix), "{prefix} is not in {routes}");
        }

        // Not approved yet: the tunnel is up, and whoever asks is told what is missing. Whoever uses the
        // box for everything gets there all the same: tailscaled lets in what it advertises itself.
        it.exit_by_box()?;
        it.until_egress(&it.customer.addresses()?)?;
        it.until("status to name what is not approved", |it| {
            Ok(*of(&it.status()?, "/missing_routes") == serde_json::json!(PREFIXES))
        })?;
        let doctor = it.guppy.try_sh("guppy doctor")?;
        let doctor = doctor.stdout + &doctor.stderr;
        ensure!(doctor.contains(PREFIXES[0]) && doctor.contains("accept"), "{doctor}");

        it.own_exit()?;
        ensure!(it.laptop.get(&url(PRIVATE[0]), SOON)?.is_none(), "reached without approval");
        it.approve(&PREFIXES)?;
        for address in PRIVATE {
            it.until("the private web", |it| Ok(it.laptop.get(&url(address), SOON)?.is_some()))?;
        }
        it.until("status to name nothing", |it| {
            Ok(*of(&it.status()?, "/missing_routes") == serde_json::json!([]))
        })?;

        it.vpn("down")?;
        let routes = advertised(&it)?;
        ensure!(routes.contains("198.18.7.0/24") && !routes.contains(PREFIXES[0]), "{routes}");
        Ok(())
    });
}

fn advertised(it: &World) -> Result<String> {
    it.guppy.sh("tailscale debug prefs | sed -n '/AdvertiseRoutes/,/]/p'")
}
