//! `guppy vpn down` and `guppy vpn disable`.

use std::path::Path;
use std::time::Duration;

use exit_router::api::ExitRouter;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{ask, routes, status_of};
use crate::report::{Code, Failure, Report};
use crate::table::printable;

/// A client tells its server goodbye before it ends.
const END_AT_MOST: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[derive(Serialize)]
struct Ended {
    profile: Option<String>,
    changed: bool,
    withdrawn: Vec<String>,
    command: Option<String>,
}

/// Runs the verb, and waits until it holds.
pub(super) async fn run(socket: Option<&Path>, disable: bool) -> Result<Report, Failure> {
    let ended = if disable {
        ask(socket, async |mut agent| agent.disable().await).await?
    } else {
        ask(socket, async |mut agent| agent.down().await).await?
    };
    let withdrawn = routes::withdraw(&ended.advertised).await;
    let deadline = Instant::now() + END_AT_MOST;
    loop {
        let status = status_of(socket).await?;
        let done = matches!((&*status.state, disable), ("off", false) | ("disabled", _));
        if done && status.interface.is_none() {
            break;
        }
        if Instant::now() >= deadline {
            let message = format!("the tunnel is still {}: {}", status.state, status.detail);
            return Err(Failure::new(Code::Unhealthy, message));
        }
        sleep(LOOK_EVERY).await;
    }
    let ended = Ended {
        profile: ended.profile,
        changed: ended.changed,
        withdrawn: withdrawn.changed,
        command: withdrawn.command,
    };
    Report::new(text(&ended, disable), &ended)
}

fn text(ended: &Ended, disable: bool) -> String {
    let mut text = match (&ended.profile, ended.changed) {
        (Some(name), _) => format!("{} is down\n", printable(name)),
        (None, _) => "no VPN was up\n".to_owned(),
    };
    text.push_str(match (disable, ended.changed) {
        (true, true) => {
            "the block is gone: peers leave by this box's own uplink (guppy vpn up closes it)\n"
        }
        (true, false) => "the block was gone already\n",
        (false, _) => "peers' packets go nowhere\n",
    });
    if let Some(command) = &ended.command {
        text.push_str(&format!("its networks are still advertised; run: {command}\n"));
    }
    text
}
