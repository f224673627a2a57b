//! What AWS Budgets says of the month.
//! <https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_budgets_DescribeBudget.html>

use anyhow::{Context as _, Result, anyhow};
use aws_sdk_budgets::types::Spend;
use tokio::time::Instant;

use crate::call;
use crate::clients::Clients;
use crate::config::Config;
use crate::decide::budget::{Amount, Budget};

/// Asks. Fails if there is no answer, or one without a cap.
pub(crate) async fn read(clients: &Clients, config: &Config, deadline: Instant) -> Result<Budget> {
    let client = clients.budgets();
    let (account, name) = (&config.account, &config.budget);
    let answer = call::retried(deadline, async || {
        client.describe_budget().account_id(account).budget_name(name).send().await
    })
    .await
    .map_err(|failure| anyhow!("AWS Budgets does not say what {name} is at: {failure}"))?;
    let budget = answer.budget().with_context(|| format!("AWS Budgets has no {name}"))?;
    let spend = budget.calculated_spend().and_then(|spend| spend.actual_spend());
    Ok(Budget {
        spend: spend.map(amount).transpose()?,
        cap: amount(budget.budget_limit().with_context(|| format!("{name} has no limit"))?)?,
    })
}

fn amount(spend: &Spend) -> Result<Amount> {
    Amount::read(spend.amount(), spend.unit())
}
