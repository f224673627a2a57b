//! `guppy vpn plan`.

use std::path::Path;

use exit_router::api::ExitRouter;

use super::ask;
use crate::report::{Failure, Report};

/// Runs the verb.
pub(super) async fn run(socket: Option<&Path>) -> Result<Report, Failure> {
    let plan = ask(socket, async |mut agent| agent.plan().await).await?;
    let mut text = plan.plan.clone();
    if plan.actions.is_empty() {
        text.push_str("# all of it holds\n");
    }
    for action in &plan.actions {
        text.push_str(&format!("# to do: {action}\n"));
    }
    Report::new(text, &plan)
}
