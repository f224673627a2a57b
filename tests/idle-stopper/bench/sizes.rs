//! What the programs and their packages take on a disk.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::measure::Bench;
use crate::table::Table;
use crate::{LONG, OURS, THEIRS};

impl Bench {
    pub(crate) fn sizes(&self, table: &mut Table, minimal: &Path) -> Result<()> {
        let bytes = |shell: &str| -> Result<f64> {
            let sum = self.sh(&format!(
                "{shell} | xargs stat -Lc %s | awk '{{ s += $1 }} END {{ print s }}'"
            ))?;
            Ok(sum.parse::<f64>().with_context(|| format!("a size: {sum}"))? / 1e6)
        };
        let ours = bytes(&format!("echo /usr/bin/{OURS}"))?;
        let theirs = bytes("(dpkg -L autosuspend | grep '[.]py$'; readlink -f /usr/bin/python3)")?;
        table.row("binary, MB", Some(3.0), ours, theirs);
        let (ours, our_all) = added(minimal, &[OURS, "guppy-cli"])?;
        let (theirs, their_all) = added(minimal, &[THEIRS])?;
        table.row("installed size of the package, MB", None, ours, theirs);
        table.row("  with what it adds to a minimal Debian, MB", None, our_all, their_all);
        Ok(())
    }
}

/// What the first of these packages takes, and what apt would add for all of them to a minimal
/// Debian, in MB of Installed-Size.
fn added(minimal: &Path, packages: &[&str]) -> Result<(f64, f64)> {
    let script = r#"set -e
        mount --bind "$DEBS" "$TREE/mnt"
        at() { chroot "$TREE" "$@"; }
        deb() { at sh -c "ls /mnt/$1_*_amd64.deb /mnt/$1_*_all.deb 2>/dev/null | head -n 1"; }
        wanted=
        for name; do local=$(deb "$name"); wanted="$wanted ${local:-$name}"; done
        plan=$(at apt-get --simulate --no-install-recommends install $wanted 2>&1) || {
            echo "$plan"; exit 1; }
        for name in $(echo "$plan" | sed -n 's/^Inst \([^ :]*\).*/\1/p'); do
            local=$(deb "$name")
            if [ "$local" ]; then echo "$name $(at dpkg-deb --field "$local" Installed-Size)"
            else echo "$name $(at apt-cache show --no-all-versions "$name" |
                sed -n 's/^Installed-Size: //p' | head -n 1)"; fi
        done"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "bash", "-c", script, "bash"]).args(packages);
    command.env("DEBS", lab::debs()?.canonicalize()?).env("TREE", minimal.join("tree"));
    let text = lab::process::run(command, b"", LONG)?.ok().context("installed size")?;
    let (mut own, mut all) = (None, 0.0);
    for line in text.lines() {
        let (name, size) = line.split_once(' ').context("a name and a size")?;
        let size = size.parse::<f64>().with_context(|| format!("the size of {name}"))?;
        let size = size * 1024.0 / 1e6;
        all += size;
        if packages.first() == Some(&name) {
            own = Some(size);
        }
    }
    Ok((own.with_context(|| format!("{packages:?} are not installed anew: {text}"))?, all))
}
