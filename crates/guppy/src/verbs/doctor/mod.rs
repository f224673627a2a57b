//! `guppy doctor`: is this box set up so that its agents can do what they are for? Each finding says
//! what was found, and where it is not good, what to do.

use std::path::Path;

use serde::Serialize;

use crate::agent::IDLE_STOPPER;
use crate::bus::Bus;
use crate::keeper;
use crate::report::{Code, Failure, Report};
use crate::table::{columns, printable};

mod agent;
mod exit_router;
mod machine;
mod session_keeper;
mod sshd;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// It works, but not as well, or not as somebody may expect.
    Warn,
    /// An agent will not do what it is for: the box will not stop, or nothing is resumed.
    Bad,
    /// Nothing on this box can tell.
    Unseen,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do; null where there is nothing to do.
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn warn(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn bad(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Bad, found: found.into(), remedy: Some(remedy.into()) }
    }

    fn unseen(check: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Unseen, found: found.into(), remedy: Some(remedy.into()) }
    }
}

#[derive(Serialize)]
struct Findings {
    /// Whether nothing is bad.
    healthy: bool,
    checks: Vec<Finding>,
}

/// Runs the verb. Whatever cannot be asked is a finding, so this always ends with a report.
///
/// # Errors
/// None but a report that cannot be written as JSON.
pub async fn run(socket: Option<&Path>) -> Result<Report, Failure> {
    let bus = Bus::connect().await;
    let mut checks = Vec::new();
    // A control plane shall not stop itself, so there is nothing wrong with it when it cannot.
    let stops = socket.is_some() || IDLE_STOPPER.is_installed() || !keeper::is_installed();
    if stops {
        checks.extend(agent::look(&bus, socket).await);
    }
    checks.extend(session_keeper::look(&bus).await);
    checks.extend(exit_router::look(&bus).await);
    checks.extend(machine::look(&bus).await);
    if stops {
        checks.push(sshd::look());
        checks.push(Finding::unseen(
            "launch template",
            "cannot be seen from here",
            "make sure that InstanceInitiatedShutdownBehavior is \"stop\": with \"terminate\" a \
             power-off deletes the instance",
        ));
    }

    let healthy = checks.iter().all(|finding| finding.verdict != Verdict::Bad);
    let mut report = Report::new(text(&checks), &Findings { healthy, checks })?;
    if !healthy {
        report.code = Code::Failed;
    }
    Ok(report)
}

fn text(checks: &[Finding]) -> String {
    let mut rows = Vec::new();
    for finding in checks {
        let verdict = match finding.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Bad => "BAD",
            Verdict::Unseen => "?",
        };
        rows.push([verdict, finding.check, &printable(&finding.found)].map(str::to_owned));
        if let Some(remedy) = &finding.remedy {
            rows.push(["", "", &format!("-> {}", printable(remedy))].map(str::to_owned));
        }
    }
    let count = |verdict| checks.iter().filter(|finding| finding.verdict == verdict).count();
    let sum = match (count(Verdict::Bad), count(Verdict::Warn)) {
        (0, 0) => "Nothing is wrong.".to_owned(),
        (0, warn) => format!("Nothing is bad, {warn} to look at."),
        (bad, warn) => format!("{bad} bad, {warn} more to look at."),
    };
    format!("{}\n{sum}\n", columns(&rows))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_lines_with_their_remedy_below() {
        let checks = [
            Finding::ok("pressure", "/proc/pressure/io"),
            Finding::bad("unit", "failed", "systemctl status guppy-idle-stopper"),
        ];
        assert_eq!(
            text(&checks),
            "ok   pressure  /proc/pressure/io\n\
             BAD  unit      failed\n\
             \x20              -> systemctl status guppy-idle-stopper\n\
             \n\
             1 bad, 0 more to look at.\n"
        );
    }

    #[test]
    fn json_names_verdicts_in_lower_case() {
        let finding =
            serde_json::to_value(Finding::unseen("launch template", "?", "look")).expect("json");
        let expected = serde_json::json!({
            "check": "launch template", "verdict": "unseen", "found": "?", "remedy": "look",
        });
        assert_eq!(finding, expected);
    }
}
