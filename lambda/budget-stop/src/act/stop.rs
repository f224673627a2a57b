//! One call that stops instances, and the one that lifts their protection.

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{AttributeBooleanValue, InstanceStateName};
use tokio::time::Instant;

use crate::call;
use crate::decide::failure::Failure;
use crate::decide::stop::Attempt;

/// AWS's answer to a call with DryRun that it would have carried out.
const WOULD_SUCCEED: &str = "DryRunOperation";

/// Stops them; says which of them this attempt stopped, as opposed to somebody else a moment ago.
///
/// In a drill AWS is asked whether it would, and nothing is stopped.
pub(crate) async fn stop(
    client: &Client,
    attempt: &Attempt,
    drill: bool,
    deadline: Instant,
) -> Result<Vec<String>, Failure> {
    let call = client
        .stop_instances()
        .set_instance_ids(Some(attempt.ids.clone()))
        .set_hibernate(attempt.hibernate.then_some(true))
        .set_dry_run(drill.then_some(true));
    let answer = match call::once(deadline, call.send()).await {
        Err(failure) if drill && failure.code == WOULD_SUCCEED => return Ok(attempt.ids.clone()),
        answer => answer?,
    };
    let stopped = answer.stopping_instances().iter().filter(|change| {
        let before = change.previous_state().and_then(|state| state.name());
        // After a try whose answer was lost, it was this run that stopped what it found running.
        attempt.may_have_happened
            || matches!(before, Some(InstanceStateName::Pending | InstanceStateName::Running))
    });
    Ok(stopped.filter_map(|change| change.instance_id().map(str::to_owned)).collect())
}

/// Lifts DisableApiStop.
pub(crate) async fn lift(client: &Client, id: &str, deadline: Instant) -> Result<(), Failure> {
    let off = AttributeBooleanValue::builder().value(false).build();
    call::retried(deadline, async || {
        client
            .modify_instance_attribute()
            .instance_id(id)
            .disable_api_stop(off.clone())
            .send()
            .await
    })
    .await
    .map(|_| ())
}
