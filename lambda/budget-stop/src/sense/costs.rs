//! Tagged resources of a region that cost money although every instance is stopped.
//! <https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html>

use aws_sdk_resourcegroupstagging::Client;
use aws_sdk_resourcegroupstagging::types::TagFilter;
use tokio::time::Instant;

use crate::call;
use crate::decide::failure::Failure;
use crate::{TAG_KEY, TAG_VALUE};

/// AWS's most for one page.
const PAGE: i32 = 100;

/// What is billed by the hour or by the gigabyte whether it is used or not.
const TYPES: [&str; 9] = [
    "ec2:volume",
    "ec2:snapshot",
    "ec2:elastic-ip",
    "ec2:natgateway",
    "rds:db",
    "rds:cluster",
    "elasticloadbalancing:loadbalancer",
    "elasticache:cluster",
    "redshift:cluster",
];

/// Lists their ARNs, page by page.
pub(crate) async fn list(client: &Client, deadline: Instant) -> Result<Vec<String>, Failure> {
    let tagged = TagFilter::builder().key(TAG_KEY).values(TAG_VALUE).build();
    let types: Vec<String> = TYPES.iter().map(|name| (*name).to_owned()).collect();
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let answer = call::retried(deadline, async || {
            client
                .get_resources()
                .tag_filters(tagged.clone())
                .set_resource_type_filters(Some(types.clone()))
                .resources_per_page(PAGE)
                .set_pagination_token(page.clone())
                .send()
                .await
        })
        .await?;
        let resources = answer.resource_tag_mapping_list().iter();
        found.extend(resources.filter_map(|one| one.resource_arn().map(str::to_owned)));
        // Empty on the last page.
        page = answer.pagination_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            return Ok(found);
        }
    }
}
