//! One invocation, from the event to the answer.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use futures_util::future::join_all;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::Instant;
use tracing::info;

pub use crate::clients::Clients;

use crate::act::publish::publish;
use crate::config::Config;
use crate::decide::budget::Budget;
use crate::decide::deadline::divide;
use crate::decide::is_worth_a_message;
use crate::decide::stop::Rules;
use crate::event::{Ask, Doorbell, read};
use crate::outcome::RegionOutcome;
use crate::report::Report;
use crate::{region, sense};

/// What an invocation answers to whoever waits for it: the recipes, a person.
#[derive(Debug, Serialize)]
struct Answer {
    /// Null: a new budget has none yet.
    spend: Option<f64>,
    cap: f64,
    unit: String,
    /// Null where there is no cost.
    reached: Option<bool>,
    stopped: usize,
    not_stopped: usize,
    regions: usize,
    told: bool,
    report: String,
}

/// Deals with an event. `deadline` is Lambda's, a time since the epoch.
///
/// Fails if AWS Budgets gives no answer, if the regions cannot be listed, or if the report cannot be
/// sent: then Lambda tries again, and at last tells the failure destination.
pub async fn handle(
    clients: &Clients,
    config: &Config,
    event: &Value,
    deadline: SystemTime,
) -> Result<Value> {
    let ask = read(event, &config.budget_topic)?;
    if ask == Ask::Nothing {
        return Ok(json!({ "ignored": "a message of another topic" }));
    }
    let since_epoch = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = divide(since_epoch(SystemTime::now()), since_epoch(deadline), config.timeout);
    let now = Instant::now();
    let run = Run { clients, config, work: now + time.work, all: now + time.all };
    let budget = sense::budget::read(clients, config, run.work).await?;
    let answer = match ask {
        // What would be stopped does not depend on the cost.
        Ask::Drill => run.drill(&budget).await?,
        Ask::Check { from } if budget.is_reached()? => run.stop(&budget, from).await?,
        _ => answer(&budget, &[], false, String::new())?,
    };
    if let Ask::Check { from: Doorbell::Schedule { .. } } = ask {
        // An alarm of template.yaml counts these lines.
        info!("scheduled check done: {budget}");
    }
    Ok(serde_json::to_value(answer)?)
}

struct Run<'a> {
    clients: &'a Clients,
    config: &'a Config,
    /// When regions are no longer worked on.
    work: Instant,
    /// When everything must be over.
    all: Instant,
}

impl Run<'_> {
    async fn drill(&self, budget: &Budget) -> Result<Answer> {
        let mut regions = self.regions(true).await?;
        self.list_costs(&mut regions).await;
        let report = Report { config: self.config, budget, drill: true, regions: &regions };
        answer(budget, &regions, false, said(&report))
    }

    async fn stop(&self, budget: &Budget, from: Doorbell) -> Result<Answer> {
        info!("{budget}: stopping what is tagged");
        let mut regions = self.regions(false).await?;
        let told = is_worth_a_message(from, &regions);
        if told {
            self.list_costs(&mut regions).await;
        }
        let report = Report { config: self.config, budget, drill: false, regions: &regions };
        if !told {
            return answer(budget, &regions, false, report.text());
        }
        let (subject, text) = (report.subject(), said(&report));
        publish(self.clients, &self.config.report_topic, &subject, &text, self.all).await?;
        answer(budget, &regions, true, text)
    }

    async fn regions(&self, drill: bool) -> Result<Vec<RegionOutcome>> {
        let rules = Rules { drill, override_stop_protection: self.config.override_stop_protection };
        let names = sense::regions::list(self.clients, self.work)
            .await
            .map_err(|failure| anyhow!("the regions cannot be listed: {failure}"))?;
        let all = names.iter().map(|name| region::stop_all(self.clients, name, rules, self.work));
        Ok(join_all(all).await)
    }

    /// Only for a report, and in its time: nothing is kept running for it.
    async fn list_costs(&self, regions: &mut [RegionOutcome]) {
        // Publishing comes after it.
        let until = Instant::now() + (self.all - Instant::now()) / 2;
        join_all(regions.iter_mut().map(async |outcome| {
            let client = self.clients.tagging(&outcome.region);
            match sense::costs::list(&client, until).await {
                Ok(arns) => outcome.costs = arns,
                Err(failure) => outcome.costs_unknown = Some(failure.to_string()),
            }
        }))
        .await;
    }
}

/// The report's text; what is cut off from it is in the log.
fn said(report: &Report<'_>) -> String {
    let (text, whole) = (report.text(), report.whole());
    if text != whole {
        for line in whole.lines() {
            info!("{line}");
        }
    }
    text
}

fn answer(
    budget: &Budget,
    regions: &[RegionOutcome],
    told: bool,
    report: String,
) -> Result<Answer> {
    Ok(Answer {
        spend: budget.spend.as_ref().map(|spend| spend.value),
        cap: budget.cap.value,
        unit: budget.cap.unit.clone(),
        reached: budget.spend.as_ref().map(|_| budget.is_reached()).transpose()?,
        stopped: regions.iter().map(|region| region.stopped.len()).sum(),
        not_stopped: regions.iter().map(|region| region.left.len()).sum(),
        regions: regions.len(),
        told,
        report,
    })
}
