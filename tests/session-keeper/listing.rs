//! What a box says of its sessions.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::Value;

use crate::machine::{LONG, Machine};

/// The lines of `guppy ls`, by session.
pub(crate) fn listing(machine: &dyn Machine) -> Result<BTreeMap<String, Value>> {
    let said = machine.user("guppy ls --json")?;
    let listing: Value = serde_json::from_str(&said.stdout).unwrap_or_default();
    let lines = listing.get("sessions").and_then(Value::as_array).into_iter().flatten();
    Ok(lines.map(|line| (text(line, "name"), line.clone())).collect())
}

/// What `guppy ls` says of a session; empty where it says nothing.
pub(crate) fn state(lines: &BTreeMap<String, Value>, name: &str) -> String {
    lines.get(name).map(|line| text(line, "state")).unwrap_or_default()
}

/// The starts that it has had.
pub(crate) fn starts(lines: &BTreeMap<String, Value>, name: &str) -> u64 {
    lines.get(name).and_then(|line| line.get("starts")?.as_u64()).unwrap_or_default()
}

/// A word of an object; empty where it is none.
pub(crate) fn text(value: &Value, name: &str) -> String {
    value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// For a person who has to understand a failure: the sessions, what each agent shows last, and the
/// journal.
pub(crate) fn all_that_is_known(machine: &dyn Machine) -> String {
    let names: Vec<String> =
        listing(machine).map(|lines| lines.into_keys().collect()).unwrap_or_default();
    let screens: String = names
        .iter()
        .map(|name| format!("echo '== {name}'; guppy logs {name} | grep . | tail -n 12\n"))
        .collect();
    let shown = machine.user(&format!("guppy ls\n{screens}")).map(|said| said.stdout);
    let journal =
        "uptime; journalctl --boot --no-pager -o short-monotonic -u 'guppy*' | tail -n 60";
    let told = machine.sh_within(LONG, journal).map(|said| said.stdout);
    [shown, told].map(Result::unwrap_or_default).join("\n")
}
