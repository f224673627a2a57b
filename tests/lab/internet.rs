//! The internet of a test: a host with public addresses of both families, and the way there. It
//! answers each request with the address that it sees (`peers/internet`).

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::namespace::{Namespace, Switch};
use crate::process::Spawned;
use crate::{tailnet, wait};

/// What the box itself may ask for. Nobody else does.
pub const OWN: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];
/// What the box's peers ask for. The box itself never does: what it sends there, for whomever, it
/// sends for a peer, even under its own address.
pub const PEERS: [&str; 2] = ["203.0.113.80", "2001:db8:113::80"];
/// What is asked for through a tunnel to see whether it works.
pub const PROBE: [&str; 2] = ["203.0.113.90", "2001:db8:113::90"];

/// The host.
#[derive(Debug)]
pub struct Internet {
    host: Namespace,
    server: Spawned,
}

impl Internet {
    /// Starts it on a switch.
    pub fn on(switch: &Switch) -> Result<Self> {
        let host = switch.host()?;
        let shared = address6(host.address())?;
        // On a loopback device too an address is tentative for a moment, and nobody can listen on it.
        let mut script = format!("ip address add {shared}/64 dev eth0 nodad\n");
        for addresses in [OWN, PEERS, PROBE] {
            let [v4, v6] = addresses;
            script +=
                &format!("ip address add {v4}/32 dev lo\nip address add {v6}/128 dev lo nodad\n");
        }
        host.sh(&format!("set -e\n{script}"))?.ok().context("cannot make an internet")?;
        let programs = tailnet::programs()?;
        let server = host.spawn(&format!("exec {}/internet", programs.display()))?;
        let mut internet = Self { host, server };
        internet.answers(OWN)?;
        Ok(internet)
    }

    fn answers(&mut self, [v4, v6]: [&str; 2]) -> Result<()> {
        let (host, server) = (&self.host, &mut self.server);
        wait::until_true("the internet to answer", Duration::from_secs(300), || {
            ensure!(server.ended()?.is_none(), "its server has ended");
            let ask = format!("curl -sf http://{v4}/ && curl -sfg 'http://[{v6}]/'");
            Ok(host.sh(&ask)?.status == 0)
        })
    }

    /// The commands that give a host on the same switch an IPv6 address and default routes, by its
    /// interface `eth0` and its IPv4 address on the switch.
    pub fn way_for(&self, address: &str) -> Result<String> {
        let (here, there) = (address6(address)?, address6(self.host.address())?);
        Ok(format!(
            "set -e
            ip address replace {here}/64 dev eth0 nodad
            ip route replace default via {} dev eth0
            ip -6 route replace default via {there} dev eth0",
            self.host.address(),
        ))
    }

    /// Its own addresses of both families: the gateways of whoever is on the same switch.
    pub fn gateways(&self) -> Result<[String; 2]> {
        Ok([self.host.address().to_owned(), address6(self.host.address())?])
    }

    /// Adds further addresses, and serves on them as on the others.
    pub fn serve(&self, addresses: &[&str]) -> Result<()> {
        for address in addresses {
            let length = if address.contains(':') { "128" } else { "32" };
            self.host.sh(&format!("ip address add {address}/{length} dev lo nodad"))?.ok()?;
        }
        Ok(())
    }

    /// The host itself.
    #[must_use]
    pub fn host(&self) -> &Namespace {
        &self.host
    }
}

/// The IPv6 address of the host with an IPv4 address on a switch.
pub fn address6(address: &str) -> Result<String> {
    let last = address.rsplit('.').next().filter(|last| last.parse::<u8>().is_ok());
    Ok(format!("2001:db8:99::{}", last.with_context(|| format!("no address: {address}"))?))
}
