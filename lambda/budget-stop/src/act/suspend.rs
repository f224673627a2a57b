//! Keeps an Auto Scaling group from starting others in the place of what is stopped.
//! <https://docs.aws.amazon.com/autoscaling/ec2/userguide/as-suspend-resume-processes.html>

use aws_sdk_autoscaling::Client;
use tokio::time::Instant;
use tracing::info;

use crate::call;
use crate::outcome::{RegionOutcome, Suspended};
use crate::sense::groups::Group;

/// HealthCheck calls a stopped instance unhealthy, ReplaceUnhealthy terminates it, Launch starts
/// another.
const PROCESSES: [&str; 3] = ["Launch", "ReplaceUnhealthy", "HealthCheck"];

/// Suspends what is not suspended yet, in each group, and says in `outcome` what was; in a drill,
/// what would be.
pub(crate) async fn suspend(
    client: &Client,
    groups: &[Group],
    drill: bool,
    outcome: &mut RegionOutcome,
    deadline: Instant,
) {
    for group in groups {
        let missing =
            PROCESSES.iter().filter(|name| !group.suspended.iter().any(|one| one == *name));
        let processes: Vec<String> = missing.map(|name| (*name).to_owned()).collect();
        if processes.is_empty() {
            continue;
        }
        if drill {
            outcome.suspended.push(Suspended { group: group.name.clone(), processes });
            continue;
        }
        let done = call::retried(deadline, async || {
            client
                .suspend_processes()
                .auto_scaling_group_name(&group.name)
                .set_scaling_processes(Some(processes.clone()))
                .send()
                .await
        });
        match done.await {
            Ok(_) => {
                info!("{}: suspended {} of {}", outcome.region, processes.join(" "), group.name);
                outcome.suspended.push(Suspended { group: group.name.clone(), processes });
            }
            Err(failure) => outcome.leave(
                format!("Auto Scaling group {}", group.name),
                format!("could not be kept from starting instances: {failure}"),
            ),
        }
    }
}
