//! The packages: an upgrade keeps what is in force, a purge leaves nothing, and the arm64 programs
//! start.

use anyhow::{Context as _, Result, ensure};
use lab::scenario;

use crate::machine::{Box, LONG, UNIT, calm, debs_for, text_of};

#[test]
fn an_upgrade_keeps_holds_and_files() {
    scenario(|| {
        Box::each(&calm(), |it| {
            it.vm
                .sh("guppy hold 1h --why upgrade && echo '# mine' >>/etc/guppy/idle-stopper.toml")?
                .ok()?;
            let before = it.vm.sh(&format!("systemctl show -P MainPID {UNIT}"))?.ok()?;
            // The same package with a higher number.
            for deb in debs_for("amd64")? {
                let name = deb.file_name().context("a file")?.to_string_lossy().into_owned();
                it.vm.write_file(&format!("/root/debs/{name}"), &std::fs::read(&deb)?)?;
            }
            it.vm
                .sh_within(LONG, "cd /root/debs && for d in guppy-idle-stopper_*.deb; do dpkg-deb -R $d t && \
                     sed -i 's/^Version: .*/Version: 99/' t/DEBIAN/control && dpkg-deb -Znone -b t up.deb; done && \
                     DEBIAN_FRONTEND=noninteractive dpkg -i up.deb </dev/null")?
                .ok()?;
            let after = it.vm.sh(&format!("systemctl show -P MainPID {UNIT}"))?.ok()?;
            ensure!(before != after, "the old program still runs");
            let explained = it.explain()?;
            ensure!(explained.to_string().contains("upgrade"), "the hold is gone: {explained:#}");
            it.vm.sh("grep -q '# mine' /etc/guppy/idle-stopper.toml")?.ok()?;
            ensure!(text_of(&explained, "mode") == "stop", "{explained:#}");
            Ok(())
        })
    });
}

#[test]
fn without_its_role_it_observes_and_a_purge_leaves_nothing() {
    scenario(|| {
        Box::each("", |it| {
            it.vm.sh("rm /etc/guppy/idle-stopper.d/90-test.toml")?.ok()?;
            let mine = "/etc/guppy/idle-stopper.checks.d/mine";
            it.vm.write_file(mine, b"exit 1\n")?;
            it.vm.sh_within(LONG, "DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y guppy-data-plane </dev/null")?.ok()?;
            lab::wait::until_true("observing", LONG, || {
                Ok(text_of(&it.explain()?, "mode") == "observe")
            })?;
            it.vm
                .sh_within(LONG, "DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y guppy-idle-stopper guppy-cli </dev/null")?
                .ok()?;
            let left = it.vm.sh(
                "find / -xdev \\( -name '*guppy*' -o -name 'idle-stopper*' \\) -not -path '/proc/*' -not -path '/var/log/*' \
                 -not -path '/var/lib/cloud/*' -not -path '/var/lib/apt/*' -not -path '/var/cache/*' -not -path '/etc/apt/*' \
                 -not -path '/sys/*' 2>/dev/null; ls -d /run/*guppy* 2>/dev/null; \
                 getent passwd guppy-idle-stopper; getent group guppy guppy-idle-stopper; \
                 systemctl list-units --all --no-legend 'guppy*'",
            )?;
            // What somebody has written stays, with the folders that it is in, and nothing else does.
            let left = left.stdout;
            ensure!(
                left == "/etc/guppy\n/etc/guppy/idle-stopper.checks.d\n",
                "left behind:\n{left}"
            );
            ensure!(it.vm.read_file(mine)? == "exit 1\n");
            Ok(())
        })
    });
}

/// What keeps the role's word is not only the files: the daemon goes on with the last good config
/// while there is a mistake in them, and the role's `stop` must not live on in that.
#[test]
fn a_broken_file_does_not_keep_a_role_that_is_removed() {
    scenario(|| {
        Box::each(&calm(), |it| {
            ensure!(text_of(&it.explain()?, "mode") == "stop");
            it.vm.sh("guppy hold 1h --why 'still here'")?.ok()?;
            it.vm.write_file("/etc/guppy/idle-stopper.d/95-typo.toml", b"idle_aftr = \"1h\"\n")?;
            it.vm.sh_within(LONG, "DEBIAN_FRONTEND=noninteractive apt-get -qq remove -y guppy-data-plane </dev/null")?.ok()?;
            lab::wait::until_true("observing", LONG, || {
                Ok(text_of(&it.explain()?, "mode") == "observe")
            })
            .with_context(|| format!("{:#?}", it.explain()))?;
            let explained = it.explain()?;
            ensure!(
                text_of(&explained, "config_error").contains("95-typo.toml:1"),
                "{explained:#}"
            );
            ensure!(
                explained.to_string().contains("still here"),
                "the hold is gone: {explained:#}"
            );
            // What is valid in the files is in force all the same.
            let idle_after =
                explained.get("idle_after_seconds").and_then(serde_json::Value::as_u64);
            ensure!(idle_after == Some(3600), "{explained:#}");
            Ok(())
        })
    });
}

#[test]
fn doctor_says_what_is_right_and_what_it_cannot_see() {
    scenario(|| {
        Box::each(&calm(), |it| {
            let output = it.vm.sh("guppy doctor --json")?;
            let report: serde_json::Value =
                serde_json::from_str(&output.stdout).context(output.stdout.clone())?;
            ensure!(report.to_string().contains("InstanceInitiatedShutdownBehavior"), "{report:#}");
            let judged: Vec<&str> = report
                .get("checks")
                .and_then(serde_json::Value::as_array)
                .context("no checks")?
                .iter()
                .filter_map(|finding| finding.get("check")?.as_str())
                .collect();
            ensure!(
                judged
                    == [
                        "package",
                        "unit",
                        "socket",
                        "may power off",
                        "mode",
                        "config",
                        "evidence",
                        "pre-stop hooks",
                        "cgroups",
                        "pressure",
                        "clock",
                        "locks",
                        "disks",
                        "memory",
                        "sshd",
                        "launch template"
                    ],
                "{judged:?}"
            );
            ensure!(output.status == 0, "{report:#}");
            let status = it.vm.sh("guppy status --json")?.ok()?;
            ensure!(status.contains("\"summary\": \"stop: "), "{status}");
            it.vm.sh(&format!("systemctl stop {UNIT} guppy-idle-stopper.socket"))?.ok()?;
            for verb in ["doctor", "status"] {
                let output = it.vm.sh(&format!("guppy {verb}"))?;
                ensure!(output.status == 1, "{verb}: {output:?}");
            }
            Ok(())
        })
    });
}

/// The limit that every daemon here keeps, on both kinds of processor.
#[test]
fn no_daemon_is_larger_than_a_daemon_may_be() {
    scenario(|| {
        for architecture in ["amd64", "arm64"] {
            let place = std::env::temp_dir()
                .join(format!("guppy-size-{architecture}-{}", std::process::id()));
            std::fs::create_dir(&place)?;
            let outcome = sizes_of_daemons(architecture, &place);
            std::fs::remove_dir_all(&place)?;
            for (daemon, bytes) in outcome? {
                lab::say(format_args!("{architecture}: {daemon} has {bytes} bytes"));
                ensure!(bytes <= 3_000_000, "{bytes} bytes for {architecture} are more than 3 MB");
            }
        }
        Ok(())
    })
}

fn sizes_of_daemons(
    architecture: &str,
    place: &std::path::Path,
) -> Result<Vec<(&'static str, u64)>> {
    for deb in debs_for(architecture)? {
        lab::process::host("dpkg-deb", &["-x", &deb.to_string_lossy(), &place.to_string_lossy()])?;
    }
    let daemons = ["guppy-exit-router", "guppy-idle-stopper", "guppy-session-keeper"];
    let size = |daemon| Ok((daemon, std::fs::metadata(place.join("usr/bin").join(daemon))?.len()));
    daemons.map(size).into_iter().collect()
}

#[test]
fn every_arm64_program_starts() {
    scenario(|| {
        let place = std::env::temp_dir().join(format!("guppy-arm64-{}", std::process::id()));
        std::fs::create_dir(&place)?;
        let outcome = start_arm64(&place);
        std::fs::remove_dir_all(&place)?;
        outcome
    });
}

fn start_arm64(place: &std::path::Path) -> Result<()> {
    let debs = debs_for("arm64")?;
    ensure!(
        debs.iter().any(|deb| deb.to_string_lossy().ends_with("_arm64.deb")),
        "no arm64 packages: {debs:?}"
    );
    for deb in debs {
        lab::process::host("dpkg-deb", &["-x", &deb.to_string_lossy(), &place.to_string_lossy()])?;
    }
    let mut started = Vec::new();
    for folder in ["usr/bin", "usr/libexec/guppy"] {
        for entry in std::fs::read_dir(place.join(folder))? {
            let path = entry?.path();
            let is_program = std::fs::read(&path)?.starts_with(b"\x7fELF");
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_program {
                start_program(&path, &name)?;
                started.push(name);
            }
        }
    }
    started.sort();
    lab::say(format_args!("arm64: started {}", started.join(", ")));
    ensure!(started.len() >= 9, "programs are missing: {started:?}");
    Ok(())
}

/// Starts a program for arm64 so that it does no harm to a test's host: it says what it is, or how it is
/// to be used.
fn start_program(path: &std::path::Path, name: &str) -> Result<()> {
    let (words, wanted) = match name {
        "guppy" | "guppy-exit-router" | "guppy-idle-stopper" | "guppy-session-keeper" => {
            (&["--version"][..], format!("{name} 0"))
        }
        // An agent's hook says nothing, whatever happens.
        "guppy-session-hook" => (&[][..], String::new()),
        _ => (&["no", "such"][..], format!("usage: {name}")),
    };
    let path = path.to_string_lossy();
    let line = [&["-L", "/usr/aarch64-linux-gnu", &*path], words].concat();
    let said = match lab::process::host("qemu-aarch64-static", &line) {
        Err(error) if !wanted.is_empty() => format!("{error:#}"),
        said => said.with_context(|| name.to_owned())?,
    };
    ensure!(said.contains(&wanted), "{name} says {said:?}, not {wanted:?}");
    Ok(())
}
