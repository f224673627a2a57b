//! The session keepers: running for somebody, at the next boot too, and without a complaint.

use guppy_session_keeper::api::{Listing, SessionKeeper};

use super::Finding;
use crate::bus::{Answer, Bus, Unit};
use crate::keeper::{self, BEGIN, PACKAGE};

const CHECK: &str = "session keeper";

/// Nothing on a box without it.
pub(super) async fn look(bus: &Answer<Bus>) -> Vec<Finding> {
    if !keeper::is_installed() {
        return Vec::new();
    }
    let mut findings = match (bus, keeper::units(bus).await) {
        (Ok(bus), Ok(units)) => {
            let mut findings = Vec::new();
            for (name, _) in &units {
                findings.push(judge(name, bus.unit(name).await));
            }
            findings
        }
        (Err(error), _) => vec![unasked(error)],
        (_, Err(error)) => vec![unasked(&error)],
    };
    if findings.is_empty() {
        findings.push(Finding::bad(CHECK, "it runs for nobody", BEGIN));
    }
    // What another user's keeper knows is for that user.
    if let Ok(paths) = keeper::paths(None)
        && paths.socket.exists()
    {
        match keeper::ask(&paths, async |mut keeper| keeper.list().await).await {
            Ok(listing) => findings.extend(complaints(&listing)),
            Err(none) => findings.push(Finding::bad(
                CHECK,
                crate::report::Failure::from(none).message,
                format!("sudo systemctl restart {PACKAGE}@$USER.socket {PACKAGE}@$USER.service"),
            )),
        }
    }
    findings
}

fn judge(name: &str, unit: Answer<Unit>) -> Finding {
    match unit {
        Ok(unit) if unit.active == "active" && unit.file == "enabled" => {
            Finding::ok(CHECK, format!("{name} is active and enabled"))
        }
        Ok(unit) => Finding::bad(
            CHECK,
            format!("{name} is {} and {}", unit.active, unit.file),
            format!("sudo systemctl enable --now {name}; and see: journalctl -u {name}"),
        ),
        Err(error) => unasked(&error),
    }
}

fn unasked(error: &str) -> Finding {
    Finding::warn(CHECK, format!("systemd cannot be asked: {error}"), "see: systemctl status dbus")
}

fn complaints(listing: &Listing) -> Vec<Finding> {
    if listing.problems.is_empty() {
        return vec![Finding::ok("sessions", keeper::summary(listing))];
    }
    let warn = |problem: &String| {
        Finding::warn("sessions", problem.clone(), "it is read again once it is mended: guppy ls")
    };
    listing.problems.iter().map(warn).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_keeper_must_run_now_and_after_the_next_boot() {
        let verdict = |active: &str, file: &str| {
            let unit = Unit {
                load: "loaded".to_owned(),
                active: active.to_owned(),
                sub: "running".to_owned(),
                file: file.to_owned(),
                is_skipped: false,
            };
            judge("guppy-session-keeper@alice.service", Ok(unit)).verdict
        };
        assert_eq!(verdict("active", "enabled"), Verdict::Ok);
        assert_eq!(verdict("active", "disabled"), Verdict::Bad);
        assert_eq!(verdict("failed", "enabled"), Verdict::Bad);
        assert_eq!(judge("x", Err("no bus".to_owned())).verdict, Verdict::Warn);
    }

    #[test]
    fn each_complaint_of_the_keeper_is_a_finding() {
        assert!(complaints(&Listing::default()).iter().all(|one| one.verdict == Verdict::Ok));
        let problems = vec!["a.toml:1: x".to_owned(), "b.toml:2: y".to_owned()];
        let found = complaints(&Listing { problems, ..Default::default() });
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|one| one.verdict == Verdict::Warn));
    }
}
