//! The Auto Scaling groups of a region that carry the tag.
//! <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_DescribeAutoScalingGroups.html>

use aws_sdk_autoscaling::Client;
use aws_sdk_autoscaling::types::Filter;
use tokio::time::Instant;

use crate::call;
use crate::decide::failure::Failure;
use crate::{TAG_KEY, TAG_VALUE};

/// AWS's most for one page.
const PAGE: i32 = 100;

/// A group.
pub(crate) struct Group {
    pub(crate) name: String,
    /// The processes that are suspended already.
    pub(crate) suspended: Vec<String>,
}

/// Lists them, page by page.
pub(crate) async fn list(client: &Client, deadline: Instant) -> Result<Vec<Group>, Failure> {
    let tagged = Filter::builder().name(format!("tag:{TAG_KEY}")).values(TAG_VALUE).build();
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let answer = call::retried(deadline, async || {
            client
                .describe_auto_scaling_groups()
                .filters(tagged.clone())
                .max_records(PAGE)
                .set_next_token(page.clone())
                .send()
                .await
        })
        .await?;
        for group in answer.auto_scaling_groups() {
            let processes = group.suspended_processes().iter();
            found.push(Group {
                name: group.auto_scaling_group_name().unwrap_or_default().to_owned(),
                suspended: processes
                    .filter_map(|process| process.process_name().map(str::to_owned))
                    .collect(),
            });
        }
        page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            return Ok(found);
        }
    }
}
