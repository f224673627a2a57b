//! `guppy vpn status` and `guppy vpn list`.

use std::path::Path;

use exit_router::api::{ExitRouter, Profiles, Status};

use super::{ask, status_of};
use crate::report::{Failure, Report};
use crate::table::{columns, printable};

/// Runs `guppy vpn status`.
pub(super) async fn status(socket: Option<&Path>) -> Result<Report, Failure> {
    let status = status_of(socket).await?;
    Report::new(status_text(&status), &status)
}

/// Runs `guppy vpn list`.
pub(super) async fn list(socket: Option<&Path>) -> Result<Report, Failure> {
    let profiles = ask(socket, async |mut agent| agent.list().await).await?;
    Report::new(list_text(&profiles), &profiles)
}

fn status_text(status: &Status) -> String {
    let mut rows: Vec<[String; 2]> = Vec::new();
    let mut row = |name: &str, said: String| {
        if !said.is_empty() {
            rows.push([name.to_owned(), printable(&said)]);
        }
    };
    let name = status.profile.as_deref().unwrap_or("no VPN");
    let interface = status.interface.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let detail =
        if status.detail.is_empty() { String::new() } else { format!(": {}", status.detail) };
    row("tunnel", format!("{name} is {}{interface}{detail}", status.state));
    row("probe", status.probe.clone().unwrap_or_default());
    row("egress", status.egress.clone().unwrap_or_default());
    for peer in &status.peers {
        row("peer", format!("{}: {} packets, {} bytes", peer.address, peer.packets, peer.bytes));
    }
    row(
        "blocked",
        format!(
            "{} packets ({} bytes) of peers kept from the uplink, {} unasked from the customer's network",
            status.blocked_packets, status.blocked_bytes, status.hostile_packets
        ),
    );
    let word = |holds: bool| if holds { "holds" } else { "does not hold" };
    let layers = &status.layers;
    row(
        "layers",
        format!(
            "rules: {}; nft: {}; tc: {}",
            word(layers.rules),
            word(layers.nft),
            word(layers.tc)
        ),
    );
    row(
        "exit node",
        match status.exit_node {
            Some(true) => "offered and approved".to_owned(),
            Some(false) => {
                "not offered, or not approved (tailscale set --advertise-exit-node)".to_owned()
            }
            None => String::new(),
        },
    );
    if !status.missing_routes.is_empty() {
        row(
            "routes",
            format!(
                "not advertised and approved: {} (clients must accept routes, too)",
                status.missing_routes.join(", ")
            ),
        );
    }
    row("dns", status.dns.clone());
    for foreign in &status.foreign {
        row("foreign", foreign.clone());
    }
    row("config", status.config_error.clone().unwrap_or_default());
    columns(&rows)
}

fn list_text(profiles: &Profiles) -> String {
    if profiles.profiles.is_empty() {
        return "no VPN is known: see guppy-vpn.toml(5)\n".to_owned();
    }
    let rows: Vec<_> = profiles
        .profiles
        .iter()
        .map(|profile| {
            let active = if profile.active { "*" } else { "" };
            let said = match (&profile.error, &profile.probe) {
                (Some(wrong), _) => wrong.clone(),
                (None, probe) => {
                    format!("{} {}", profile.prefixes.join(","), probe.clone().unwrap_or_default())
                }
            };
            [
                active.to_owned(),
                profile.name.clone(),
                profile.kind.clone().unwrap_or_default(),
                profile.interface.clone().unwrap_or_default(),
                said.trim().to_owned(),
            ]
        })
        .collect();
    columns(&rows)
}
