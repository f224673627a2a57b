//! An upgrade of tmux from one Debian to the next, and of libc with it, under a server that goes on.

use anyhow::{Result, ensure};
use lab::{Release, debian, scenario, wait};

use crate::kept::Kept;
use crate::machine::LONG;

/// What a client says to a server that it does not understand (tmux#4711).
const STRANGER: &str = "#!/bin/sh\necho 'open terminal failed: not a terminal' >&2; exit 1\n";
/// What the next Debian's tmux wants; a Debian 12 loses Python by it, which no test here needs.
const NEXT: &[&str] = &["tmux", "libc6-dev", "libc-bin", "base-files"];
const APT: &str =
    "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Options::=--force-confold install -y";

#[test]
fn tmux_and_libc_are_replaced_under_a_server_that_goes_on() {
    scenario(|| {
        let it = Kept::boot(Release::Bookworm)?;
        install(&it, Release::Bookworm, &["needrestart"])?;
        it.container().write_file(
            "/etc/needrestart/conf.d/always.conf",
            b"$nrconf{restart} = 'a';\n$nrconf{kernelhints} = -1;\n",
        )?;
        // Something that uses libc and may be restarted.
        it.container().write_file(
            "/etc/systemd/system/witness.service",
            b"[Service]\nExecStart=/bin/sleep infinity\n",
        )?;
        it.sh("systemctl daemon-reload && systemctl start witness.service")?;
        let witness = || it.sh("systemctl show -P MainPID witness.service");
        let (before, seen) = (it.pids("shop+fix")?, witness()?);
        ensure!(it.sh("tmux -V")? == "tmux 3.3a", "{}", it.sh("tmux -V")?);

        install(&it, Release::Trixie, NEXT)?;
        ensure!(it.sh("tmux -V")? == "tmux 3.5a", "{}", it.sh("tmux -V")?);
        ensure!(witness()? != seen, "needrestart has restarted nothing: the test proves nothing");
        ensure!(it.pids("shop+fix")? == before, "{:?}, not {before:?}", it.pids("shop+fix")?);
        for pid in [&before.server, &before.shim, &before.agent] {
            ensure!(it.is_alive(pid)?, "{pid} of {before:?}");
        }
        // It is told what the keeper's last look has seen.
        let says = format!("tmux 3.3a (pid {}), replaced on the disk", before.server);
        wait::until_true("the keeper to look", LONG, || {
            let listed = it.sh("runuser -l alice -c 'guppy ls'")?;
            Ok(listed.contains(&says) && listed.contains("guppy attach"))
        })?;
        attaches(&it, "tmux attach -t =shop/fix")?;
        attaches(&it, "guppy attach shop/fix")?;

        // The next tmux may not even understand the server.
        it.container().write_file("/usr/local/bin/tmux", STRANGER.as_bytes())?;
        it.sh("chmod 755 /usr/local/bin/tmux")?;
        ensure!(attaches(&it, "tmux attach -t =shop/fix").is_err(), "the stranger attaches");
        attaches(&it, "guppy attach shop/fix")?;
        // Nor does a keeper that begins now need it.
        it.sh("systemctl restart guppy-session-keeper@alice.service")?;
        it.intent("shop+new", "")?;
        it.until_started("shop+new")?;
        ensure!(it.pids("shop+fix")? == before, "{:?}, not {before:?}", it.pids("shop+fix")?);

        // The server's next start is of the new program.
        it.sh("rm /usr/local/bin/tmux && systemctl restart guppy-tmux@alice.service")?;
        it.until_started("shop+fix")?;
        wait::until_true("the keeper to look", LONG, || {
            let listed = it.sh("runuser -l alice -c 'guppy ls'")?;
            Ok(listed.contains("tmux 3.5a") && !listed.contains("replaced"))
        })
    });
}

/// Installs packages of a release's, and whatever of it they need.
fn install(it: &Kept, release: Release, names: &[&str]) -> Result<()> {
    it.contained.repository.add_all(&debian::packages(release, names)?)?;
    let names = names.join(" ");
    let install = format!("apt-get -qq update && {APT} {names} </dev/null");
    // Forty packages go with Python, and needrestart looks at everything.
    it.container().sh_within(3 * LONG, &install)?.ok().map(drop)
}

/// A person looks at the session by this command, and leaves.
fn attaches(it: &Kept, command: &str) -> Result<()> {
    let mut person = it.container().terminal(&format!("runuser -l alice -c '{command}'"))?;
    let server = it.pids("shop+fix")?.server;
    let own = format!("runuser -u alice -- /proc/{server}/exe -N");
    wait::until_true("a client at the server", LONG, || {
        ensure!(person.ended()?.is_none(), "{command}: {}", person.text());
        Ok(!it.sh(&format!("{own} list-clients -t =shop/fix"))?.is_empty())
    })?;
    it.sh(&format!("{own} detach-client -s =shop/fix"))?;
    let code = person.wait_end(LONG)?;
    ensure!(code == 0, "{command} ended with {code}: {}", person.text());
    Ok(())
}
