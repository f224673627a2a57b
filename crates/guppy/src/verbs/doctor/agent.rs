//! The agent itself: installed, running, answering, allowed to act, seeing everything.

use std::path::Path;

use idle_stopper::act::HOOKS_DIR;
use idle_stopper::api::{IdleStopper, Rights};
use idle_stopper::helper::executables;

use super::Finding;
use crate::agent::IDLE_STOPPER;
use crate::bus::{Answer, Bus, Unit};

pub(super) async fn look(bus: &Answer<Bus>, socket: Option<&Path>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if socket.is_none() {
        if !IDLE_STOPPER.is_installed() {
            let package = IDLE_STOPPER.package;
            return vec![Finding::bad(
                "package",
                format!("{package} is not installed"),
                format!(
                    "sudo apt install {package}; on a box that shall stop itself: guppy-data-plane"
                ),
            )];
        }
        findings.push(Finding::ok("package", format!("{} is installed", IDLE_STOPPER.package)));
    }
    findings.push(match bus {
        Ok(bus) => unit(bus.unit(&IDLE_STOPPER.unit()).await),
        Err(error) => unit(Err(error.clone())),
    });
    match IDLE_STOPPER.ask(socket, async |mut agent| agent.rights().await).await {
        Ok(rights) => {
            let path = socket.unwrap_or(Path::new(IDLE_STOPPER.socket));
            findings.push(Finding::ok("socket", format!("answers at {}", path.display())));
            findings.extend(judge(&rights));
            findings.push(hooks(Path::new(HOOKS_DIR)));
        }
        Err(failure) => findings.push(Finding::bad(
            "socket",
            failure.message,
            "sudo systemctl restart guppy-idle-stopper.socket guppy-idle-stopper.service",
        )),
    }
    findings
}

fn unit(unit: Answer<Unit>) -> Finding {
    let name = IDLE_STOPPER.package;
    match unit {
        Ok(unit) if unit.active == "active" && unit.file == "enabled" => {
            Finding::ok("unit", format!("{} ({}), {}", unit.active, unit.sub, unit.file))
        }
        Ok(unit) if unit.active == "active" => Finding::bad(
            "unit",
            format!(
                "{} ({}), but {}: it will not run after the next boot",
                unit.active, unit.sub, unit.file
            ),
            format!("sudo systemctl enable {name}"),
        ),
        Ok(unit) => Finding::bad(
            "unit",
            format!(
                "{} ({}), {}",
                unit.active,
                unit.sub,
                if unit.file.is_empty() { unit.load } else { unit.file }
            ),
            format!("sudo systemctl enable --now {name}; and see: journalctl -u {name}"),
        ),
        Err(error) => Finding::warn(
            "unit",
            format!("systemd cannot be asked: {error}"),
            "see: systemctl status dbus",
        ),
    }
}

/// What the agent says of its own rights and eyes.
fn judge(rights: &Rights) -> Vec<Finding> {
    let mut findings = vec![power_off(rights)];
    findings.push(if rights.mode == "stop" {
        Finding::ok("mode", "stop")
    } else {
        Finding::warn(
            "mode",
            format!("{}: it says when it would stop the box, and does not", rights.mode),
            "to let it: sudo apt install guppy-data-plane; where it is installed, or you want none \
             of it, see that the last word on mode in /etc/guppy/idle-stopper.toml and \
             idle-stopper.d/ is \"stop\", then: sudo systemctl reload guppy-idle-stopper",
        )
    });
    findings.push(match &rights.config_error {
        None => Finding::ok("config", "in force"),
        Some(error) => Finding::bad(
            "config",
            // Each fault is a line of its own; a finding is one line.
            format!("the files are not in force: {}", error.replace('\n', "; ")),
            "mend it, try it with guppy-idle-stopper --check-config, then: sudo systemctl reload \
             guppy-idle-stopper",
        ),
    });
    if rights.unknown.is_empty() {
        findings.push(Finding::ok("evidence", "every kind can be read"));
    }
    findings.extend(rights.unknown.iter().map(|unknown| {
        Finding::warn(
            "evidence",
            format!("cannot be read: {unknown}"),
            "it keeps the box up for unknown_at_most and is ignored from then on; see: journalctl \
             -u guppy-idle-stopper",
        )
    }));
    findings
}

/// The pre-stop hooks. Whatever is wrong with one would be told by the journal of the stop alone.
fn hooks(folder: &Path) -> Finding {
    let check = "pre-stop hooks";
    let hooks = match executables::list(folder) {
        Ok(hooks) => hooks,
        Err(error) => return Finding::warn(check, error, "see: ls -ld that folder"),
    };
    let refused: Vec<_> = hooks
        .iter()
        .filter_map(|hook| Some(format!("{} {}", hook.name, hook.refused.as_deref()?)))
        .collect();
    if refused.is_empty() {
        return Finding::ok(check, format!("{} in {}", hooks.len(), folder.display()));
    }
    Finding::bad(
        check,
        format!("not run at a stop: {}", refused.join("; ")),
        format!("mend them, or remove them from {}", folder.display()),
    )
}

fn power_off(rights: &Rights) -> Finding {
    let check = "may power off";
    match rights.can_power_off.as_str() {
        "yes" => Finding::ok(check, "logind says yes"),
        // A lock makes logind ask for a password, as a missing rule does.
        "challenge" => Finding::warn(
            check,
            "logind would ask for a password: some lock is held, or polkit's rule is missing",
            "see the locks below; if there is none: ls \
             /usr/share/polkit-1/rules.d/guppy-idle-stopper.rules, then systemctl restart polkit",
        ),
        "no" | "na" => Finding::bad(
            check,
            format!("logind says {}", rights.can_power_off),
            "see: ls /usr/share/polkit-1/rules.d/guppy-idle-stopper.rules; and journalctl -u polkit",
        ),
        error => Finding::bad(
            check,
            error,
            "see: systemctl status systemd-logind polkit; and journalctl -u polkit",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn rights() -> Rights {
        Rights {
            can_power_off: "yes".to_owned(),
            mode: "stop".to_owned(),
            unknown: Vec::new(),
            config_error: None,
        }
    }

    fn verdicts(rights: &Rights) -> Vec<(&'static str, Verdict)> {
        judge(rights).iter().map(|finding| (finding.check, finding.verdict)).collect()
    }

    #[test]
    fn an_agent_that_may_and_can_is_fine() {
        assert!(judge(&rights()).iter().all(|finding| finding.verdict == Verdict::Ok));
    }

    #[test]
    fn whatever_it_lacks_is_found() {
        let lacking = Rights {
            can_power_off: "no".to_owned(),
            mode: "observe".to_owned(),
            unknown: vec!["disk: /proc/diskstats: denied".to_owned()],
            config_error: Some("line 3".to_owned()),
        };
        assert_eq!(
            verdicts(&lacking),
            [
                ("may power off", Verdict::Bad),
                ("mode", Verdict::Warn),
                ("config", Verdict::Bad),
                ("evidence", Verdict::Warn),
            ]
        );
        let misread = Rights { config_error: Some("line 3\nrunning on".to_owned()), ..rights() };
        assert!(
            judge(&misread).iter().any(|finding| finding.found.ends_with("line 3; running on"))
        );
        let challenged = Rights { can_power_off: "challenge".to_owned(), ..rights() };
        assert_eq!(power_off(&challenged).verdict, Verdict::Warn);
    }

    #[test]
    fn a_hook_that_a_stop_would_not_run_is_found_before_it() -> std::io::Result<()> {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir()?;
        assert_eq!(hooks(&folder.path().join("none")).verdict, Verdict::Ok);
        let hook = folder.path().join("push-logs");
        std::fs::write(&hook, "#!/bin/sh\n")?;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o644))?;
        let found = hooks(folder.path());
        assert_eq!(found.verdict, Verdict::Bad);
        assert!(found.found.contains("push-logs is not executable (chmod 755)"), "{found:?}");
        Ok(())
    }

    #[test]
    fn a_unit_must_run_now_and_after_the_next_boot() {
        let state = |active: &str, file: &str| {
            unit(Ok(Unit {
                load: "loaded".to_owned(),
                active: active.to_owned(),
                sub: "running".to_owned(),
                file: file.to_owned(),
                is_skipped: false,
            }))
            .verdict
        };
        assert_eq!(state("active", "enabled"), Verdict::Ok);
        assert_eq!(state("active", "disabled"), Verdict::Bad);
        assert_eq!(state("failed", "enabled"), Verdict::Bad);
        assert_eq!(unit(Err("no bus".to_owned())).verdict, Verdict::Warn);
    }
}
