//! Sends the report.
//! <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>

use std::time::Duration;

use anyhow::{Result, anyhow};
use tokio::time::Instant;

use crate::call;
use crate::clients::Clients;
use crate::decide::failure::Kind;

/// The longest pause before it is tried once more.
const AGAIN_AT_MOST: Duration = Duration::from_secs(8);

/// Publishes to `topic`, if that takes until the deadline: the next run finds everything stopped, and
/// has nothing to tell. Fails with the whole text, so that whoever hears of the failure has it.
pub(crate) async fn publish(
    clients: &Clients,
    topic: &str,
    subject: &str,
    text: &str,
    deadline: Instant,
) -> Result<()> {
    let client = clients.sns();
    loop {
        let sent = call::retried(deadline, async || {
            client.publish().topic_arn(topic).subject(subject).message(text).send().await
        });
        let Err(failure) = sent.await else { return Ok(()) };
        let is_final = matches!(failure.kind, Kind::Refused | Kind::OutOfTime);
        if is_final || !call::pause(deadline, AGAIN_AT_MOST).await {
            return Err(anyhow!("the report could not be sent to {topic}: {failure}\n\n{text}"));
        }
    }
}
