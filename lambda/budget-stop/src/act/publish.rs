//! Sends the report.
//! <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>

use anyhow::{Result, anyhow};
use tokio::time::Instant;

use crate::call;
use crate::clients::Clients;
use crate::report::Report;

/// Publishes to `topic`. Fails with the whole text, so that whoever hears of the failure has it.
pub(crate) async fn publish(
    clients: &Clients,
    topic: &str,
    report: &Report<'_>,
    deadline: Instant,
) -> Result<()> {
    let (client, subject, text) = (clients.sns(), report.subject(), report.text());
    let sent = call::retried(deadline, async || {
        client.publish().topic_arn(topic).subject(&subject).message(&text).send().await
    });
    match sent.await {
        Ok(_) => Ok(()),
        Err(failure) => {
            Err(anyhow!("the report could not be sent to {topic}: {failure}\n\n{text}"))
        }
    }
}
