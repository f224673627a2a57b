//! What is stopped, what is not, and what people are told.

use std::time::Duration;

use anyhow::ensure;
use lab::scenario;
use serde_json::json;

use crate::account::{Account, TAG};
use crate::faults::Poison;
use crate::lambda::Function;

const LONG: Duration = Duration::from_secs(120);
const HERE: [&str; 2] = ["us-east-1", "eu-west-1"];

#[test]
fn over_the_cap_tagged_boxes_stop_and_no_others() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200.00");
        let mut tagged = account.run_tagged("us-east-1", 3)?;
        tagged.extend(account.run("eu-west-1", 2, &[TAG, ("Name", "build box")])?);
        let mut others = account.run("us-east-1", 1, &[])?;
        others.extend(account.run("us-east-1", 1, &[("role", "prod")])?);
        others.extend(account.run("us-east-1", 1, &[("Role", "devorch")])?);
        others.extend(account.run("eu-west-1", 1, &[("role", "devorch-not")])?);
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        ensure!(account.in_state(&HERE, &tagged, "stopped")? == tagged, "some run on: {answer}");
        ensure!(account.in_state(&HERE, &others, "running")? == others, "others were stopped");
        ensure!(answer["stopped"] == 5 && answer["not_stopped"] == 0, "{answer}");
        let published = account.proxy.published();
        let [message] = published.as_slice() else {
            anyhow::bail!("{} messages", published.len());
        };
        ensure!(message.topic == account.report_topic, "told {}", message.topic);
        for id in &tagged {
            ensure!(message.text.contains(id.as_str()), "{id} is not in {}", message.text);
        }
        ensure!(message.text.contains("build box"), "{}", message.text);
        // Calls: the budget, the regions, two lists a region, two stops, a list a region, a message.
        let calls = account.proxy.calls();
        ensure!(calls.len() == 2 + 17 * 2 + 2 + 17 + 1, "{}: {calls:?}", calls.len());
        Ok(())
    });
}

#[test]
fn a_bad_instance_keeps_no_other_running() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200.01");
        let all = account.run_tagged("us-east-1", 40)?;
        let poisons = [
            Poison::Protected,
            Poison::OneTimeSpot,
            Poison::InstanceStore,
            Poison::Retagged,
            Poison::Gone,
            Poison::Ending,
            Poison::Pending(2),
            Poison::Throttled(4),
            Poison::Broken(2),
            Poison::Truncated(1),
            Poison::Unhibernatable,
        ];
        let ill: Vec<_> = all.iter().step_by(3).cloned().zip(poisons).collect();
        account.proxy.faults().instances = ill.iter().cloned().collect();
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let text = &account.proxy.published()[0].text;
        for (id, poison) in &ill {
            let state = &account.states(&["us-east-1"])?[id];
            let (ends, said) = match poison {
                Poison::Protected => ("running", "protected against stopping"),
                Poison::OneTimeSpot => ("running", "one-time request"),
                Poison::InstanceStore => ("running", "instance store"),
                Poison::Retagged => ("running", "UnauthorizedOperation"),
                Poison::Gone | Poison::Ending => ("terminated", ""),
                _ => ("stopped", ""),
            };
            ensure!(state == ends, "{poison:?} is {state}");
            let named = text.lines().any(|line| line.contains(id.as_str()) && line.contains(said));
            ensure!(named, "{poison:?} {id} is not named in {text}");
        }
        let well: Vec<_> =
            all.iter().filter(|id| !ill.iter().any(|(one, _)| one == *id)).cloned().collect();
        ensure!(account.in_state(&["us-east-1"], &well, "stopped")? == well, "{answer}");
        ensure!(answer["not_stopped"] == 4, "{answer}");
        ensure!(answer["stopped"] == 34, "{answer}");
        Ok(())
    });
}

#[test]
fn what_starts_after_the_stop_is_stopped_again_until_the_cap_is_raised() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("250");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        let schedule = json!({ "action": "check", "scheduled": "2026-11-22T10:15:00Z" });
        for _ in 0..2 {
            function.invoke(&schedule, LONG)?.done()?;
            ensure!(account.in_state(&HERE, &ids, "stopped")? == ids, "it runs on");
            account.somebody("StartInstances", "us-east-1", &ids)?;
        }
        // The cap raised, or the month turned: both are what AWS Budgets says then.
        account.spent("199.99");
        function.invoke(&schedule, LONG)?.done()?;
        ensure!(account.in_state(&HERE, &ids, "running")? == ids, "it was stopped below the cap");
        ensure!(account.proxy.published().len() == 2, "{:?}", account.proxy.published());
        Ok(())
    });
}

#[test]
fn what_resists_is_told_with_a_stop_and_then_once_a_utc_day() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("250");
        let ids = account.run_tagged("us-east-1", 2)?;
        account.proxy.faults().instances.insert(ids[0].clone(), Poison::OneTimeSpot);
        let mut function = Function::start(&account)?;
        for (time, messages) in
            [("22T10:15", 1), ("22T10:30", 1), ("23T00:00", 2), ("23T00:15", 2), ("24T00:00", 3)]
        {
            let event = json!({ "action": "check", "scheduled": format!("2026-11-{time}:00Z") });
            function.invoke(&event, LONG)?.done()?;
            let told = account.proxy.published().len();
            ensure!(told == messages, "{told} messages after {time}");
        }
        Ok(())
    });
}

#[test]
fn a_drill_stops_nothing_and_says_what_would_stop() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("12.50");
        let ids = account.run_tagged("eu-west-1", 3)?;
        account.proxy.faults().instances.insert(ids[0].clone(), Poison::Retagged);
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "drill" }), LONG)?.done()?;
        ensure!(account.in_state(&HERE, &ids, "running")? == ids, "a drill stopped something");
        ensure!(answer["stopped"] == 2 && answer["not_stopped"] == 1, "{answer}");
        let text = answer["report"].as_str().unwrap_or_default();
        ensure!(ids.iter().all(|id| text.contains(id.as_str())), "{text}");
        ensure!(text.contains("12.50 USD"), "{text}");
        ensure!(account.proxy.published().is_empty(), "a drill told somebody");
        Ok(())
    });
}
