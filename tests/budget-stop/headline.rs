//! The whole account at once: 1,200 tagged instances over 17 regions, a tenth of them ill in every way
//! that is known, and 300 that nobody may touch.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::{scenario, wait};
use serde_json::json;

use crate::account::{Account, REGIONS, TAG};
use crate::doorbells::record;
use crate::faults::Poison;
use crate::lambda::{Answer, Function};

/// Lambda's own limit for this function: its timeout.
const TIMEOUT: Duration = Duration::from_secs(300);

const TAGGED: u32 = 1200;
const ILL: usize = 120;

/// Every way, but protection lifted, which is a setting. Each comes some ten times.
const POISONS: [Poison; 12] = [
    Poison::Protected,
    Poison::OneTimeSpot,
    Poison::InstanceStore,
    Poison::Gone,
    Poison::Ending,
    Poison::Pending(1),
    Poison::Pending(2),
    Poison::Retagged,
    Poison::Throttled(1),
    Poison::Broken(1),
    Poison::Truncated(1),
    Poison::Unhibernatable,
];

struct Headline {
    account: Account,
    tagged: Vec<String>,
    ill: Vec<(String, Poison)>,
    /// Those that run, and those that were stopped before.
    decoys: Vec<String>,
    stopped_before: Vec<String>,
}

fn people() -> Result<Headline> {
    let account = Account::new()?;
    account.spent("200.00");
    let (mut tagged, mut decoys, mut stopped_before) = (Vec::new(), Vec::new(), Vec::new());
    let most = |number: usize, all: u32| {
        // As even as it goes.
        let (each, rest) = (all / 17, all as usize % 17);
        each + u32::from(number < rest)
    };
    for (number, region) in REGIONS.iter().enumerate() {
        tagged.extend(account.run_tagged(region, most(number, TAGGED))?);
        let kinds: [&[(&str, &str)]; 4] =
            [&[], &[("role", "prod")], &[("Role", "devorch")], &[TAG]];
        for (kind, tags) in kinds.iter().enumerate() {
            let ids = account.run(region, most((number + kind * 4) % 17, 75), tags)?;
            if kind == 3 {
                account.somebody("StopInstances", region, &ids)?;
                stopped_before.extend(ids);
            } else {
                decoys.extend(ids);
            }
        }
    }
    ensure!(tagged.len() == TAGGED as usize && decoys.len() + stopped_before.len() == 300);
    let ill = tagged.iter().step_by(TAGGED as usize / ILL).cloned();
    let ill: Vec<_> = ill.zip(POISONS.into_iter().cycle()).collect();
    account.proxy.faults().instances = ill.iter().cloned().collect();
    account.proxy.faults().page = Some(3);
    Ok(Headline { account, tagged, ill, decoys, stopped_before })
}

impl Headline {
    /// The end, which is always the same: what can be stopped is, what cannot runs, no decoy changed.
    fn check_the_end(&self) -> Result<()> {
        let states = self.account.states(&REGIONS)?;
        let ill = |id: &String| self.ill.iter().find(|(one, _)| one == id).map(|(_, why)| *why);
        for id in &self.tagged {
            let right = match ill(id) {
                Some(
                    Poison::Protected
                    | Poison::OneTimeSpot
                    | Poison::InstanceStore
                    | Poison::Retagged,
                ) => "running",
                Some(Poison::Gone | Poison::Ending) => "terminated",
                _ => "stopped",
            };
            ensure!(states[id] == right, "{id} ({:?}) is {}, not {right}", ill(id), states[id]);
        }
        for id in &self.decoys {
            ensure!(states[id] == "running", "decoy {id} is {}", states[id]);
        }
        // The calls themselves: whoever is stopped already is not stopped again.
        let meant: BTreeSet<&String> = self.tagged.iter().collect();
        for call in self.account.proxy.calls() {
            if call.action == "StopInstances" {
                let stray = call.ids.iter().find(|id| !meant.contains(id));
                ensure!(stray.is_none(), "{stray:?} was in a call");
            }
            let harmless = [
                "DescribeBudget",
                "DescribeRegions",
                "DescribeInstances",
                "DescribeAutoScalingGroups",
                "StopInstances",
                "GetResources",
                "Publish",
            ];
            ensure!(harmless.contains(&call.action.as_str()), "{call:?}");
        }
        for id in &self.stopped_before {
            ensure!(states[id] == "stopped", "{id} is {}", states[id]);
        }
        Ok(())
    }
}

#[test]
fn twelve_hundred_boxes_in_seventeen_regions() {
    scenario(|| {
        let headline = people()?;
        let Headline { account, ill, .. } = &headline;
        let event = json!({ "Records": [record(&account.budget_topic, "over")] });
        let mut one = Function::start(account)?;

        // Killed in the middle: what it had stopped stays stopped, the rest is the next one's.
        let id = one.send(&event, TIMEOUT)?;
        wait::until_true("ten calls that stop", TIMEOUT, || {
            Ok(account.proxy.count("StopInstances") >= 10)
        })?;
        one.kill()?;
        ensure!(one.answer(&id, TIMEOUT)? == Answer::Dead, "it ended before it was killed");
        ensure!(account.proxy.published().is_empty(), "it was killed after its report");

        // Delivered again, and twice at once.
        let (mut two, mut three) = (Function::start(account)?, Function::start(account)?);
        let (second, third) = (two.send(&event, TIMEOUT)?, three.send(&event, TIMEOUT)?);
        let answers =
            [two.answer(&second, TIMEOUT)?.done()?, three.answer(&third, TIMEOUT)?.done()?];
        headline.check_the_end()?;

        // One of the two names each failure; what was stopped is told once.
        let published = account.proxy.published();
        ensure!((1..=2).contains(&published.len()), "{} messages", published.len());
        let told: Vec<&str> = published.iter().map(|message| message.text.as_str()).collect();
        for (id, poison) in ill {
            let named = told.iter().any(|text| text.contains(id.as_str()));
            let stopped_by_the_first = !matches!(
                poison,
                Poison::Protected | Poison::OneTimeSpot | Poison::InstanceStore | Poison::Retagged
            );
            ensure!(named || stopped_by_the_first, "{poison:?} {id} is in no message");
        }

        // Three times over: nothing more happens, and nobody is told again.
        for _ in 0..3 {
            let answer = two.invoke(&event, TIMEOUT)?.done()?;
            ensure!(answer["stopped"] == 0, "{answer}");
        }
        headline.check_the_end()?;
        ensure!(account.proxy.published().len() == published.len(), "told again");
        let calls = account.proxy.calls().len();
        lab::say(format_args!(
            "headline: {calls} calls, {:?}",
            answers.map(|one| one["stopped"].clone())
        ));
        Ok(())
    });
}

#[test]
fn one_run_over_all_of_it_tells_of_each_failure_in_one_message() {
    scenario(|| {
        let headline = people()?;
        let Headline { account, ill, tagged, .. } = &headline;
        let event = json!({ "Records": [record(&account.budget_topic, "over")] });
        let mut function = Function::start(account)?;
        let answer = function.invoke(&event, TIMEOUT)?.done()?;
        headline.check_the_end()?;
        // The function has 128 MB, a part of which is Lambda's.
        let peak = function.peak_kb()?;
        ensure!(peak < 64 * 1024, "{peak} kB");
        let published = account.proxy.published();
        ensure!(published.len() == 1, "{} messages", published.len());
        let text = &published.first().context("no message")?.text;
        for id in tagged {
            ensure!(text.contains(id.as_str()), "{id} is not in the message");
        }
        for (id, poison) in ill {
            let said = match poison {
                Poison::Protected => "DisableApiStop",
                Poison::OneTimeSpot => "one-time",
                Poison::InstanceStore => "instance store",
                Poison::Retagged => "UnauthorizedOperation",
                _ => continue,
            };
            let line = text.lines().find(|line| line.contains(id.as_str()) && line.contains(said));
            ensure!(line.is_some(), "{poison:?} {id} is not named with '{said}'");
        }
        lab::say(format_args!(
            "headline: {} calls for {} stopped, {} not",
            account.proxy.calls().len(),
            answer["stopped"],
            answer["not_stopped"]
        ));
        Ok(())
    });
}
