//! `guppy vpn …`: customers' VPNs.

mod code;
mod down;
mod plan;
mod routes;
mod show;
mod up;

use std::future::Future;
use std::path::Path;

use exit_router::api::{Error, ExitRouter, Status};
use zlink::tokio::unix::Connection;

use crate::agent::EXIT_ROUTER;
use crate::cli::VpnVerb;
use crate::report::{Failure, Report};

/// Runs the verb.
///
/// # Errors
/// The agent cannot be asked, or refuses, or what was asked for did not come about in time.
pub async fn run(socket: Option<&Path>, verb: VpnVerb) -> Result<Report, Failure> {
    match verb {
        VpnVerb::Up(asked) => up::run(socket, asked).await,
        VpnVerb::Down => down::run(socket, false).await,
        VpnVerb::Disable => down::run(socket, true).await,
        VpnVerb::Status => show::status(socket).await,
        VpnVerb::Plan => plan::run(socket).await,
        VpnVerb::List => show::list(socket).await,
    }
}

async fn ask<T, F>(
    socket: Option<&Path>,
    question: impl FnOnce(Connection) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = zlink::Result<Result<T, Error>>>,
{
    EXIT_ROUTER.ask(socket, question).await
}

/// How everything is now.
pub(super) async fn status_of(socket: Option<&Path>) -> Result<Status, Failure> {
    ask(socket, async |mut agent| agent.status().await).await
}
