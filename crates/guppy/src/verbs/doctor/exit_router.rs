//! The exit router: running, all layers in place, routes approved, and nobody against it.

use exit_router::api::{ExitRouter, Status};

use super::Finding;
use crate::agent::EXIT_ROUTER;
use crate::bus::{Answer, Bus};

const CHECK: &str = "exit router";

/// Nothing on a box without it.
pub(super) async fn look(bus: &Answer<Bus>) -> Vec<Finding> {
    if !EXIT_ROUTER.is_installed() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    if let Ok(bus) = bus {
        for name in ["guppy-exit-router-block.service", "guppy-exit-router.service"] {
            findings.push(match bus.unit(name).await {
                Ok(unit) if unit.is_skipped => {
                    let remedy = "run the box as a machine, or give its container CAP_NET_ADMIN";
                    let found = format!("{name} is left out: it may not change this box's network");
                    return vec![Finding::warn(CHECK, found, remedy)];
                }
                Ok(unit) if unit.active == "active" && unit.file == "enabled" => {
                    Finding::ok(CHECK, format!("{name} is active and enabled"))
                }
                Ok(unit) => Finding::bad(
                    CHECK,
                    format!("{name} is {} and {}", unit.active, unit.file),
                    format!("sudo systemctl enable --now {name}; and see: journalctl -u {name}"),
                ),
                Err(error) => Finding::warn(
                    CHECK,
                    format!("systemd cannot be asked: {error}"),
                    "see: systemctl status dbus",
                ),
            });
        }
    }
    match EXIT_ROUTER.ask(None, async |mut agent| agent.status().await).await {
        Ok(status) => findings.extend(judge(&status)),
        Err(failure) => findings.push(Finding::bad(
            CHECK,
            failure.message,
            "sudo systemctl restart guppy-exit-router.socket guppy-exit-router.service",
        )),
    }
    findings
}

fn judge(status: &Status) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !status.enabled {
        let remedy = "guppy vpn up";
        findings.push(Finding::warn(
            CHECK,
            "disabled: peers leave by this box's own uplink",
            remedy,
        ));
        return findings;
    }
    for (layer, holds) in [("policy rules", status.layers.rules), ("nft table", status.layers.nft)]
    {
        if !holds {
            let remedy = "journalctl -u guppy-exit-router; guppy vpn plan";
            findings.push(Finding::bad(
                CHECK,
                format!("the layer of the {layer} does not hold"),
                remedy,
            ));
        }
    }
    if !status.layers.tc {
        let found = "the layer on the uplink's way out does not hold (it needs tailscale0, an uplink, and \
                     the modules sch_ingress, cls_u32 and act_gact)";
        findings.push(Finding::warn(CHECK, found, "journalctl -u guppy-exit-router"));
    }
    if matches!(&*status.state, "parked" | "failed") {
        findings.push(Finding::bad(CHECK, status.detail.clone(), "guppy vpn status"));
    }
    if status.healthy == Some(false) {
        let found = status.probe.clone().unwrap_or_default();
        findings.push(Finding::warn(CHECK, found, "journalctl -u 'guppy-vpn@*'"));
    }
    if status.exit_node == Some(false) {
        let remedy = "tailscale set --advertise-exit-node, and approve it in the tailnet";
        findings.push(Finding::warn(CHECK, "not offered as exit node, or not approved", remedy));
    }
    if !status.missing_routes.is_empty() {
        let found = format!("not advertised and approved: {}", status.missing_routes.join(", "));
        let remedy = "guppy vpn up, approve them in the tailnet, and accept routes on the clients";
        findings.push(Finding::warn(CHECK, found, remedy));
    }
    findings.push(Finding::warn(
        CHECK,
        status.dns.clone(),
        "have peers ask resolvers of their own",
    ));
    for foreign in &status.foreign {
        // Peers' packets leave past everything then.
        findings.push(if foreign.contains("userspace-networking") {
            Finding::bad(CHECK, foreign.clone(), "guppy vpn status")
        } else {
            Finding::warn(CHECK, foreign.clone(), "guppy vpn status")
        });
    }
    if let Some(wrong) = &status.config_error {
        findings.push(Finding::bad(CHECK, wrong.clone(), "guppy-exit-router --check-config"));
    }
    findings
}
