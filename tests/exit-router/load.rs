//! Much at once: big downloads, the flows of fifty peers, ten thousand changes of the rules.

use anyhow::ensure;
use lab::customer::Vpn;
use lab::internet::PEERS;
use lab::{Release, say, scenario};

use crate::traffic::kinds;
use crate::world::{ACME, LONG, World};

/// Bytes of one big download.
const BIG: u64 = 30_000_000;
/// The tunnel's MTU: the smallest that IPv6 allows, some provider's, WireGuard's own.
const MTUS: [u32; 3] = [1280, 1340, 1420];
/// Fifty peers, each with so many connections as a page of the web opens.
const FLOWS: usize = 50 * 6;

#[test]
fn big_downloads_pass_whatever_the_tunnels_mtu() {
    scenario(|| {
        let it = World::up(Release::Trixie, Vpn::WireGuard)?;
        for mtu in MTUS {
            it.vpn("down")?;
            it.add_customer(Vpn::WireGuard, mtu)?;
            it.vpn(&format!("up {ACME} --wait-healthy --timeout 4min"))?;
            it.until_egress(&it.customer.addresses()?)?;
            // As where a firewall eats what would tell of a smaller MTU.
            it.customer
                .host
                .sh("nft -f - <<'END'
                table inet deaf { chain in {
                    type filter hook prerouting priority raw
                    icmp type destination-unreachable drop
                    icmpv6 type packet-too-big drop
                }; }
END")?
                .ok()?;
            for address in PEERS {
                let url =
                    if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
                let got = it.laptop.host.sh_within(
                    LONG,
                    &format!("curl -sSg --fail --max-time 280 http://{url}/bytes/{BIG} | wc -c; exit ${{PIPESTATUS[0]}}"),
                )?
                .ok()?;
                ensure!(got == BIG.to_string(), "{address} with an MTU of {mtu}: {got} bytes");
                let sent = it.laptop.host.sh_within(
                    LONG,
                    &format!("head -c {BIG} /dev/zero | curl -sSg --fail --max-time 280 -H Expect: --data-binary @- http://{url}/"),
                )?
                .ok()?;
                ensure!(sent.ends_with(&BIG.to_string()), "{address} with an MTU of {mtu}: {sent}");
            }
            it.customer.host.sh("nft delete table inet deaf")?.ok()?;
            say(format_args!("MTU {mtu}: {BIG} bytes each way, over both families"));
        }
        Ok(())
    });
}

#[test]
fn fifty_peers_flows_and_ten_thousand_rule_events_are_borne() {
    scenario(|| {
        let it = World::up(Release::Trixie, Vpn::WireGuard)?;
        let mut judge = it.judge()?;
        let [v4, v6] = PEERS;
        let [vpn4, vpn6] = it.customer.addresses()?;
        let seen = it
            .laptop
            .host
            .sh_within(
                LONG,
                &format!(
                    "seq {FLOWS} | xargs -P 100 -I N curl -sSg --fail --max-time 250 \
                 http://{v4}/ 'http://[{v6}]/' | sort | uniq -c"
                ),
            )?
            .ok()?;
        for address in [&vpn4, &vpn6] {
            ensure!(seen.contains(&format!("{FLOWS} {address}")), "{address}: {seen}");
        }

        let mut traffic = it.traffic()?;
        let pid = || it.guppy.sh("systemctl show -P MainPID guppy-exit-router.service");
        let (before, spent) = (pid()?, it.cpu_seconds()?);
        it.rule_events()?;
        it.until_converged()?;
        ensure!(pid()? == before, "the agent was restarted");
        say(format_args!(
            "10,000 rule events: {:.2} s of the agent's CPU",
            it.cpu_seconds()? - spent
        ));
        traffic.until_answered(&kinds(&["v4", "v6"]))?;
        let leaks = it.leaks(&mut judge)?;
        ensure!(leaks.is_empty(), "{leaks:#?}");
        Ok(())
    });
}
