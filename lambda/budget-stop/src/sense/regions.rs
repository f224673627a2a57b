//! The regions that this account can use.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeRegions.html>

use tokio::time::Instant;

use crate::call;
use crate::clients::Clients;
use crate::decide::failure::Failure;

/// Those that need no opt-in and those that are opted in.
pub(crate) async fn list(clients: &Clients, deadline: Instant) -> Result<Vec<String>, Failure> {
    let client = clients.home();
    let answer =
        call::retried(deadline, async || client.describe_regions().all_regions(false).send().await)
            .await?;
    let enabled = answer
        .regions()
        .iter()
        .filter(|region| region.opt_in_status() != Some("not-opted-in"))
        .filter_map(|region| region.region_name().map(str::to_owned));
    Ok(enabled.collect())
}
