//! Events are doorbells: AWS Budgets alone decides.

use std::time::Duration;

use anyhow::ensure;
use lab::scenario;
use serde_json::{Value, json};

use crate::account::Account;
use crate::lambda::{Answer, Function};

const LONG: Duration = Duration::from_secs(120);

/// A message as SNS hands it to Lambda.
/// <https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html>
pub(crate) fn record(topic: &str, message: &str) -> Value {
    json!({
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": format!("{topic}:21be56ed-a058-49f5-8c98-aedd2564c486"),
        "Sns": {
            "Type": "Notification",
            "MessageId": "95df01b4-ee98-5cb9-9903-4c221d41eb5e",
            "TopicArn": topic,
            "Subject": "AWS Budgets: guppy has exceeded your alert threshold",
            "Message": message,
            "Timestamp": "2026-11-22T14:00:00.000Z",
            "SignatureVersion": "1",
            "Signature": "EXAMPLE",
            "SigningCertUrl": "EXAMPLE",
            "UnsubscribeUrl": "EXAMPLE",
            "MessageAttributes": {}
        }
    })
}

/// Messages of the right topic, whatever they say.
fn messages(topic: &str) -> Vec<(&'static str, Value)> {
    let one = |message: &str| json!({ "Records": [record(topic, message)] });
    let ten: Vec<Value> = (0..10).map(|_| record(topic, "over")).collect();
    vec![
        (
            "actual",
            one("You requested that we alert you when the ACTUAL Cost is more than $200.00"),
        ),
        ("forecast", one("ALERT TYPE: FORECASTED; Alert threshold: > $200.00; forecast $900.00")),
        ("forged", one("{\"action\":\"stop\",\"dry_run\":false,\"spend\":999999}")),
        ("malformed", one("{\"Records\": [")),
        ("empty", one("")),
        ("1 MB", one(&"over ".repeat(1 << 18))),
        ("batch of ten", json!({ "Records": ten })),
    ]
}

#[test]
fn no_message_stops_anything_below_the_cap() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("199.99");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        for (name, event) in messages(&account.budget_topic) {
            let answer = function.invoke(&event, LONG)?.done()?;
            ensure!(answer["reached"] == false, "{name}: {answer}");
        }
        ensure!(account.in_state(&["us-east-1"], &ids, "running")? == ids, "it was stopped");
        ensure!(account.proxy.count("DescribeBudget") == 7, "not each message made it ask");
        ensure!(account.proxy.count("DescribeInstances") == 0, "it looked below the cap");
        Ok(())
    });
}

#[test]
fn every_message_stops_everything_over_the_cap() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        for (name, event) in messages(&account.budget_topic) {
            account.somebody("StartInstances", "us-east-1", &ids)?;
            function.invoke(&event, LONG)?.done()?;
            let stopped = account.in_state(&["us-east-1"], &ids, "stopped")?;
            ensure!(stopped == ids, "{name}: it runs on");
        }
        Ok(())
    });
}

#[test]
fn another_topic_and_no_message_at_all_make_it_ask_nobody() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("900");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        for topic in [&account.report_topic, &account.budget_topic.to_uppercase()] {
            let event = json!({ "Records": [record(topic, "over")] });
            function.invoke(&event, LONG)?.done()?;
        }
        for event in [json!({}), json!(null), json!({ "action": "stop" }), json!([1])] {
            let answer = function.invoke(&event, LONG)?;
            let refused =
                matches!(&answer, Answer::Failed(why) if why.contains("no event of mine"));
            ensure!(refused, "{event}: {answer:?}");
        }
        ensure!(account.proxy.calls().is_empty(), "{:?}", account.proxy.calls());
        ensure!(account.in_state(&["us-east-1"], &ids, "running")? == ids, "it was stopped");
        Ok(())
    });
}

#[test]
fn status_says_cost_and_cap_and_touches_nothing() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("203.5");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "status" }), LONG)?.done()?;
        let said = (&answer["spend"], &answer["cap"], &answer["reached"]);
        ensure!(said == (&json!(203.5), &json!(200.0), &json!(true)), "{answer}");
        ensure!(account.in_state(&["us-east-1"], &ids, "running")? == ids, "it was stopped");
        Ok(())
    });
}

#[test]
fn no_answer_of_aws_budgets_stops_nothing_and_is_heard_of() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("900");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        let event = json!({ "Records": [record(&account.budget_topic, "over")] });
        let schedule = json!({ "action": "check", "scheduled": "2026-11-22T10:15:00Z" });
        account.proxy.faults().broken_services.insert("budgets");
        let answers = function.deliver(&event, LONG)?;
        let failed = |answer: &Answer| matches!(answer, Answer::Failed(why) if why.contains("AWS Budgets does not say"));
        ensure!(answers.len() == 3 && answers.iter().all(failed), "{answers:?}");
        account.proxy.faults().broken_services.clear();
        // An answer that says no number, or another currency, is none.
        for (amount, unit) in [("NaN", "USD"), ("", "USD"), ("900", "EUR")] {
            account.proxy.faults().spend = Some((amount.into(), unit.into()));
            let answer = function.invoke(&schedule, LONG)?;
            ensure!(matches!(answer, Answer::Failed(_)), "{amount} {unit}: {answer:?}");
        }
        ensure!(account.in_state(&["us-east-1"], &ids, "running")? == ids, "it was stopped");
        // The third alarm counts these lines.
        ensure!(!function.log()?.contains("scheduled check done"), "{}", function.log()?);
        account.spent("900");
        function.invoke(&schedule, LONG)?.done()?;
        ensure!(function.log()?.contains("scheduled check done"), "{}", function.log()?);
        Ok(())
    });
}

#[test]
fn a_new_budget_has_no_cost_yet_and_a_drill_needs_none() {
    scenario(|| {
        let account = Account::new()?;
        account.proxy.faults().no_cost = true;
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        let drill = function.invoke(&json!({ "action": "drill" }), LONG)?.done()?;
        let report = drill["report"].as_str().unwrap_or_default();
        ensure!(report.contains("The month's cost is not known yet"), "{report}");
        ensure!(report.contains(&ids[0]), "{report}");
        let status = function.invoke(&json!({ "action": "status" }), LONG)?.done()?;
        ensure!(status["spend"].is_null() && status["reached"].is_null(), "{status}");
        let check = function.invoke(&json!({ "action": "check" }), LONG)?;
        let failed =
            |answer: &Answer| matches!(answer, Answer::Failed(why) if why.contains("no cost"));
        ensure!(failed(&check), "{check:?}");
        ensure!(account.in_state(&["us-east-1"], &ids, "running")? == ids, "it was stopped");
        Ok(())
    });
}
