//! What a box forwarded before for others goes on only where `also_forward` says so.

use anyhow::{Result, ensure};
use lab::customer::Vpn;
use lab::{Release, scenario, tailnet};

use crate::traffic::kinds;
use crate::world::{SOON, World, url};

/// A subnet beside the box: not the internet, not the customer's.
const SUBNET: [&str; 2] = ["198.51.100.80", "2001:db8:51::80"];
/// A server of the internet's that a container may ask.
const MIRROR: &str = "203.0.113.10";

#[test]
fn also_forward_keeps_containers_and_a_subnet_and_nothing_else() {
    scenario(|| {
        let it = World::up(Release::Trixie, Vpn::WireGuard)?;
        let [subnet4, subnet6] = SUBNET;
        it.internet.serve(&SUBNET)?;
        // A container of the box's, as docker makes one: a bridge, a network of its own, masquerade.
        it.guppy.sh(
            "ip netns add container
             ip link add lan0 type veth peer name eth0 netns container
             ip address add 10.77.0.1/24 dev lan0 && ip link set lan0 up
             ip -n container link set lo up && ip -n container link set eth0 up
             ip -n container address add 10.77.0.2/24 dev eth0
             ip -n container route add default via 10.77.0.1
             nft 'add table ip lan; add chain ip lan nat { type nat hook postrouting priority srcnat; };
                  add rule ip lan nat ip saddr 10.77.0.0/24 oifname \"eth0\" masquerade'",
        )?;
        let contained = || {
            tailnet::get(&url(MIRROR), SOON, |command| {
                it.guppy.try_sh(&format!("ip netns exec container {command}"))
            })
        };
        ensure!(contained()?.is_none(), "a container gets out by itself");
        // As before: by the VPN.
        let [vpn4, vpn6] = it.customer.addresses()?;
        let subnet = || -> Result<_> {
            let [v4, v6] = SUBNET.map(|address| it.laptop.get(&url(address), SOON));
            Ok([v4?, v6?])
        };
        ensure!(subnet()? == [Some(vpn4), Some(vpn6)], "{:?}", subnet()?);

        it.guppy.write(
            "/etc/guppy/exit-router.toml",
            &format!(
                "also_forward = [\n  {{ to = \"{subnet4}/24\", via = \"eth0\" }},\n\
                 \x20 {{ to = \"{subnet6}/64\", via = \"eth0\" }},\n\
                 \x20 {{ from = \"lan0\", to = \"0.0.0.0/0\", via = \"eth0\" }},\n]\n"
            )
            .replace("198.51.100.80/24", "198.51.100.0/24")
            .replace("2001:db8:51::80/64", "2001:db8:51::/64"),
        )?;
        it.guppy.sh("systemctl reload guppy-exit-router.service")?;
        let [own4, own6] = it.own_addresses()?;
        it.until("the container to get out", |_| Ok(contained()? == Some(own4.clone())))?;
        it.until("the subnet to be reached past the VPN", |_| {
            Ok(subnet()? == [Some(own4.clone()), Some(own6.clone())])
        })?;
        // All else goes as before, and a mistake does not open everything.
        it.until_egress(&it.customer.addresses()?)?;
        let mut traffic = it.traffic()?;
        traffic.until_answered(&kinds(&["v4", "v6"]))?;
        it.guppy.write(
            "/etc/guppy/exit-router.toml",
            "also_forward = [ { to = \"0.0.0.0/0\", via = \"eth0\" } ]\n",
        )?;
        ensure!(
            it.guppy
                .try_sh("systemctl reload guppy-exit-router.service; guppy vpn status --json")?
                .stdout
                .contains("0.0.0.0/0"),
            "nothing is said about a peer's way past the VPN to everywhere"
        );
        it.until_egress(&it.customer.addresses()?)
    });
}
