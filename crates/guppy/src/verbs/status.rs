//! `guppy status`: every agent of this box, one line each.

use std::path::Path;

use idle_stopper::api::IdleStopper;
use serde::Serialize;

use crate::agent::{AGENTS, Agent, IDLE_STOPPER};
use crate::bus::{Bus, Unit};
use crate::report::{Code, Failure, Report};
use crate::table::{columns, printable};

#[derive(Debug, Serialize)]
struct Status {
    agents: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    /// Package and unit.
    name: &'static str,
    installed: bool,
    /// systemd's ActiveState and SubState; null where systemd was not asked or did not answer.
    active: Option<String>,
    sub: Option<String>,
    /// What the agent says of itself.
    summary: Option<String>,
    /// What is wrong with it, and what to do.
    error: Option<String>,
}

/// Runs the verb. It succeeds when some agent is installed and all of those are well.
///
/// # Errors
/// No agent is installed.
pub async fn run(socket: Option<&Path>) -> Result<Report, Failure> {
    let bus = Bus::connect().await;
    let mut agents = Vec::new();
    for agent in AGENTS {
        let unit = match &bus {
            Ok(bus) => bus.unit(&agent.unit()).await,
            Err(error) => Err(error.clone()),
        };
        let installed = agent.is_installed() || socket.is_some();
        let summary = if installed { summary(socket).await } else { Ok(None) };
        agents.push(line(&agent, installed, unit, summary));
    }
    if agents.iter().all(|line| !line.installed) {
        return Err(Failure::new(Code::Failed, none_installed()));
    }
    let well = agents.iter().all(|line| line.error.is_none());
    let mut report = Report::new(text(&agents), &Status { agents })?;
    if !well {
        report.code = Code::Failed;
    }
    Ok(report)
}

async fn summary(socket: Option<&Path>) -> Result<Option<String>, Failure> {
    let explained = IDLE_STOPPER.ask(socket, async |mut agent| agent.explain().await).await?;
    Ok(Some(format!("{}: {}", explained.mode, explained.summary)))
}

fn line(
    agent: &Agent,
    installed: bool,
    unit: Result<Unit, String>,
    summary: Result<Option<String>, Failure>,
) -> Line {
    let name = agent.package;
    let (summary, mut error) = match summary {
        Ok(summary) => (summary, None),
        Err(failure) => (None, Some(failure.message)),
    };
    let unit = unit.ok();
    if let Some(unit) = unit.as_ref().filter(|unit| installed && unit.active != "active") {
        error = Some(format!(
            "its unit is {} ({}); see: systemctl status {name}",
            unit.active, unit.sub
        ));
    }
    let (active, sub) = unit.map(|unit| (unit.active, unit.sub)).unzip();
    Line { name, installed, active, sub, summary, error }
}

fn none_installed() -> String {
    let packages: Vec<_> = AGENTS.iter().map(|agent| agent.package).collect();
    format!("no guppy agent is installed on this box: sudo apt install {}", packages.join(" "))
}

fn text(agents: &[Line]) -> String {
    let rows: Vec<_> = agents
        .iter()
        .map(|line| {
            let state = match (line.installed, &line.active, &line.sub) {
                (false, _, _) => "not installed".to_owned(),
                (true, Some(active), Some(sub)) => format!("{active} ({sub})"),
                (true, _, _) => "unit unknown".to_owned(),
            };
            let said = line.error.as_ref().or(line.summary.as_ref()).cloned().unwrap_or_default();
            [line.name.to_owned(), state, printable(&said)]
        })
        .collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(active: &str, sub: &str) -> Result<Unit, String> {
        Ok(Unit {
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
            file: "enabled".to_owned(),
        })
    }

    #[test]
    fn an_agent_that_is_well_says_so_itself() {
        let summary = Ok(Some("stop: idle 3 min 20 s".to_owned()));
        let line = line(&IDLE_STOPPER, true, unit("active", "running"), summary);
        assert_eq!(text(&[line]), "guppy-idle-stopper  active (running)  stop: idle 3 min 20 s\n");
    }

    #[test]
    fn an_agent_that_is_not_running_says_what_to_look_at() {
        let failure = Failure::new(Code::Failed, "cannot be reached");
        let line = line(&IDLE_STOPPER, true, unit("failed", "failed"), Err(failure));
        assert_eq!(
            text(&[line]),
            "guppy-idle-stopper  failed (failed)  its unit is failed (failed); see: systemctl \
             status guppy-idle-stopper\n"
        );
    }

    #[test]
    fn without_a_bus_the_agent_still_speaks() {
        let line =
            line(&IDLE_STOPPER, true, Err("no bus".to_owned()), Ok(Some("stop: idle".to_owned())));
        assert_eq!(line.error, None);
        assert_eq!(text(&[line]), "guppy-idle-stopper  unit unknown  stop: idle\n");
    }
}
