//! A provider that refuses amid a run. A real claude lives on, so there is no end of which a reason
//! could be read: the session says itself why nothing happens, and is not started anew.

use anyhow::{Context as _, Result, ensure};
use lab::{Release, scenario, wait};
use serde_json::json;

use crate::container::{Contained, with_agents};
use crate::fleet::Fleet;
use crate::listing::{self, all_that_is_known, listing, text};
use crate::machine::{LONG, Machine};
use crate::provider::Provider;

#[test]
fn a_usage_limit_of_a_living_claude_is_shown_and_costs_no_start() {
    scenario(|| {
        let it = Contained::boot(Release::Trixie, with_agents)?;
        let machine: &dyn Machine = &it.container;
        let provider = Provider::start(&it.switch.host()?)?;
        let mut fleet = Fleet::of(1, 0)?;
        fleet.settle(machine, &provider)?;
        fleet.back(machine)?;
        fleet.tell(machine)?;
        let (name, before) = (fleet.name(0).to_owned(), fleet.pids(machine)?);

        provider.fault(&json!({ "status": 429, "reset": 3600 }))?;
        machine.user(&format!("until guppy send {name} 'go on'; do sleep 1; done"))?.ok()?;
        until(machine, &name, "waiting", "rate_limit")?;
        let refused = machine.user(&format!("guppy send {name} 'go on'"))?;
        ensure!(refused.status != 0 && refused.stderr.contains("rate_limit"), "{refused:?}");
        ensure!(fleet.pids(machine)? == before, "it was started anew");

        // The limit is over, and a person goes on in it.
        provider.fault(&json!({}))?;
        let keys = format!("tmux -N send-keys -t '={name}:'");
        machine.user(&format!("{keys} -l 'what was your word?'"))?.ok()?;
        shows(machine, &name, "what was your word?")?;
        machine.user(&format!("{keys} Enter"))?.ok()?;
        shows(machine, &name, "The word is w0x")?;
        until(machine, &name, "idle", "")?;
        ensure!(fleet.pids(machine)? == before, "it was started anew");
        ensure!(listing::starts(&listing(machine)?, &name) == 1, "it was started anew");
        Ok(())
    });
}

/// Waits until a session is in this state, for a reason with this in it.
fn until(machine: &dyn Machine, name: &str, state: &str, why: &str) -> Result<()> {
    wait::until_true(&format!("{name} to be {state} {why}"), LONG, || {
        let line = listing(machine)?.remove(name).unwrap_or_default();
        Ok(text(&line, "state") == state && text(&line, "why").contains(why))
    })
    .with_context(|| all_that_is_known(machine))
}

fn shows(machine: &dyn Machine, name: &str, shown: &str) -> Result<()> {
    let logs = format!("guppy logs {name}");
    wait::until_true(&format!("{name} to show {shown}"), LONG, || {
        Ok(machine.user(&logs)?.stdout.contains(shown))
    })
    .with_context(|| all_that_is_known(machine))
}
