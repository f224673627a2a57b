//! Regions that are slow, hang, refuse, or page: none keeps the others from stopping.

use std::time::Duration;

use anyhow::ensure;
use lab::scenario;
use serde_json::json;

use crate::account::{Account, REGIONS};
use crate::faults::Region;
use crate::lambda::{Answer, Function};

const LONG: Duration = Duration::from_secs(120);

#[test]
fn a_region_that_hangs_refuses_or_is_slow_keeps_no_other_running() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let well = ["us-east-1", "eu-west-1", "sa-east-1"];
        let ill = ["eu-west-2", "ap-south-1"];
        let mut ids = Vec::new();
        for region in well {
            ids.extend(account.run_tagged(region, 2)?);
        }
        for region in ill {
            account.run_tagged(region, 1)?;
        }
        {
            let regions = &mut account.proxy.faults().regions;
            regions.insert("eu-west-2".into(), Region::Hangs);
            regions.insert("ap-south-1".into(), Region::Refuses);
            regions.insert("sa-east-1".into(), Region::Slow(Duration::from_millis(300)));
        }
        let mut function = Function::start(&account)?;
        // The hanging one would take a minute to be given up: this deadline comes first.
        let answer = function.invoke(&json!({ "action": "check" }), Duration::from_secs(90))?;
        let answer = answer.done()?;
        ensure!(account.in_state(&well, &ids, "stopped")? == ids, "{answer}");
        let published = account.proxy.published();
        ensure!(published.len() == 1, "{} messages", published.len());
        let text = &published[0].text;
        for (region, why) in [("eu-west-2", "time was over"), ("ap-south-1", "AuthFailure")] {
            let said = |line: &str| line.contains(region) && line.contains(why);
            ensure!(text.lines().any(said), "{region} is not named with '{why}' in {text}");
        }
        ensure!(published[0].subject.contains("NOT"), "{}", published[0].subject);
        Ok(())
    });
}

#[test]
fn only_enabled_regions_are_asked() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let mut function = Function::start(&account)?;
        function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let calls = account.proxy.calls();
        let mut asked: Vec<_> = calls
            .iter()
            .filter(|call| call.action == "DescribeInstances")
            .map(|call| call.region.as_str())
            .collect();
        asked.sort_unstable();
        ensure!(asked == REGIONS, "{asked:?}");
        Ok(())
    });
}

#[test]
fn every_page_is_read_and_an_empty_one_is_not_the_last() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let mut ids = Vec::new();
        for _ in 0..7 {
            ids.extend(account.run_tagged("us-east-1", 1)?);
        }
        account.proxy.faults().page = Some(2);
        let mut function = Function::start(&account)?;
        function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        ensure!(account.in_state(&["us-east-1"], &ids, "stopped")? == ids, "a page was not read");
        Ok(())
    });
}

#[test]
fn a_page_that_cannot_be_read_keeps_nothing_running_that_is_known() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let mut ids = Vec::new();
        for _ in 0..5 {
            ids.extend(account.run_tagged("us-east-1", 1)?);
        }
        account.proxy.faults().page = Some(2);
        account.proxy.faults().one_page = true;
        let mut function = Function::start(&account)?;
        let answer = function.invoke(&json!({ "action": "check" }), LONG)?.done()?;
        let stopped = account.in_state(&["us-east-1"], &ids, "stopped")?;
        ensure!(stopped.len() == 2, "{} stopped: {answer}", stopped.len());
        let text = &account.proxy.published()[0].text;
        ensure!(text.contains("us-east-1 the rest of it: its instances could not"), "{text}");
        Ok(())
    });
}

#[test]
fn a_deadline_in_the_past_is_taken_for_the_configured_timeout() {
    scenario(|| {
        let account = Account::new()?;
        account.spent("200");
        let ids = account.run_tagged("us-east-1", 1)?;
        let mut function = Function::start(&account)?;
        // What cargo lambda's stand-in says: ten minutes after 1970 began.
        let deadline = std::time::UNIX_EPOCH + Duration::from_secs(600);
        let event = json!({ "action": "check" }).to_string().into_bytes();
        let id = function.send_bytes(event, deadline)?;
        let answer = function.answer(&id, LONG)?;
        ensure!(matches!(answer, Answer::Done(_)), "{answer:?}");
        ensure!(account.in_state(&["us-east-1"], &ids, "stopped")? == ids, "it runs on");
        Ok(())
    });
}
