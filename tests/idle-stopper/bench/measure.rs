//! The box, and what is measured on it.

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{AptRepo, Container, wait};
use serde_json::Value;

use crate::table::{Table, median};
use crate::{CALM_SECONDS, INTERVAL, LOADS, LONG, OURS, PORT, PROBE, STARTS, THEIRS};

/// How long each of them is watched at one load, with an interval of a second.
const LOAD_SECONDS: u64 = 25;

/// The box.
pub(crate) struct Bench {
    pub(crate) container: Container,
}

impl Bench {
    pub(crate) fn sh(&self, shell: &str) -> Result<String> {
        let output = self.container.sh_within(LONG, shell)?;
        output.ok().with_context(|| shell.to_owned())
    }

    /// Runs this program inside the box and gives the JSON it prints.
    fn probe(&self, arguments: &str) -> Result<Value> {
        let text = self.sh(&format!("{PROBE} {arguments}"))?;
        serde_json::from_str(&text).with_context(|| format!("{arguments}: {text}"))
    }

    pub(crate) fn install(&self, repository: &AptRepo) -> Result<()> {
        let list = "/etc/apt/sources.list.d/bench.list";
        self.container.write_file(list, repository.source().as_bytes())?;
        self.sh(&format!(
            "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q install -y \
             --no-install-recommends {OURS} {THEIRS} </dev/null"
        ))?;
        self.container.write_file(PROBE, &std::fs::read("/proc/self/exe")?)?;
        self.sh(&format!("chmod 755 {PROBE}"))?;
        self.configure(INTERVAL)
    }

    /// Puts both programs on an interval in seconds.
    fn configure(&self, interval: u32) -> Result<()> {
        let ours = format!(
            "mode = \"observe\"\ngrace = \"0s\"\nidle_after = \"7d\"\ntick = \"{interval}s\"\n\
             [tcp]\nports = [22, {PORT}]\n"
        );
        let theirs = format!(
            "[general]\ninterval = {interval}\nidle_time = 604800\nsuspend_cmd = true\n\
             wakeup_cmd = true\n\
             [check.Users]\nenabled = true\n\
             [check.ActiveConnection]\nenabled = true\nports = 22,{PORT}\n\
             [check.Load]\nenabled = true\n\
             [check.NetworkBandwidth]\nenabled = true\ninterfaces = eth0\n\
             [check.Processes]\nenabled = true\nprocesses = make,cargo,gcc,docker\n"
        );
        // All checks at each turn, as ours: else the first that matches ends the turn.
        let all = "[Service]\nExecStart=\nExecStart=/usr/bin/autosuspend \
                   -l /etc/autosuspend-logging.conf daemon --allchecks\n";
        let write = |path: &str, text: &str| self.container.write_file(path, text.as_bytes());
        write("/etc/guppy/idle-stopper.d/90-bench.toml", &ours)?;
        write("/etc/autosuspend.conf", &theirs)?;
        write("/etc/systemd/system/autosuspend.service.d/all.conf", all)?;
        self.sh("systemctl daemon-reload").map(drop)
    }

    /// (Re)starts a unit's program and gives its process id.
    fn restart(&self, unit: &str) -> Result<u32> {
        self.sh(&format!("systemctl restart {unit}"))?;
        if unit == OURS {
            // It has seen the world, and all of it.
            wait::until_true("the first reading", LONG, || {
                let text = self.sh("guppy idle --json")?;
                let seen: Value = serde_json::from_str(&text).context(text)?;
                let lines =
                    seen.get("evidence").and_then(Value::as_array).context("no evidence")?;
                let says = |line: &Value, key: &str, value: &str| {
                    line.get(key).and_then(Value::as_str) == Some(value)
                };
                let blind = lines.iter().find(|line| says(line, "state", "unknown"));
                ensure!(blind.is_none(), "a sensor is blind in here: {blind:?}");
                Ok(lines
                    .iter()
                    .any(|line| says(line, "kind", "tcp") && !says(line, "state", "off")))
            })?;
        }
        let pid = self.sh(&format!("systemctl show --value -P MainPID {unit}"))?;
        pid.parse().ok().filter(|pid| *pid > 0).with_context(|| format!("{unit} does not run"))
    }

    pub(crate) fn starts(&self, table: &mut Table) -> Result<()> {
        self.sh(&format!("systemctl stop {OURS} {THEIRS}"))?;
        let folder = "/run/bench";
        let uid = self.sh(&format!("mkdir -m 777 {folder} && id -u {OURS}"))?;
        let start = |user: &str, mark: &str, program: &str| -> Result<Vec<f64>> {
            (0..STARTS)
                .map(|_| {
                    let took = self.probe(&format!("start {user} '{mark}' {program}"))?;
                    took.as_f64().context("no time")
                })
                .collect()
        };
        let ours = format!("/usr/bin/{OURS} --socket {folder}/socket --state-dir {folder}");
        let ours = start(&uid, "READY=1", &ours)?;
        let theirs = "/usr/bin/autosuspend -l /etc/autosuspend-logging.conf daemon";
        let theirs = start("0", "Starting new check iteration", theirs)?;
        table.row("start to ready, ms", Some(50.0), median(&ours)?, median(&theirs)?);
        Ok(())
    }

    /// As on a box where nothing happens: memory, wake-ups, and CPU with cold caches.
    pub(crate) fn calm(&self, table: &mut Table) -> Result<()> {
        self.populate(LOADS[0])?;
        let (ours, theirs) = (self.restart(OURS)?, self.restart(THEIRS)?);
        // A lock makes ours call logind in this time; unattended-upgrades takes one on every box.
        self.sh("systemd-run --quiet --unit=lock systemd-inhibit --mode=delay --what=shutdown \
                 sleep infinity")?;
        let seen = self.probe(&format!("watch {CALM_SECONDS} {ours} {theirs}"))?;
        self.sh(&format!("systemctl stop lock {OURS} {THEIRS}"))?;
        let said = self.sh(&format!("journalctl --unit={THEIRS} --output=cat"))?;
        let works = said.contains("ActiveConnection matched") && !said.contains("failed");
        ensure!(works, "{THEIRS} does not see the connections: {said}");
        let [ours, theirs] = [program(&seen, 0)?, program(&seen, 1)?];
        let megabytes = |name: &str, target, row: &str, table: &mut Table| -> Result<()> {
            let of = |seen: &Value| number(seen, name).map(|kib| kib / 1024.0);
            table.row(row, target, of(ours)?, of(theirs)?);
            Ok(())
        };
        megabytes("VmRSS", Some(4.0), "resident memory (VmRSS), MiB", table)?;
        megabytes("RssAnon", None, "  its own (RssAnon), MiB", table)?;
        megabytes("RssFile", None, "  mapped files (RssFile), MiB", table)?;
        // From the end of the first wake-up to the end of the last, so that no part of one counts.
        let woken = |seen: &Value| -> Result<f64> {
            let intervals = ticks(seen)?.len().saturating_sub(1);
            Ok(intervals as f64 / number(seen, "span")? * 60.0)
        };
        table.row("wake-ups a minute", Some(3.0), woken(ours)?, woken(theirs)?);
        let minutes = number(&seen, "seconds")? / 60.0;
        let blocked = |seen: &Value| number(seen, "voluntary").map(|switches| switches / minutes);
        table.row("  voluntary switches a minute", None, blocked(ours)?, blocked(theirs)?);
        // The mean, small wake-ups between two ticks included.
        let cpu = |seen: &Value| -> Result<f64> {
            let turns = number(seen, "span")? / f64::from(INTERVAL);
            Ok(ticks(seen)?.iter().skip(1).sum::<f64>() / turns)
        };
        let row = format!("CPU in each {INTERVAL} s of that, ms");
        table.row(&row, Some(2.5), cpu(ours)?, cpu(theirs)?);
        Ok(())
    }

    pub(crate) fn load(&self, table: &mut Table, load: (usize, usize)) -> Result<()> {
        self.populate(load)?;
        self.configure(1)?;
        let mut cpu = Vec::new();
        let mut memory = Vec::new();
        // One after the other: they would share this machine's processors.
        for unit in [OURS, THEIRS] {
            let pid = self.restart(unit)?;
            let seen = self.probe(&format!("watch {LOAD_SECONDS} {pid}"))?;
            let seen = program(&seen, 0)?;
            let ticks = ticks(seen)?;
            ensure!(ticks.len() >= 5, "{unit}: {} ticks in {LOAD_SECONDS} s", ticks.len());
            cpu.push(median(&ticks)?);
            memory.push(number(seen, "VmRSS")? / 1024.0);
            self.sh(&format!("systemctl stop {unit}"))?;
        }
        let (&[ours, theirs], &[our_memory, their_memory]) = (cpu.as_slice(), memory.as_slice())
        else {
            return Err(anyhow!("two programs were measured"));
        };
        let (connections, processes) = load;
        let row = format!("CPU per tick, {connections} connections, {processes} processes, ms");
        if load == LOADS[0] {
            table.small = (ours, theirs);
            table.row(&row, Some(2.5), ours, theirs);
        } else {
            // Linear at worst: what each size costs by itself is in the small size, too.
            table.row(&row, Some(table.small.0 * 100.0), ours, theirs);
            table.row("  resident memory there, MiB", None, our_memory, their_memory);
        }
        Ok(())
    }

    /// Makes the box have this many connections on the port, and processes in all.
    fn populate(&self, (connections, processes): (usize, usize)) -> Result<()> {
        self.sh("systemctl stop connections sleepers 2>/dev/null; true")?;
        let limits = "--property=LimitNOFILE=8192 --property=TasksMax=infinity";
        // Some at a time: a process has both ends of each, and a limit on open files.
        let (parts, most) = (connections.div_ceil(2000), connections.min(2000));
        self.sh(&format!(
            "systemd-run --quiet --unit=connections {limits} sh -c \
             'for i in $(seq {parts}); do {PROBE} connect 127.0.0.$i {most} & done; wait'"
        ))?;
        wait::until_true("the connections", LONG, || {
            let ended = self.container.sh("systemctl is-active --quiet connections")?.status != 0;
            ensure!(!ended, "{}", self.sh("journalctl --unit=connections --lines=5 --output=cat")?);
            let count = format!("ss -Htn state established sport = :{PORT} | wc -l");
            Ok(self.sh(&count)? == connections.to_string())
        })?;
        // The shell and the command that counts are two of them.
        let present = || -> Result<usize> {
            Ok(self.sh("ls -d /proc/[0-9]* | wc -l")?.parse::<usize>()?.saturating_sub(2))
        };
        let missing = processes.saturating_sub(present()? + 3);
        self.sh(&format!(
            "systemd-run --quiet --unit=sleepers {limits} sh -c \
             'for i in $(seq {missing}); do sleep infinity & done; wait'"
        ))?;
        wait::until_true("the processes", LONG, || Ok(present()?.abs_diff(processes) <= 3))
    }
}

fn program(seen: &Value, at: usize) -> Result<&Value> {
    seen.get("programs")
        .and_then(|programs| programs.get(at))
        .with_context(|| format!("not watched: {seen}"))
}

fn number(seen: &Value, name: &str) -> Result<f64> {
    seen.get(name).and_then(Value::as_f64).with_context(|| format!("no {name} in {seen}"))
}

fn ticks(seen: &Value) -> Result<Vec<f64>> {
    let ticks = seen.get("ticks").and_then(Value::as_array).context("no ticks")?;
    ticks.iter().map(|tick| tick.as_f64().context("a tick is a number")).collect()
}
