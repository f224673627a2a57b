//! The customer's networks as subnet routes of this box: an exit node alone carries no private
//! destinations. Done as the caller, by tailscale(1), with what is advertised already; the agent only
//! ever reads there.

use exit_router::config::Config;
use exit_router::prefix::Prefix;
use exit_router::sense::tailscaled;
use tokio::process::Command;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Offered {
    /// What is advertised of the networks in question.
    pub(super) advertised: Vec<String>,
    /// Of these, what was not before, or no longer is.
    pub(super) changed: Vec<String>,
    /// What somebody has to run who may.
    pub(super) command: Option<String>,
}

/// Advertises networks.
pub(super) async fn offer(prefixes: &[String]) -> Offered {
    let wanted: Vec<Prefix> = prefixes.iter().filter_map(|prefix| prefix.parse().ok()).collect();
    change(&wanted, true).await
}

/// Withdraws them.
pub(super) async fn withdraw(prefixes: &[String]) -> Offered {
    let unwanted: Vec<Prefix> = prefixes.iter().filter_map(|prefix| prefix.parse().ok()).collect();
    change(&unwanted, false).await
}

async fn change(prefixes: &[Prefix], add: bool) -> Offered {
    let texts =
        |prefixes: &[Prefix]| -> Vec<String> { prefixes.iter().map(Prefix::to_string).collect() };
    if prefixes.is_empty() {
        return Offered::default();
    }
    let before = match tailscaled::read(&Config::default().tailscaled_socket).await {
        Ok(tailscaled) => tailscaled.advertised,
        Err(why) => {
            let command = format!("tailscale set --advertise-routes={}", texts(prefixes).join(","));
            return Offered { command: Some(format!("{command} ({why})")), ..Offered::default() };
        }
    };
    let (after, changed) = merged(&before, prefixes, add);
    if changed.is_empty() {
        let advertised = if add { texts(prefixes) } else { Vec::new() };
        return Offered { advertised, ..Offered::default() };
    }
    let argument = format!("--advertise-routes={}", texts(&after).join(","));
    let set = Command::new("tailscale").args(["set", &argument]).output().await;
    if set.is_ok_and(|output| output.status.success()) {
        let advertised = if add { texts(prefixes) } else { Vec::new() };
        return Offered { advertised, changed: texts(&changed), command: None };
    }
    Offered { command: Some(format!("sudo tailscale set {argument}")), ..Offered::default() }
}

/// What is to be advertised, without the exit node's own two, which `tailscale set` keeps by itself;
/// and what of `prefixes` that changes.
fn merged(before: &[Prefix], prefixes: &[Prefix], add: bool) -> (Vec<Prefix>, Vec<Prefix>) {
    let mut after: Vec<Prefix> =
        before.iter().copied().filter(|prefix| prefix.length() > 0).collect();
    let changed: Vec<Prefix> =
        prefixes.iter().copied().filter(|prefix| after.contains(prefix) != add).collect();
    if add {
        after.extend(&changed);
    } else {
        after.retain(|prefix| !changed.contains(prefix));
    }
    (after, changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_and_what_was_there_is_not_withdrawn_twice() {
        let prefixes = |texts: &[&str]| -> Vec<Prefix> {
            texts.iter().map(|text| text.parse().expect("a network")).collect()
        };
        let before = prefixes(&["0.0.0.0/0", "::/0", "10.1.0.0/16"]);
        let (after, changed) = merged(&before, &prefixes(&["10.20.0.0/16", "10.1.0.0/16"]), true);
        assert_eq!(after, prefixes(&["10.1.0.0/16", "10.20.0.0/16"]));
        assert_eq!(changed, prefixes(&["10.20.0.0/16"]));
        let (after, changed) = merged(&after, &prefixes(&["10.20.0.0/16"]), false);
        assert_eq!((after, changed), (prefixes(&["10.1.0.0/16"]), prefixes(&["10.20.0.0/16"])));
    }
}
