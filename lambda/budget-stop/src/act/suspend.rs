//! Keeps an Auto Scaling group from starting others in the place of what is stopped.
//! <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>

use aws_sdk_autoscaling::Client;
use futures_util::future::join_all;
use tokio::time::Instant;
use tracing::info;

use crate::call;
use crate::outcome::{RegionOutcome, Suspended};
use crate::sense::groups::Group;

/// HealthCheck calls a stopped instance unhealthy, ReplaceUnhealthy terminates it, Launch starts
/// another.
const PROCESSES: [&str; 3] = ["Launch", "ReplaceUnhealthy", "HealthCheck"];

/// Suspends what is not suspended yet, in all groups at once, and says in `outcome` what was; in a
/// drill, what would be.
pub(crate) async fn suspend(
    client: &Client,
    groups: &[Group],
    drill: bool,
    outcome: &mut RegionOutcome,
    deadline: Instant,
) {
    let missing = groups.iter().filter_map(|group| {
        let missing = PROCESSES.iter().filter(|name| !group.suspended.iter().any(|it| it == *name));
        let processes: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
        (!processes.is_empty()).then(|| Suspended { group: group.name.clone(), processes })
    });
    // One that hangs keeps no other from it.
    let done = join_all(missing.map(async |one| {
        if drill {
            return (one, Ok(()));
        }
        let done = call::retried(deadline, async || {
            client
                .suspend_processes()
                .auto_scaling_group_name(&one.group)
                .set_scaling_processes(Some(one.processes.clone()))
                .send()
                .await
        })
        .await;
        (one, done.map(|_| ()))
    }));
    for (one, done) in done.await {
        match done {
            Ok(()) if drill => outcome.suspended.push(one),
            Ok(()) => {
                info!("{}: suspended {} of {}", outcome.region, one.processes.join(" "), one.group);
                outcome.suspended.push(one);
            }
            Err(failure) => outcome.leave(
                format!("Auto Scaling group {}", one.group),
                format!("could not be kept from starting instances: {failure}"),
            ),
        }
    }
}
