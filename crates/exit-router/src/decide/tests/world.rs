//! A box with an uplink, a tailnet and a profile, as evidence.

use std::collections::BTreeMap;

use service::clock::Boottime;

use crate::config::Config;
use crate::decide::{Decision, Input, State, decide};
use crate::intent::Intent;
use crate::kernel::{Address, GROUP, Link};
use crate::prefix::Prefix;
use crate::profile::Profile;
use crate::sense::{Evidence, Network, Reading, Unit};

pub(super) const ETH0: u32 = 2;
pub(super) const TAILSCALE0: u32 = 3;
pub(super) const TUNNEL: u32 = 9;

/// All that a decision is made from.
#[derive(Clone, Debug)]
pub(super) struct World {
    pub(super) config: Config,
    pub(super) intent: Intent,
    pub(super) profiles: BTreeMap<String, Result<Profile, String>>,
    pub(super) attended: Option<u64>,
    pub(super) network: Network,
    pub(super) table: Option<String>,
    pub(super) units: Vec<Unit>,
    pub(super) now: Boottime,
    pub(super) state: State,
}

pub(super) fn link(index: u32, name: &str, mtu: u32, group: u32) -> Link {
    Link { index, name: name.to_owned(), up: true, mtu, group }
}

pub(super) fn address(index: u32, text: &str) -> Address {
    let (host, length) = text.split_once('/').unwrap();
    let address = host.parse().unwrap();
    Address {
        index,
        address,
        network: Prefix::around(address, length.parse().unwrap()),
        usable: true,
    }
}

pub(super) fn unit(active: &str, exit_status: i32) -> Unit {
    Unit { profile: "acme".into(), active: active.into(), status: String::new(), exit_status }
}

impl World {
    /// No tunnel is asked for.
    pub(super) fn new() -> Self {
        let profile =
            "kind = \"wireguard\"\nprefixes = [\"10.20.0.0/16\"]\nprobe = { icmp = \"10.20.0.1\" }";
        Self {
            config: Config::default(),
            intent: Intent::default(),
            profiles: BTreeMap::from([("acme".to_owned(), Ok(toml::from_str(profile).unwrap()))]),
            attended: None,
            network: Network {
                links: vec![
                    link(1, "lo", 65_536, 0),
                    link(ETH0, "eth0", 1500, 0),
                    link(TAILSCALE0, "tailscale0", 1280, 0),
                ],
                addresses: vec![
                    address(ETH0, "198.51.100.10/24"),
                    address(ETH0, "2001:db8::10/64"),
                    address(TAILSCALE0, "100.64.0.1/32"),
                ],
                uplinks: vec![ETH0],
                ..Network::default()
            },
            table: None,
            units: Vec::new(),
            now: Boottime::from_millis(1_000_000),
            state: State::default(),
        }
    }

    /// acme is asked for, and its tunnel is up.
    pub(super) fn up() -> Self {
        let mut world = Self::new();
        world.intent = Intent { profile: Some("acme".into()), asked: 1, ..Intent::default() };
        world.network.links.push(link(TUNNEL, "vpn-acme", 1420, GROUP));
        world.network.addresses.push(address(TUNNEL, "10.8.0.2/32"));
        world.units = vec![unit("active", 0)];
        world
    }

    pub(super) fn decide(&self) -> Decision {
        let evidence = Evidence {
            network: Reading::Known(self.network.clone()),
            table: Reading::Known(self.table.clone()),
            units: Reading::Known(self.units.clone()),
        };
        self.decide_on(&evidence)
    }

    pub(super) fn decide_on(&self, evidence: &Evidence) -> Decision {
        let input = Input {
            config: &self.config,
            intent: &self.intent,
            profiles: &self.profiles,
            attended: self.attended,
            evidence,
            now: self.now,
        };
        decide(self.state.clone(), &input)
    }

    pub(super) fn plan_text(&self) -> String {
        self.decide().plan.unwrap().text(&self.network.links)
    }
}
