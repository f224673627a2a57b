//! `guppy status`: every agent of this box, one line each.

use std::path::Path;

use guppy_session_keeper::api::SessionKeeper;
use serde::Serialize;

use crate::agent::{AGENTS, Agent, EXIT_ROUTER, IDLE_STOPPER};
use crate::bus::{Answer, Bus};
use crate::keeper::{self, BEGIN};
use crate::report::{Code, Failure, Report};
use crate::table::{columns, printable};

#[derive(Debug, Serialize)]
struct Status {
    agents: Vec<Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    /// Package and unit; of an agent that each user has, with the user's name.
    name: String,
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
        // `--socket` says where one agent is, the first.
        let told = agent.package == IDLE_STOPPER.package && socket.is_some();
        let installed = agent.is_installed() || told;
        let skipped = installed && unit.as_ref().is_ok_and(|unit| unit.is_skipped);
        let summary = if installed && !skipped { summary(&agent, socket).await } else { Ok(None) };
        let state = unit.ok().map(|unit| (unit.active, unit.sub));
        if skipped {
            agents.push(left_out(agent.package, state));
            continue;
        }
        agents.push(line(agent.package.to_owned(), installed, state, summary));
    }
    agents.extend(keepers(&bus).await);
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

async fn summary(agent: &Agent, socket: Option<&Path>) -> Result<Option<String>, Failure> {
    if agent.package == EXIT_ROUTER.package {
        use exit_router::api::ExitRouter;

        let status = EXIT_ROUTER.ask(None, async |mut agent| agent.status().await).await?;
        let name = status.profile.as_deref().unwrap_or("no VPN");
        let detail = if status.detail.is_empty() { status.probe } else { Some(status.detail) };
        let detail = detail.map(|detail| format!(": {detail}")).unwrap_or_default();
        return Ok(Some(format!("{name} is {}{detail}", status.state)));
    }
    use idle_stopper::api::IdleStopper;

    let explained = IDLE_STOPPER.ask(socket, async |mut agent| agent.explain().await).await?;
    Ok(Some(format!("{}: {}", explained.mode, explained.summary)))
}

/// The session keepers of all users. Only one's own gives an answer.
async fn keepers(bus: &Answer<Bus>) -> Vec<Line> {
    let name = |unit: &str| unit.trim_end_matches(".service").to_owned();
    if !keeper::is_installed() {
        return vec![line(keeper::PACKAGE.to_owned(), false, None, Ok(None))];
    }
    let own = keeper::own_unit();
    let units = match keeper::units(bus).await {
        // Without systemd's word one's own may still speak.
        Err(_) => own.iter().map(|unit| (unit.clone(), None)).collect(),
        Ok(units) if units.is_empty() => {
            let nobody = Failure::new(Code::Failed, format!("it runs for nobody; {BEGIN}"));
            return vec![line(keeper::PACKAGE.to_owned(), true, None, Err(nobody))];
        }
        Ok(units) => units.into_iter().map(|(unit, state)| (unit, Some(state))).collect::<Vec<_>>(),
    };
    let mut lines = Vec::new();
    for (unit, state) in units {
        let summary = if own.as_ref() == Some(&unit) { sessions().await } else { Ok(None) };
        lines.push(line(name(&unit), true, state, summary));
    }
    lines
}

async fn sessions() -> Result<Option<String>, Failure> {
    let paths = keeper::paths(None)?;
    let listing = keeper::ask(&paths, async |mut keeper| keeper.list().await).await?;
    Ok(Some(keeper::summary(&listing)))
}

fn line(
    name: String,
    installed: bool,
    state: Option<(String, String)>,
    summary: Result<Option<String>, Failure>,
) -> Line {
    let (summary, mut error) = match summary {
        Ok(summary) => (summary, None),
        Err(failure) => (None, Some(failure.message)),
    };
    if let Some((active, sub)) =
        state.as_ref().filter(|(active, _)| installed && active != "active")
    {
        error = Some(format!("its unit is {active} ({sub}); see: systemctl status {name}"));
    }
    let (active, sub) = state.unzip();
    Line { name, installed, active, sub, summary, error }
}

/// An agent that can do nothing here, as systemd has found: in a container without a network of its own,
/// say.
fn left_out(package: &str, state: Option<(String, String)>) -> Line {
    let why = format!("left out: a condition does not hold here; see: systemctl status {package}");
    let (active, sub) = state.unzip();
    let name = package.to_owned();
    Line { name, installed: true, active, sub, summary: Some(why), error: None }
}

fn none_installed() -> String {
    let mut packages: Vec<_> = AGENTS.iter().map(|agent| agent.package).collect();
    packages.push(keeper::PACKAGE);
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
            [line.name.clone(), state, printable(&said)]
        })
        .collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(active: &str, sub: &str) -> Option<(String, String)> {
        Some((active.to_owned(), sub.to_owned()))
    }

    fn name() -> String {
        IDLE_STOPPER.package.to_owned()
    }

    #[test]
    fn an_agent_that_is_well_says_so_itself() {
        let summary = Ok(Some("stop: idle 3 min 20 s".to_owned()));
        let line = line(name(), true, state("active", "running"), summary);
        assert_eq!(text(&[line]), "guppy-idle-stopper  active (running)  stop: idle 3 min 20 s\n");
    }

    #[test]
    fn an_agent_that_is_not_running_says_what_to_look_at() {
        let failure = Failure::new(Code::Failed, "cannot be reached");
        let line = line(name(), true, state("failed", "failed"), Err(failure));
        assert_eq!(
            text(&[line]),
            "guppy-idle-stopper  failed (failed)  its unit is failed (failed); see: systemctl \
             status guppy-idle-stopper\n"
        );
    }

    #[test]
    fn an_agent_that_is_left_out_is_not_wrong() {
        let line = left_out("guppy-exit-router", state("inactive", "dead"));
        assert_eq!(line.error, None);
        assert_eq!(
            text(&[line]),
            "guppy-exit-router  inactive (dead)  left out: a condition does not hold here; see: \
             systemctl status guppy-exit-router\n"
        );
    }

    #[test]
    fn without_a_bus_the_agent_still_speaks() {
        let line = line(name(), true, None, Ok(Some("stop: idle".to_owned())));
        assert_eq!(line.error, None);
        assert_eq!(text(&[line]), "guppy-idle-stopper  unit unknown  stop: idle\n");
    }
}
