//! The box, and what is measured on it. Moments come from /proc/uptime, to 10 ms: that of a start
//! is noted by whoever starts, that of an agent by the agent itself.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use lab::{AptRepo, Container};
use serde_json::Value;

use crate::table::{Row, Table, median};
use crate::{CALM_SECONDS, CRASHES, LISTED, LISTINGS, LONG};

/// An agent: it notes when it runs, and which conversation it is in.
const AGENT: &str = "#!/bin/sh
read -r now _ </proc/uptime
mkdir -p ~/.fake && : >>~/.fake/\"$1\"
echo \"$now\" >>~/live
exec sleep infinity
";
const AGENT_FILE: &str = "start = [\"/usr/local/bin/fake\", \"{conversation}\"]
[conversation]
id = \"given\"
transcript = \"{home}/.fake/{conversation}\"
[input]
ready = \"always\"
";
const CONFIG: &str = "[starts]
stagger = \"0s\"
per_hour = 100000
[crash]
backoff = \"1s\"
backoff_at_most = \"1s\"
park_at = 100
";
/// Both units of the user's, and the socket that would start one of them.
const UNITS: &str =
    "guppy-session-keeper@dev.socket guppy-session-keeper@dev.service guppy-tmux@dev.service";

/// Waits until so many agents have noted that they run, and gives the time from `$begin` to the last.
const UNTIL_LIVE: &str = r#"
until [ "$(cat /home/dev/live 2>/dev/null | wc -l)" -ge $count ]; do sleep 0.05; done
awk -v begin=$begin '$1 > last { last = $1 } END { printf "%.2f", last - begin }' /home/dev/live
"#;

/// The box.
pub(crate) struct Bench {
    pub(crate) container: Container,
}

impl Bench {
    pub(crate) fn sh(&self, shell: &str) -> Result<String> {
        let output = self.container.sh_within(LONG, shell)?;
        output.ok().with_context(|| shell.to_owned())
    }

    fn number(&self, shell: &str) -> Result<f64> {
        let text = self.sh(shell)?;
        text.trim().parse().with_context(|| format!("{shell}: {text}"))
    }

    pub(crate) fn install(&self, repository: &AptRepo, shpool: &Path) -> Result<()> {
        let write = |path: &str, text: &[u8]| self.container.write_file(path, text);
        write("/etc/apt/sources.list.d/bench.list", repository.source().as_bytes())?;
        self.sh("apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y \
                 --no-install-recommends guppy-session-keeper tmuxp </dev/null")?;
        write("/usr/local/bin/shpool", &std::fs::read(shpool)?)?;
        write("/usr/local/bin/fake", AGENT.as_bytes())?;
        write("/etc/guppy/agents.d/fake.toml", AGENT_FILE.as_bytes())?;
        write("/etc/guppy/session-keeper.d/90-bench.toml", CONFIG.as_bytes())?;
        self.sh("chmod 755 /usr/local/bin/*; id dev || useradd -m -s /bin/bash dev; \
                 mkdir -p -m 700 /run/shpool && chown dev: /run/shpool")?;
        self.sh("systemctl enable guppy-session-keeper@dev.service").map(drop)
    }

    /// From nothing to all agents.
    pub(crate) fn boots(&self, table: &mut Table, count: usize) -> Result<()> {
        self.declare(count)?;
        let ours = format!(
            "set -e; count={count}; systemctl stop {UNITS}; rm -f /home/dev/live
             read -r begin _ </proc/uptime; systemctl start guppy-session-keeper@dev.service{UNTIL_LIVE}"
        );
        // The first time begins the conversations; what is measured goes on with them.
        self.number(&ours)?;
        let ours = self.number(&ours)?;
        self.sh(&format!("systemctl stop {UNITS}"))?;
        let tmuxp = self.number(&format!(
            "set -e; count={count}; rm -rf /home/dev/live /home/dev/tmuxp; mkdir /home/dev/tmuxp
             for at in $(seq {count}); do printf '%s\n' \"session_name: s$at\" windows: \
                 '- panes:' \"  - exec /usr/local/bin/fake s$at\" >/home/dev/tmuxp/s$at.yaml; done
             chown -R dev: /home/dev/tmuxp; read -r begin _ </proc/uptime
             runuser -u dev -- sh -c 'cd ~/tmuxp && exec tmuxp load -d -y *.yaml' >/dev/null{UNTIL_LIVE}
             runuser -u dev -- tmux kill-server"
        ))?;
        let shpool = self.number(&format!(
            "set -e; count={count}; rm -f /home/dev/live; {}
             read -r begin _ </proc/uptime; {}{UNTIL_LIVE}\nsystemctl stop shpool-bench",
            shpool_daemon(),
            shpool_attach(count),
        ))?;
        let row = Row { ours, tmuxp: Some(tmuxp), shpool: Some(shpool), ..Row::default() };
        table.row(&format!("start to all live, {count} sessions, s"), &row);
        Ok(())
    }

    /// Files for `count` sessions, and no others.
    fn declare(&self, count: usize) -> Result<()> {
        self.sh(&format!(
            "set -e; d=/home/dev/.config/guppy/sessions.d; mkdir -p $d
             for at in $(seq {count}); do \
                 printf '%s\n' 'agent = \"fake\"' 'worktree = \"/home/dev\"' >$d/p+s$at.toml; done
             chown -R dev: /home/dev"
        ))
        .map(drop)
    }

    /// Both with so many sessions.
    fn up(&self, count: usize) -> Result<()> {
        self.declare(count)?;
        self.number(&format!(
            "set -e; count={}; begin=0; systemctl stop {UNITS}; rm -f /home/dev/live
             systemctl start guppy-session-keeper@dev.service; {} {}{UNTIL_LIVE}",
            2 * count,
            shpool_daemon(),
            shpool_attach(count),
        ))
        .map(drop)
    }

    /// Memory, wake-ups and processor time while nobody does anything.
    pub(crate) fn rests(&self, table: &mut Table, count: usize) -> Result<()> {
        self.up(count)?;
        let pids = self.sh(
            "systemctl show -P MainPID guppy-session-keeper@dev guppy-tmux@dev shpool-bench | \
                            grep . && pgrep -o -f 'guppy-session-shim p'",
        )?;
        let pids: Vec<&str> = pids.split_whitespace().collect();
        let [keeper, tmux, shpool, shim] = pids.as_slice() else {
            anyhow::bail!("not all run: {pids:?}");
        };
        let switches = |pid: &str| {
            let sum = "awk '/^voluntary/ { sum += $2 } END { print sum }'";
            self.number(&format!("cat /proc/{pid}/task/*/status | {sum}"))
        };
        let all = [*keeper, *shim, *tmux, *shpool];
        // Threads that were needed for the start have ended by then.
        self.sh("sleep 20")?;
        // Of the whole unit, the clients of tmux that it starts included.
        let cpu = || self.number("systemctl show -P CPUUsageNSec guppy-session-keeper@dev");
        let (before, cpu_before) = (all.map(switches), cpu()?);
        self.sh(&format!("sleep {CALM_SECONDS}"))?;
        let (after, cpu_after) = (all.map(switches), cpu()?);
        let mut woken = Vec::new();
        for (before, after) in before.into_iter().zip(after) {
            woken.push(after? - before?);
        }
        let mut memory = Vec::new();
        for pid in all {
            memory.push(
                self.number(&format!("awk '/^VmRSS/ {{ print $2 / 1024 }}' /proc/{pid}/status"))?,
            );
        }
        for (what, numbers, keeper_at_most) in
            [("resident, MiB", &memory, Some(4.0)), ("switches in a minute", &woken, None)]
        {
            let [keeper, shim, tmux, shpool] = numbers.as_slice() else { continue };
            let row = Row {
                at_most: keeper_at_most,
                ours: *keeper,
                tmux: Some(*tmux),
                shpool: Some(*shpool),
                ..Row::default()
            };
            table.row(&format!("at rest, {count} sessions: {what}"), &row);
            table.row(
                &format!("the same of one shim: {what}"),
                &Row { ours: *shim, ..Row::default() },
            );
        }
        let ours = (cpu_after - cpu_before) / (CALM_SECONDS as f64 * 1e9) * 100.0;
        let row = Row { at_most: Some(0.02), ours, ..Row::default() };
        table.row(&format!("at rest, {count} sessions: CPU, % of a core"), &row);
        Ok(())
    }

    /// An agent is killed; the next one runs.
    pub(crate) fn crashes(&self, table: &mut Table) -> Result<()> {
        let mut took = Vec::new();
        for _ in 0..CRASHES {
            let pid = self.agent()?;
            let back = self.number(&format!(
                "set -e; count=$(($(wc -l </home/dev/live) + 1)); read -r begin _ </proc/uptime
                 kill -KILL {pid}{UNTIL_LIVE}"
            ))?;
            took.push(back - 1.0);
            lab::wait::until_true("its report", LONG, || Ok(self.agent()? != pid))?;
        }
        let ours = median(&mut took).context("no crash")?;
        table.row("crash to the agent back, less the backoff, s", &Row { ours, ..Row::default() });
        Ok(())
    }

    fn agent(&self) -> Result<u64> {
        let report = self.sh("cat /home/dev/.local/state/guppy/reports/p+s1.json")?;
        let report: Value = serde_json::from_str(&report).context(report)?;
        report.get("pid").and_then(Value::as_u64).context("no pid")
    }

    /// What a listing costs.
    pub(crate) fn listings(&self, table: &mut Table) -> Result<()> {
        self.up(LISTED)?;
        lab::wait::until_true("all of them to be seen", LONG, || {
            let text = self.sh("runuser -u dev -- guppy --json ls")?;
            let listing: Value = serde_json::from_str(&text).context(text)?;
            let sessions = listing.get("sessions").and_then(Value::as_array);
            let idle = |line: &&Value| line.get("state").and_then(Value::as_str) == Some("idle");
            Ok(sessions.is_some_and(|all| all.iter().filter(idle).count() == LISTED))
        })?;
        let script = format!(
            r#"
import json, os, pwd, subprocess, time
dev = pwd.getpwnam("dev")
os.initgroups("dev", dev.pw_gid)
os.setgid(dev.pw_gid)
os.setuid(dev.pw_uid)
os.environ.update(HOME="/home/dev", USER="dev", XDG_RUNTIME_DIR="/run/shpool")
commands = [["guppy", "ls"], ["tmux", "-N", "list-panes", "-a"], ["shpool", "list"]]
took = [[] for _ in commands]
for _ in range({LISTINGS}):
    for times, command in zip(took, commands):
        begin = time.perf_counter()
        said = subprocess.run(command, cwd="/", capture_output=True)
        times.append((time.perf_counter() - begin) * 1000)
        assert said.stdout.count(b"\n") >= {LISTED}, said
print(json.dumps(took))
"#
        );
        self.container.write_file("/run/listings.py", script.as_bytes())?;
        let text = self.sh("python3 /run/listings.py")?;
        let mut took: Vec<Vec<f64>> = serde_json::from_str(&text).context(text)?;
        let medians: Vec<f64> = took.iter_mut().filter_map(|times| median(times)).collect();
        let [ours, tmux, shpool] = medians.as_slice() else { anyhow::bail!("{medians:?}") };
        ensure!(*tmux > 0.0, "a listing in no time");
        let row = Row {
            at_most: Some(30.0),
            ours: *ours,
            tmux: Some(*tmux),
            shpool: Some(*shpool),
            ..Row::default()
        };
        table.row(&format!("a listing of {LISTED} sessions, ms"), &row);
        Ok(())
    }
}

fn shpool_daemon() -> &'static str {
    "systemctl stop shpool-bench 2>/dev/null || :
     systemd-run --quiet --unit=shpool-bench --uid=dev -E XDG_RUNTIME_DIR=/run/shpool shpool daemon
     until [ -S /run/shpool/shpool/shpool.socket ]; do sleep 0.05; done;"
}

fn shpool_attach(count: usize) -> String {
    format!(
        "runuser -u dev -- env XDG_RUNTIME_DIR=/run/shpool sh -c 'for at in $(seq {count}); do \
         shpool attach --background --cmd \"/usr/local/bin/fake s$at\" s$at </dev/null >/dev/null || exit 1; done'"
    )
}
