//! `guppy vpn up`.

use std::path::Path;
use std::time::Duration;

use exit_router::api::{ExitRouter, Status};
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{ask, code, routes, status_of};
use crate::cli::Up;
use crate::report::{Code, Failure, Report};
use crate::table::printable;

/// Between two looks at a tunnel that is coming up.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Raised {
    profile: String,
    /// False: it was asked for already.
    changed: bool,
    /// Null: nobody waited for it.
    healthy: Option<bool>,
    /// The routes that are advertised for it.
    advertised: Vec<String>,
    /// What the caller has to have somebody run, so that they are.
    command: Option<String>,
}

/// Runs the verb.
pub(super) async fn run(socket: Option<&Path>, asked: Up) -> Result<Report, Failure> {
    let profiles = ask(socket, async |mut agent| agent.list().await).await?.profiles;
    let profile = match &asked.name {
        Some(name) => profiles.iter().find(|profile| profile.name == *name),
        None => match profiles.as_slice() {
            [only] => Some(only),
            [] => {
                let message = "there is no profile in /etc/guppy/vpn.d: see guppy-vpn.toml(5)";
                return Err(Failure::new(Code::Failed, message));
            }
            several => {
                let names: Vec<_> = several.iter().map(|profile| profile.name.as_str()).collect();
                let message = format!("say which: guppy vpn up {}", names.join("|"));
                return Err(Failure::new(Code::Usage, message));
            }
        },
    };
    let Some(profile) = profile else {
        let name = asked.name.unwrap_or_default();
        let names: Vec<_> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        let message = format!(
            "there is no profile {name} in /etc/guppy/vpn.d; there are: {}",
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
        return Err(Failure::new(Code::Failed, message));
    };
    if let Some(wrong) = &profile.error {
        return Err(Failure::new(Code::Failed, wrong));
    }
    let code = if profile.interactive { Some(code::ask(&profile.name)?) } else { None };
    let offered = routes::offer(&profile.prefixes).await;
    let added: Vec<&str> = offered.changed.iter().map(String::as_str).collect();
    let raised = ask(socket, async |mut agent| agent.up(&profile.name, &added).await).await?;
    let deadline = Instant::now() + asked.timeout;
    if code.is_some() {
        // The client has read it when it is at it.
        wait(socket, deadline, |status| {
            status.state != "connecting" || !status.detail.contains("not started")
        })
        .await?;
    }
    drop(code);
    let healthy = if asked.wait_healthy {
        let status = wait(socket, deadline, |status| {
            status.healthy == Some(true) || matches!(&*status.state, "parked" | "failed")
        })
        .await?;
        if status.healthy != Some(true) {
            let code = if status.state == "connecting" || status.state == "up" {
                Code::Unhealthy
            } else {
                Code::Failed
            };
            let mut message = format!("{} is {}", profile.name, status.state);
            for more in [Some(status.detail), status.probe].into_iter().flatten() {
                if !more.is_empty() {
                    message.push_str(&format!("; {more}"));
                }
            }
            return Err(Failure::new(code, message));
        }
        Some(true)
    } else {
        None
    };
    let raised = Raised {
        profile: profile.name.clone(),
        changed: raised.changed,
        healthy,
        advertised: offered.advertised,
        command: offered.command,
    };
    Report::new(text(&raised), &raised)
}

/// Looks until `done`, or until the deadline; what was seen last.
async fn wait(
    socket: Option<&Path>,
    deadline: Instant,
    done: impl Fn(&Status) -> bool,
) -> Result<Status, Failure> {
    loop {
        let status = status_of(socket).await?;
        if done(&status) || Instant::now() >= deadline {
            return Ok(status);
        }
        sleep(LOOK_EVERY).await;
    }
}

fn text(raised: &Raised) -> String {
    let name = printable(&raised.profile);
    let mut text = match (raised.changed, raised.healthy) {
        (_, Some(_)) => format!("{name} is up and healthy: peers' packets go into it\n"),
        (true, None) => format!("{name} is being raised (see: guppy vpn status)\n"),
        (false, None) => format!("{name} was asked for already (see: guppy vpn status)\n"),
    };
    if let Some(command) = &raised.command {
        text.push_str(&format!("its networks are not advertised yet; run: {command}\n"));
    } else if !raised.advertised.is_empty() {
        text.push_str(&format!("advertised: {}\n", raised.advertised.join(", ")));
    }
    text
}
