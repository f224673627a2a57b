//! What others have done that could send peers' packets elsewhere, or stop them: named for people,
//! survived by the plan or refused.

use crate::kernel::{Rule, RuleAction, TABLE};
use crate::prefix::Family;
use crate::sense::Network;
use crate::sense::tailscaled::Tailscaled;

use super::plan::priority;

/// tailscaled's own rules (router_linux.go): 5210, 5230, 5250 and 5270.
const TAILSCALED: [u32; 4] = [5210, 5230, 5250, 5270];

/// One line for each.
pub fn foreign(network: &Network, peers: &str) -> Vec<String> {
    let mut said = Vec::new();
    for rule in &network.rules {
        if steers_peers(rule, peers) {
            said.push(format!(
                "{rule}: comes before ours and takes peers' packets; what it sends past the tunnel is \
                 dropped (wg-quick or another VPN? stop it, or give it Table = off)"
            ));
        }
    }
    for (index, to) in network.uplinks.iter().map(|index| (index, "a default route")) {
        let link = network.links.iter().find(|link| link.index == *index);
        if let Some(link) = link
            && link.group == crate::kernel::GROUP
        {
            said.push(format!(
                "main has {to} by {}: guppy's own traffic is dropped there",
                link.name
            ));
        }
    }
    for family in Family::ALL {
        let closing = |rule: &&Rule| rule.family == family && rule.priority == priority::PEERS;
        if network.link(peers).is_some() && !network.rules.iter().any(|rule| closing(&rule)) {
            let six = if family == Family::V6 { "-6 " } else { "" };
            said.push(format!("ip {six}rule pref {}: somebody deletes it", priority::PEERS));
        }
    }
    said
}

/// A rule that is neither ours nor tailscaled's nor the kernel's first, before our own.
fn steers_peers(rule: &Rule, peers: &str) -> bool {
    let ours = rule.protocol == crate::kernel::PROTOCOL;
    let theirs = TAILSCALED.contains(&rule.priority);
    let to_ours = rule.action == RuleAction::Lookup(TABLE);
    rule.priority > 0
        && rule.priority < priority::PEERS
        && !ours
        && !theirs
        && !to_ours
        && rule.iif.as_deref().is_none_or(|iif| iif == peers)
        && rule.oif.is_none()
}

/// What of peers' packets never comes here, and cannot be held back.
pub const USERSPACE: &str = "tailscaled runs with --tun=userspace-networking: what exit nodes' peers \
    send leaves as its own sockets', past everything here: refused; start it with --tun=tailscale0";

/// A drop in any table is final, so nothing here can allow what it refuses. Its check of IPv6 sources
/// looks the way back up by main alone, and finds the uplink (firewalld.conf(5), IPv6_rpfilter).
pub const FIREWALLD: &str = "firewalld runs: it refuses what it forwards between interfaces that are \
    in no zone of its own, and all of IPv6 that comes out of a tunnel; put tailscale0 and the tunnel \
    into one (firewall-cmd --permanent --zone=trusted --add-interface=tailscale0) and set \
    IPv6_rpfilter=no in /etc/firewalld/firewalld.conf, or stop it";

/// What tailscaled and the kernel's settings have against forwarding.
pub fn settings(
    tailscaled: &Tailscaled,
    sysctls: &[(&str, &str, Result<String, String>)],
) -> Vec<String> {
    let mut said = Vec::new();
    for (name, wanted, found) in sysctls {
        match found {
            Ok(found) if found == wanted => {}
            Ok(found) => said.push(format!(
                "{name} is {found}: nothing of the peers' is forwarded (sysctl -w {name}={wanted})"
            )),
            Err(why) => said.push(why.clone()),
        }
    }
    if !tailscaled.tun {
        said.push(USERSPACE.to_owned());
    }
    match tailscaled.netfilter_mode {
        0 => said.push(
            "tailscaled runs with --netfilter-mode=off: our own masquerade stands in".to_owned(),
        ),
        1 => said.push(
            "tailscaled runs with --netfilter-mode=nodivert: our own masquerade stands in"
                .to_owned(),
        ),
        _ => {}
    }
    said
}
