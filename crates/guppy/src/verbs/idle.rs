//! `guppy idle`: why this box is up, and when it would stop.

use std::path::Path;

use idle_stopper::api::{Explanation, HoldLine, IdleStopper};
use jiff::Zoned;

use crate::agent::IDLE_STOPPER;
use crate::report::{Failure, Report};
use crate::table::{columns, printable};
use crate::{span, wall};

/// Runs the verb. Its JSON is the agent's own answer, `Explanation` of dev.guppy.IdleStopper.
///
/// # Errors
/// The agent cannot be asked.
pub async fn run(socket: Option<&Path>) -> Result<Report, Failure> {
    let explained = IDLE_STOPPER.ask(socket, async |mut agent| agent.explain().await).await?;
    Report::new(text(&explained, &Zoned::now()), &explained)
}

fn text(explained: &Explanation, now: &Zoned) -> String {
    let mut text = format!("{}\n\n{}", printable(&explained.summary), evidence(explained));
    if !explained.holds.is_empty() {
        text.push('\n');
        text.push_str(&holds(&explained.holds, now));
    }
    text.push('\n');
    if let Some(error) = &explained.config_error {
        // Each fault is a line of its own.
        text.push_str("The config in the files is not in force:\n");
        text.extend(error.lines().map(|fault| format!("  {}\n", printable(fault))));
    }
    if let Some(refused) = &explained.refused {
        text.push_str(&format!("Powering off did not work: {}\n", printable(refused)));
    }
    text.push_str(&format!(
        "Last activity: {} ago ({})\n",
        span::text(explained.idle_seconds),
        printable(&explained.last_activity)
    ));
    text.push_str(&outlook(explained, now));
    text
}

fn evidence(explained: &Explanation) -> String {
    let head = ["EVIDENCE", "STATE", "FOR", "LAST ACTIVE", "DETAIL"].map(str::to_owned);
    let lines = explained.evidence.iter().map(|line| {
        let last = line
            .last_active_seconds
            .map_or_else(|| "-".to_owned(), |seconds| format!("{} ago", span::short(seconds)));
        [
            line.kind.clone(),
            line.state.clone(),
            span::short(line.state_seconds),
            if line.state == "active" { "now".to_owned() } else { last },
            line.detail.clone(),
        ]
    });
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

fn holds(holds: &[HoldLine], now: &Zoned) -> String {
    let head = ["HOLD", "WHO", "ENDS", "WHY"].map(str::to_owned);
    let lines = holds.iter().map(|hold| {
        let mut ends = format!(
            "in {} ({})",
            span::text(hold.left_seconds),
            wall::after(now, hold.left_seconds)
        );
        if let Some(pid) = hold.pid {
            ends = format!("with process {pid}, at the latest {ends}");
        }
        [hold.id.to_string(), hold.who.clone(), ends, hold.why.clone()]
    });
    columns(&[head].into_iter().chain(lines).collect::<Vec<_>>())
}

/// What would stop the box, and at what time.
fn outlook(explained: &Explanation, now: &Zoned) -> String {
    let observes = explained.mode != "stop";
    if let Some(seconds) = explained.stops_in_seconds {
        let at = wall::after(now, seconds);
        let mut text = if observes {
            format!("It would stop in {} ({at})", span::text(seconds))
        } else {
            format!("It stops in {} ({at})", span::text(seconds))
        };
        if let Some(warned) = seconds.checked_sub(explained.warning_seconds).filter(|&s| s > 0) {
            text.push_str(&format!(
                " if nothing happens; terminals are warned at {}",
                wall::after(now, warned)
            ));
        } else {
            text.push_str(" unless somebody types or something works until then");
        }
        if observes {
            text.push_str(
                ". But it only observes: install guppy-data-plane, or set mode = \"stop\"",
            );
        }
        return text + ".\n";
    }
    if explained.phase == "stopping" {
        return if observes {
            "It would have stopped, but it only observes; nothing more happens until something \
             works again.\n"
                .to_owned()
        } else {
            "It is stopping now.\n".to_owned()
        };
    }
    let busy: Vec<_> = explained
        .evidence
        .iter()
        .filter(|line| line.state == "active" || line.state == "unknown")
        .map(|line| line.kind.as_str())
        .collect();
    let kept = match (explained.phase.as_str(), busy.is_empty()) {
        ("settling", _) => "It settles first, and counts from then on".to_owned(),
        (_, true) => "Nothing keeps it up any more".to_owned(),
        (_, false) => format!("Kept up by: {}", busy.join(", ")),
    };
    let wait = explained.idle_after_seconds.saturating_add(explained.warning_seconds);
    format!(
        "{kept}. It {} when all has been quiet for {}, so not before {}.\n",
        if observes { "would stop" } else { "stops" },
        span::text(wait),
        wall::after(now, wait)
    )
}

#[cfg(test)]
mod tests {
    use idle_stopper::api::EvidenceLine;

    use super::*;

    fn noon() -> Zoned {
        "2026-11-21T12:00:00+00:00[UTC]".parse().expect("a time")
    }

    fn line(kind: &str, state: &str, last: Option<u64>, detail: &str) -> EvidenceLine {
        EvidenceLine {
            kind: kind.to_owned(),
            state: state.to_owned(),
            state_seconds: 700,
            last_active_seconds: last,
            detail: detail.to_owned(),
        }
    }

    fn quiet() -> Explanation {
        Explanation {
            mode: "stop".to_owned(),
            phase: "idle".to_owned(),
            phase_seconds: 700,
            summary: "idle 11 min 40 s, stops in 20 min 20 s".to_owned(),
            stops_in_seconds: Some(1220),
            idle_seconds: 700,
            last_activity: "terminals: ssh alice from 100.64.0.2".to_owned(),
            idle_after_seconds: 1800,
            warning_seconds: 120,
            evidence: vec![
                line("terminals", "quiet", Some(700), "1 open, none typed into"),
                line("cpu", "quiet", None, "0.02 cores"),
            ],
            holds: Vec::new(),
            refused: None,
            config_error: None,
        }
    }

    #[test]
    fn a_quiet_box_says_when_it_stops() {
        assert_eq!(
            text(&quiet(), &noon()),
            "idle 11 min 40 s, stops in 20 min 20 s\n\
             \n\
             EVIDENCE   STATE  FOR    LAST ACTIVE  DETAIL\n\
             terminals  quiet  11min  11min ago    1 open, none typed into\n\
             cpu        quiet  11min  -            0.02 cores\n\
             \n\
             Last activity: 11 min 40 s ago (terminals: ssh alice from 100.64.0.2)\n\
             It stops in 20 min 20 s (12:20:20 UTC) if nothing happens; terminals are warned at \
             12:18:20 UTC.\n"
        );
    }

    #[test]
    fn an_observing_box_says_that_it_would() {
        let explained = Explanation { mode: "observe".to_owned(), ..quiet() };
        assert_eq!(
            outlook(&explained, &noon()),
            "It would stop in 20 min 20 s (12:20:20 UTC) if nothing happens; terminals are warned \
             at 12:18:20 UTC. But it only observes: install guppy-data-plane, or set mode = \
             \"stop\".\n"
        );
    }

    #[test]
    fn a_warned_box_does_not_promise_another_warning() {
        let explained = Explanation { stops_in_seconds: Some(90), ..quiet() };
        assert_eq!(
            outlook(&explained, &noon()),
            "It stops in 1 min 30 s (12:01:30 UTC) unless somebody types or something works until \
             then.\n"
        );
    }

    #[test]
    fn a_busy_box_names_what_keeps_it_up_and_shows_holds() {
        let explained = Explanation {
            stops_in_seconds: None,
            evidence: vec![
                line("cpu", "active", Some(0), "make 1.90 cores"),
                line("disk", "unknown", None, "/proc/diskstats: Permission denied"),
                line("holds", "active", Some(0), "1"),
                line("tcp", "ignored", None, "sock_diag: refused"),
            ],
            holds: vec![HoldLine {
                id: 3,
                who: "alice".to_owned(),
                why: "demo".to_owned(),
                since_seconds: 60,
                left_seconds: 43_200,
                pid: Some(812),
            }],
            ..quiet()
        };
        let text = text(&explained, &noon());
        assert!(
            text.contains("cpu       active   11min  now          make 1.90 cores\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "3     alice  with process 812, at the latest in 12 h 00 min (2026-11-22 00:00:00 \
                 UTC)  demo\n"
            ),
            "{text}"
        );
        assert!(
            text.ends_with(
                "Kept up by: cpu, disk, holds. It stops when all has been quiet for 32 min 00 s, \
                 so not before 12:32:00 UTC.\n"
            ),
            "{text}"
        );
    }

    #[test]
    fn every_phase_without_an_hour_says_something_true() {
        let outlook_in = |phase: &str| {
            let phase = phase.to_owned();
            outlook(&Explanation { phase, stops_in_seconds: None, ..quiet() }, &noon())
        };
        assert_eq!(outlook_in("stopping"), "It is stopping now.\n");
        let observed = Explanation {
            mode: "observe".to_owned(),
            phase: "stopping".to_owned(),
            stops_in_seconds: None,
            ..quiet()
        };
        assert!(outlook(&observed, &noon()).starts_with("It would have stopped, but it only obs"));
        assert!(outlook_in("settling").starts_with("It settles first, and counts from then on. "));
        assert!(outlook_in("active").starts_with("Nothing keeps it up any more. It stops when "));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let explained = Explanation {
            refused: Some("logind: Access denied".to_owned()),
            config_error: Some(
                "/etc/guppy/idle-stopper.toml:3: unknown key\nrunning on the last".to_owned(),
            ),
            ..quiet()
        };
        let text = text(&explained, &noon());
        assert!(text.contains("Powering off did not work: logind: Access denied\n"));
        assert!(
            text.contains(
                "not in force:\n  /etc/guppy/idle-stopper.toml:3: unknown key\n  running on the \
                 last\n"
            ),
            "{text}"
        );
    }
}
