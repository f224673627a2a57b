//! What `guppy vpn status` shows: the last look, the table's counters, tailscaled's word, and an
//! answer through the tunnel, asked for now.

use std::cell::RefCell;
use std::rc::Rc;

use serde_json::Value;

use crate::api::{Layers, Peer, Status};
use crate::daemon::Daemon;
use crate::decide::{Action, Phase, foreign};
use crate::kernel::{Filter, Taken};
use crate::prefix::Prefix;
use crate::sense::tailscaled::{self, Tailscaled};
use crate::sense::{nft, probe, sysctl};

/// The one exception: tailscaled answers peers' questions for names itself (peerapi, dns-query).
const DNS: &str = "names that tailscaled resolves for a peer (MagicDNS, an exit node's default) leave \
                   as this box's own lookups, past the VPN; resolvers that the tailnet marks \
                   \"use with exit node\" and those that a peer asks by itself go through it";

/// Asks everybody.
pub async fn status(daemon: &Rc<RefCell<Daemon>>) -> Status {
    let (probe, tunnel, socket) = {
        let daemon = daemon.borrow();
        let probe = daemon.profile().map(|(_, profile)| profile.probe.clone());
        let tunnel = daemon.tunnel();
        (probe, tunnel, daemon.config.config().tailscaled_socket.clone())
    };
    let asking = async {
        match (&probe, &tunnel) {
            (Some(probe), Some((interface, addresses))) => {
                Some(probe::ask(probe, interface, addresses).await)
            }
            _ => None,
        }
    };
    let (answer, tailscaled, counters, firewalld) =
        tokio::join!(asking, tailscaled::read(&socket), nft::counters(), nft::has_firewalld());
    let daemon = daemon.borrow();
    let mut status = of_daemon(&daemon);
    status.interface = tunnel.map(|(name, _)| name);
    if let (Some(probe), Some(answer)) = (&probe, &answer) {
        status.healthy = Some(answer.is_ok());
        status.probe = Some(match answer {
            Ok(answer) => format!("{probe}: answered in {} ms", answer.after.as_millis()),
            Err(why) => format!("{probe}: {why}"),
        });
        let egress = answer.as_ref().ok().and_then(|answer| answer.egress);
        status.egress = egress.map(|egress| egress.to_string());
    }
    if let Ok(Some(counters)) = &counters {
        count(&mut status, counters);
    }
    of_tailscaled(&mut status, &daemon, tailscaled);
    match firewalld {
        Ok(true) => status.foreign.push(foreign::FIREWALLD.to_owned()),
        Ok(false) => {}
        Err(why) => status.foreign.push(why),
    }
    status
}

fn of_daemon(daemon: &Daemon) -> Status {
    let lacks =
        |is_of: fn(&Action) -> bool| daemon.plan.is_none() || daemon.actions.iter().any(is_of);
    let enabled = daemon.intent.enabled;
    let of_peers = |filter: &Filter| matches!(filter.taken, Taken::In(Some(_)));
    let has_filters = daemon.network().is_some_and(|network| network.filters.iter().any(of_peers));
    Status {
        enabled,
        profile: daemon.intent.profile.clone(),
        state: daemon.phase.name().to_owned(),
        detail: daemon.detail(),
        interface: None,
        healthy: None,
        probe: None,
        egress: None,
        peers: Vec::new(),
        blocked_packets: 0,
        blocked_bytes: 0,
        hostile_packets: 0,
        dns: DNS.to_owned(),
        advertised: Vec::new(),
        approved: Vec::new(),
        missing_routes: Vec::new(),
        exit_node: None,
        foreign: Vec::new(),
        layers: Layers {
            rules: enabled
                && !lacks(|action| matches!(action, Action::AddRule(_) | Action::AddRoute(_))),
            nft: enabled && !lacks(|action| matches!(action, Action::ReplaceTable(_))),
            tc: enabled && has_filters && !lacks(|action| matches!(action, Action::Filters { .. })),
        },
        config_error: daemon.config.error().map(str::to_owned),
    }
}

/// The counters and the sets of libnftables-json(5).
fn count(status: &mut Status, listed: &Value) {
    let objects = listed.get("nftables").and_then(Value::as_array);
    let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64).unwrap_or(0);
    for object in objects.into_iter().flatten() {
        if let Some(counter) = object.get("counter") {
            match counter.get("name").and_then(Value::as_str) {
                Some("blocked") => {
                    status.blocked_packets = number(counter, "packets");
                    status.blocked_bytes = number(counter, "bytes");
                }
                Some("hostile") => status.hostile_packets = number(counter, "packets"),
                _ => {}
            }
        }
        let elements = object.get("set").and_then(|set| set.get("elem")).and_then(Value::as_array);
        for element in elements.into_iter().flatten() {
            let Some(element) = element.get("elem") else { continue };
            let Some(address) = element.get("val").and_then(Value::as_str) else { continue };
            let counter = element.get("counter").cloned().unwrap_or_default();
            status.peers.push(Peer {
                address: address.to_owned(),
                packets: number(&counter, "packets"),
                bytes: number(&counter, "bytes"),
            });
        }
    }
}

fn of_tailscaled(status: &mut Status, daemon: &Daemon, read: Result<Tailscaled, String>) {
    let peers = &daemon.config.config().tailscale_interface;
    if let Some(network) = daemon.network() {
        status.foreign = foreign::foreign(network, peers);
    }
    let tailscaled = match read {
        Ok(tailscaled) => tailscaled,
        Err(why) => {
            status.foreign.push(why);
            return;
        }
    };
    let texts = |prefixes: &[Prefix]| prefixes.iter().map(Prefix::to_string).collect();
    status.advertised = texts(&tailscaled.advertised);
    status.approved = texts(&tailscaled.approved);
    status.exit_node = Some(tailscaled.exit_node);
    if let Some((_, profile)) = daemon.profile()
        && matches!(daemon.phase, Phase::Up | Phase::Connecting(_))
    {
        let both = |prefix: &&Prefix| {
            tailscaled.advertised.contains(prefix) && tailscaled.approved.contains(prefix)
        };
        status.missing_routes =
            profile.prefixes.iter().filter(|prefix| !both(prefix)).map(Prefix::to_string).collect();
    }
    if let Some(plan) = &daemon.plan {
        let sysctls: Vec<_> =
            plan.sysctls.iter().map(|(name, value)| (*name, *value, sysctl::read(name))).collect();
        status.foreign.extend(foreign::settings(&tailscaled, &sysctls));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use service::clock::{Boottime, Clock};
    use service::config::{Live, Paths};

    use super::*;

    #[test]
    fn counters_and_peers_are_read_from_what_nft_lists() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            role: folder.path().join("role.d"),
            file: folder.path().join("exit-router.toml"),
            dropins: folder.path().join("exit-router.d"),
        };
        let clock = Clock::driven(Boottime::from_millis(0));
        let intent = folder.path().join("intent.json");
        let daemon = Daemon::start(clock, Live::start(paths, None), &intent, folder.path());
        let mut status = of_daemon(&daemon);
        assert!(!status.layers.rules && !status.layers.nft && !status.layers.tc);
        let listed = r#"{"nftables": [{"metainfo": {}},
            {"counter": {"family": "inet", "name": "blocked", "packets": 3, "bytes": 180}},
            {"counter": {"family": "inet", "name": "hostile", "packets": 2, "bytes": 88}},
            {"set": {"name": "peers4", "elem": [{"elem": {"val": "100.64.0.2", "timeout": 600,
                "expires": 590, "counter": {"packets": 7, "bytes": 4200}}}]}},
            {"set": {"name": "peers6"}}]}"#;
        count(&mut status, &serde_json::from_str(listed).unwrap());
        assert_eq!((status.blocked_packets, status.blocked_bytes), (3, 180));
        assert_eq!(status.hostile_packets, 2);
        let peers: Vec<_> = status.peers.iter().map(|peer| (&*peer.address, peer.bytes)).collect();
        assert_eq!(peers, [("100.64.0.2", 4200)]);
    }
}
