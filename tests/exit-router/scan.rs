//! The tunnel is hostile: from the customer's server nothing of the box or of its peers is found.

use anyhow::{Context as _, Result, ensure};
use lab::customer::{self, Vpn};
use lab::internet::PROBE;
use lab::{Release, full, say, scenario};

use crate::world::{LONG, World};

/// The control scans as much as it needs.
const SSH: &str = "22";

#[test]
fn a_scan_from_the_customers_server_finds_nothing() {
    scenario(|| {
        let it = World::up(Release::Trixie, Vpn::WireGuard)?;
        let [v4, v6] = targets(&it)?;
        let dev = Vpn::WireGuard.interface();
        // A hostile server knows every address, and routes what it likes.
        for address in v4.iter().skip(1) {
            it.customer.host.sh(&format!("ip route add {address} dev {dev}"))?.ok()?;
        }
        for address in v6.iter().skip(1) {
            it.customer.host.sh(&format!("ip -6 route add {address} dev {dev}"))?.ok()?;
        }
        // The laptop is silent, so all that comes out of the tunnel is an answer.
        it.own_exit()?;

        let ports = if full() { "1-65535" } else { "1-10240" };
        let found = scan(&it, &v4, &v6, ports)?;
        ensure!(found.is_empty(), "the scan is answered: {found:#?}");

        it.guppy.sh("systemctl stop guppy-exit-router.service guppy-exit-router.socket")?;
        it.guppy.sh("nft delete table inet guppy_exit_router")?;
        let [own4, own6] = customer::WIREGUARD.map(|address| vec![address.to_owned()]);
        let found = scan(&it, &own4, &own6, SSH)?;
        for address in customer::WIREGUARD {
            let sshd = format!("{address}.22 >");
            ensure!(found.iter().any(|line| line.contains(&sshd)), "no {sshd} in {found:#?}");
        }
        say(format_args!("without our chains the scan of sshd alone has {} answers", found.len()));

        it.guppy.sh("systemctl start guppy-exit-router.service")?;
        it.until_converged()?;
        let found = scan(&it, &v4, &v6, SSH)?;
        ensure!(found.is_empty(), "the scan is answered: {found:#?}");
        Ok(())
    });
}

/// The box in the tunnel and in the tailnet, and both of its peers, per family.
fn targets(it: &World) -> Result<[Vec<String>; 2]> {
    let mut all = customer::WIREGUARD.map(|address| vec![address.to_owned()]);
    let own = [it.guppy.sh("tailscale ip -4")?, it.guppy.sh("tailscale ip -6")?];
    for addresses in [own, it.laptop.addresses()?, it.tablet.addresses()?] {
        for (list, address) in all.iter_mut().zip(addresses) {
            list.push(address);
        }
    }
    Ok(all)
}

/// TCP to these ports, UDP to the usual ones, and ICMP: every packet that comes back through the
/// tunnel, but for the answers to the agent's own probe.
fn scan(it: &World, v4: &[String], v6: &[String], ports: &str) -> Result<Vec<String>> {
    let host = &it.customer.host;
    let dev = Vpn::WireGuard.interface();
    let [probe4, probe6] = PROBE;
    let (v4, v6) = (v4.join(" "), v6.join(" "));
    // tcpdump ends by the signal; what it has seen by then it has written.
    let script = format!(
        "set -e
        out=$(mktemp -d)
        tcpdump -n -l --immediate-mode -i {dev} -Q in 'not host {probe4} and not host {probe6}' \
            >$out/packets 2>$out/said &
        tcpdump=$!
        trap 'kill $tcpdump 2>/dev/null || true; rm -rf $out' EXIT
        until grep -q listening $out/said; do kill -0 $tcpdump; sleep 0.1; done
        usual='-sU --top-ports 20'
        fast='-n -Pn --send-ip -e {dev} --max-retries 1 --min-rate 2000 --host-timeout 10m'
        nmap $fast -sS -p {ports} {v4} >&2
        nmap $fast -6 -sS -p {ports} {v6} >&2
        nmap $fast $usual {v4} >&2
        nmap $fast -6 $usual {v6} >&2
        for each in {v4} {v6}; do ping -n -c 3 -i 0.2 -W 1 $each >&2 || true; done
        sent=$(ip -s -s link show {dev} | awk '/TX:/ {{ getline; print $2 }}')
        echo sent $sent
        kill $tcpdump
        wait $tcpdump || true
        cat $out/packets"
    );
    let said = host.sh_within(4 * LONG, &script)?.ok().context("cannot scan")?;
    let (sent, packets) = said.split_once('\n').unwrap_or((said.as_str(), ""));
    say(format_args!("scan: {sent} packets so far, {} answers", packets.lines().count()));
    Ok(packets.lines().map(str::to_owned).collect())
}
