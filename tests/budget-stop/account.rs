//! An AWS account to be stopped: what is in it, and what became of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, Result, ensure};
use lab::ledger;
use serde_json::json;

use crate::moto::Moto;
use crate::proxy::Proxy;

/// The budget's name and cap, in USD.
pub(crate) const BUDGET: &str = "guppy";
pub(crate) const CAP: u32 = 200;

/// The regions that every account has, without an opt-in.
/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-regions-availability-zones.html>
pub(crate) const REGIONS: [&str; 17] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// The tag that is selected by.
pub(crate) const TAG: (&str, &str) = ("role", "devorch");

/// An account, its budget, and the proxy in front of it.
pub(crate) struct Account {
    pub(crate) moto: Moto,
    pub(crate) proxy: Proxy,
    /// A folder of the test's own.
    pub(crate) place: PathBuf,
    pub(crate) budget_topic: String,
    pub(crate) report_topic: String,
}

impl Account {
    /// One with nothing in it but a budget of [`CAP`] and two topics.
    pub(crate) fn new() -> Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(100_000_000_000);
        let moto = Moto::new(NUMBER.fetch_add(1, Ordering::Relaxed).to_string())?;
        let proxy = Proxy::start(&moto)?;
        let (place, _) = ledger::place("gb")?;
        let limit = json!({ "Amount": CAP.to_string(), "Unit": "USD" });
        let budget = json!({ "BudgetName": BUDGET, "BudgetLimit": limit, "TimeUnit": "MONTHLY", "BudgetType": "COST" });
        let create = json!({ "AccountId": moto.account, "Budget": budget });
        moto.json("budgets", "AWSBudgetServiceGateway.CreateBudget", &create)?;
        let topic = |name: &str| {
            let reply =
                moto.query("sns", "us-east-1", &[("Action", "CreateTopic"), ("Name", name)])?;
            let arn = between(&reply, "<TopicArn>", "</TopicArn>").context("no topic")?;
            Ok::<_, anyhow::Error>(arn.to_owned())
        };
        let (budget_topic, report_topic) = (topic("guppy-budget")?, topic("guppy-report")?);
        Ok(Self { moto, proxy, place, budget_topic, report_topic })
    }

    /// The month's cost from now on, in USD.
    pub(crate) fn spent(&self, dollars: &str) {
        self.proxy.faults().spend = Some((dollars.into(), "USD".into()));
    }

    /// The function's environment: the template's, and Lambda's own.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let pairs = [
            ("GUPPY_ACCOUNT", self.moto.account.as_str()),
            ("GUPPY_BUDGET", BUDGET),
            ("GUPPY_BUDGET_TOPIC", &self.budget_topic),
            ("GUPPY_REPORT_TOPIC", &self.report_topic),
            ("GUPPY_OVERRIDE_STOP_PROTECTION", "false"),
            ("GUPPY_TIMEOUT_SECONDS", "300"),
            ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
            ("AWS_SECRET_ACCESS_KEY", "secret"),
            ("AWS_SESSION_TOKEN", "token"),
            ("AWS_REGION", "us-east-1"),
            // The same for older SDKs: Lambda sets both.
            ("AWS_DEFAULT_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &self.proxy.url),
            // The bench's peer is in the checkout.
            ("PYTHONDONTWRITEBYTECODE", "1"),
        ];
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// Starts instances with these tags, in one reservation; gives their ids.
    pub(crate) fn run(
        &self,
        region: &str,
        count: u32,
        tags: &[(&str, &str)],
    ) -> Result<Vec<String>> {
        let (count, mut form) = (count.to_string(), Vec::new());
        form.extend([("Action", "RunInstances"), ("ImageId", "ami-12c6146b")].map(owned));
        form.extend([("MinCount", count.as_str()), ("MaxCount", &count)].map(owned));
        if !tags.is_empty() {
            form.push(owned(("TagSpecification.1.ResourceType", "instance")));
        }
        for (number, (key, value)) in tags.iter().enumerate() {
            let tag = format!("TagSpecification.1.Tag.{}", number + 1);
            form.push((format!("{tag}.Key"), (*key).to_owned()));
            form.push((format!("{tag}.Value"), (*value).to_owned()));
        }
        let form: Vec<(&str, &str)> =
            form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = self.moto.query("ec2", region, &form)?;
        let ids: Vec<String> = all_between(&reply, "<instanceId>", "</instanceId>");
        ensure!(ids.len().to_string() == count, "moto started {} of {count}", ids.len());
        Ok(ids)
    }

    /// Starts instances that are to be stopped.
    pub(crate) fn run_tagged(&self, region: &str, count: u32) -> Result<Vec<String>> {
        self.run(region, count, &[TAG])
    }

    /// An action of EC2 about instances, past the proxy: what somebody else does.
    pub(crate) fn somebody(&self, action: &str, region: &str, ids: &[String]) -> Result<()> {
        let names: Vec<String> = (1..=ids.len()).map(|each| format!("InstanceId.{each}")).collect();
        let mut form = vec![("Action", action)];
        form.extend(names.iter().zip(ids).map(|(name, id)| (name.as_str(), id.as_str())));
        self.moto.query("ec2", region, &form)?;
        Ok(())
    }

    /// The state of every instance of some regions, by id, past the proxy.
    pub(crate) fn states(&self, regions: &[&str]) -> Result<BTreeMap<String, String>> {
        let mut states = BTreeMap::new();
        for region in regions {
            let form = [("Action", "DescribeInstances"), ("MaxResults", "1000")];
            let reply = self.moto.query("ec2", region, &form)?;
            ensure!(!reply.contains("<nextToken>"), "more than a page of instances in {region}");
            // The state comes after the id in moto's answers.
            for rest in reply.split("<instanceId>").skip(1) {
                let id = rest.split('<').next().unwrap_or_default();
                let Some(state) = between(rest, "<instanceState>", "</instanceState>") else {
                    continue;
                };
                let name = between(state, "<name>", "</name>").context("a state without a name")?;
                states.insert(id.to_owned(), name.to_owned());
            }
        }
        Ok(states)
    }

    /// Which of these are in a state.
    pub(crate) fn in_state(
        &self,
        regions: &[&str],
        ids: &[String],
        state: &str,
    ) -> Result<Vec<String>> {
        let states = self.states(regions)?;
        let found = ids.iter().filter(|id| states.get(*id).is_some_and(|one| one == state));
        Ok(found.cloned().collect())
    }
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// The text between two marks.
pub(crate) fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(found, _)| found)
}

/// Every text between two marks.
pub(crate) fn all_between(text: &str, start: &str, end: &str) -> Vec<String> {
    let rest = text.split(start).skip(1);
    rest.filter_map(|rest| rest.split_once(end)).map(|(found, _)| found.to_owned()).collect()
}
