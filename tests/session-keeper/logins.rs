//! Agents outlive their user's logouts, and whatever restarts around them.

use anyhow::{Result, ensure};
use lab::{Namespace, SshKey, scenario, wait};

use crate::kept::Kept;
use crate::machine::LONG;

/// A person on another host.
struct Person {
    host: Namespace,
    /// The command line of an ssh client up to what is to run.
    client: String,
    _key: SshKey,
}

#[test]
fn agents_outlive_logouts_and_restarts_around_them() {
    scenario(|| {
        Kept::each(|it| {
            let person = person(it)?;
            let before = it.pids("shop+fix")?;
            let same = |what: &str| -> Result<()> {
                let now = it.pids("shop+fix")?;
                ensure!(now == before, "after {what}: {now:?}, not {before:?}");
                for pid in [&now.server, &now.shim, &now.agent] {
                    ensure!(it.is_alive(pid)?, "after {what}: {pid} of {now:?} has ended");
                }
                Ok(())
            };
            let times = if lab::full() { 50 } else { 10 };
            for _ in 0..times {
                // One made over ssh, too: it is the server's child, not the login's.
                let command =
                    "tmux new-session -A -d -s mine; tmux list-sessions -F '#{session_name}'";
                let seen = person.host.sh(&format!("{} \"{command}\"", person.client))?.ok()?;
                ensure!(seen.contains("shop/fix") && seen.contains("mine"), "{seen}");
            }
            wait::until_true("the last logout", LONG, || Ok(logins(it)? == "0"))?;
            same(&format!("{times} logins and logouts"))?;
            ensure!(it.alice("tmux -N has-session -t =mine").is_ok(), "it went with its login");

            it.sh("systemctl daemon-reexec")?;
            same("daemon-reexec")?;
            it.sh("systemctl restart systemd-logind.service")?;
            same("a restart of logind")?;
            // The user's own manager is there while somebody is logged in.
            let _login = person.host.spawn(&format!("exec {} sleep infinity", person.client))?;
            let manager = format!("user@{}.service", it.sh("id -u alice")?);
            wait::until_true("the user's manager", LONG, || {
                Ok(it.container().sh(&format!("systemctl is-active {manager}"))?.status == 0)
            })?;
            it.sh(&format!("systemctl restart {manager}"))?;
            same("a restart of the user's manager")?;
            it.sh(&format!("systemctl kill --signal=KILL {manager}"))?;
            same("the death of the user's manager")
        })
    });
}

/// How many sessions logind knows of alice.
fn logins(it: &Kept) -> Result<String> {
    Ok(it.container().sh("loginctl --no-legend | grep -cw alice")?.stdout.trim().to_owned())
}

fn person(it: &Kept) -> Result<Person> {
    let key = SshKey::new()?;
    let file = "/home/alice/.ssh/authorized_keys";
    it.container().write_file(file, format!("{}\n", key.public()).as_bytes())?;
    it.sh("chown -R alice: /home/alice/.ssh && chmod 700 /home/alice/.ssh")?;
    let client = key.client(it.container().address(), "alice", "-n");
    Ok(Person { host: it.contained.switch.host()?, client, _key: key })
}
