//! The instances of a region that carry the tag and are not stopped.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html>

use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{DeviceType, Filter, InstanceLifecycleType, InstanceStateName, Tag};
use tokio::time::Instant;

use crate::call;
use crate::decide::failure::Failure;
use crate::decide::stop::Instance;
use crate::{TAG_KEY, TAG_VALUE};

/// AWS's most for one page.
const PAGE: i32 = 1000;

/// What a listing has found.
pub(crate) struct Listed {
    pub(crate) found: Vec<Instance>,
    /// Why that may not be all: a page could not be read.
    pub(crate) failure: Option<Failure>,
}

/// Lists them, page by page. What is known when a page fails is to be stopped all the same.
pub(crate) async fn list(client: &Client, deadline: Instant) -> Listed {
    let filter = |name: &str, values: &[&str]| {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Filter::builder().name(name).set_values(Some(values)).build()
    };
    let tagged = filter(&format!("tag:{TAG_KEY}"), &[TAG_VALUE]);
    let running = filter("instance-state-name", &["pending", "running"]);
    let mut found = Vec::new();
    let mut page: Option<String> = None;
    loop {
        let answer = call::retried(deadline, async || {
            client
                .describe_instances()
                .filters(tagged.clone())
                .filters(running.clone())
                .max_results(PAGE)
                .set_next_token(page.clone())
                .send()
                .await
        })
        .await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(failure) => return Listed { found, failure: Some(failure) },
        };
        let instances = answer.reservations().iter().flat_map(|some| some.instances());
        found.extend(instances.filter_map(read));
        page = answer.next_token().filter(|token| !token.is_empty()).map(str::to_owned);
        if page.is_none() {
            return Listed { found, failure: None };
        }
    }
}

/// What matters of one. The tag is looked at again: nothing is stopped that does not carry it.
fn read(instance: &aws_sdk_ec2::types::Instance) -> Option<Instance> {
    let tag =
        |key: &str| instance.tags().iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value);
    if tag(TAG_KEY) != Some(TAG_VALUE) {
        return None;
    }
    let state = instance.state().and_then(|state| state.name());
    Some(Instance {
        id: instance.instance_id()?.to_owned(),
        name: tag("Name").map(str::to_owned),
        pending: state == Some(&InstanceStateName::Pending),
        spot: instance.instance_lifecycle() == Some(&InstanceLifecycleType::Spot),
        instance_store: instance.root_device_type() == Some(&DeviceType::InstanceStore),
        hibernates: instance
            .hibernation_options()
            .is_some_and(|options| options.configured() == Some(true)),
        group: tag("aws:autoscaling:groupName").map(str::to_owned),
    })
}
