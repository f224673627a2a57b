//! The numbers of guppy-idle-stopper and, in the same run on the same box, of Debian's
//! autosuspend with comparable checks: one table on stdout, its notes below it.
//!
//! The box is a booted container: this machine's processor and kernel (so no emulation distorts
//! CPU time), Debian's systemd, D-Bus and logind, and both programs as their packages' own units.
//! What is measured from near is measured by this same program inside the box; see [`inside`].
//!
//! Nothing here is a pass or a fail: a target is printed beside what was measured. What cannot be
//! measured fails the bench, with the reason.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{AptRepo, Container, Image, Release, Switch, cache, wait};
use serde_json::Value;

/// For what takes as long as it takes.
const LONG: Duration = Duration::from_secs(300);
/// How long both programs are watched at their default interval.
const CALM_SECONDS: u64 = 240;
/// How long each of them is watched at one load, with an interval of a second.
const LOAD_SECONDS: u64 = 25;
const STARTS: usize = 11;
/// Seconds between two ticks: ours by default, and theirs here.
const INTERVAL: u32 = 20;
/// The port whose connections both programs watch.
const PORT: u16 = 2375;
/// Connections and processes: the small size, then each of the two grown a hundredfold.
const LOADS: [(usize, usize); 3] = [(100, 50), (10_000, 50), (100, 5_000)];
const OURS: &str = "guppy-idle-stopper";
const THEIRS: &str = "autosuspend";
/// This program, inside the box.
const PROBE: &str = "/usr/local/bin/bench-idle-stopper";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments.as_slice() {
        [] => bench().map(|table| println!("{table}")),
        ["connect", address, number] => inside::connect(address, number),
        ["watch", seconds, pids @ ..] => inside::watch(seconds, pids),
        ["start", user, mark, program @ ..] => inside::start(user, mark, program),
        _ => Err(anyhow!("usage: GUPPY_DEBS=FOLDER bench-idle-stopper")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("bench-idle-stopper: {why:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench() -> Result<String> {
    lab::require_privilege()?;
    let ours = lab::apt_repo::built()?;
    let minimal = minimal_debian().context("autosuspend cannot be had from Debian")?;
    let mut table = Table::default();
    let switch = Switch::new()?;
    let theirs = debs_in(&minimal.join("tree/var/cache/apt/archives"))?;
    let repository = AptRepo::serve(&switch, &[ours, theirs].concat())?;
    let it = Bench { container: Container::boot(&Image::of(Release::Trixie)?, &switch)? };
    it.install(&repository)?;

    lab::say("start to ready");
    it.starts(&mut table)?;
    lab::say(format_args!("{CALM_SECONDS} s at the default interval"));
    it.calm(&mut table)?;
    for load in LOADS {
        lab::say(format_args!("{} connections, {} processes", load.0, load.1));
        it.load(&mut table, load)?;
    }
    it.sizes(&mut table, &minimal)?;
    let versions =
        it.sh(&format!("dpkg-query -W -f '${{Package}} ${{Version}}, ' {OURS} {THEIRS}"))?;
    let kernel = it.sh("uname -r")?;
    Ok(table.print(&versions, &kernel))
}

/// Debian as small as it boots, and beside it, as packages, what autosuspend adds to that.
fn minimal_debian() -> Result<PathBuf> {
    let script = r#"set -e
        mmdebstrap --quiet --mode=root --format=directory --variant=minbase \
            --include=systemd-sysv,dbus --aptopt='APT::Install-Recommends "false"' \
            --skip=cleanup/apt --customize-hook='chroot "$1" sh -ec "apt-get clean
                apt-get -qq --yes --download-only install autosuspend"' "$0" "$1/tree""#;
    let key = cache::key([script.as_bytes()]);
    cache::folder_of("bench-minimal-trixie", key, |folder| {
        lab::say("fetching Debian's autosuspend, once");
        let mut command = Command::new("bash");
        command.args(["-c", script, Release::Trixie.name()]).arg(folder);
        lab::process::run(command, b"", Duration::from_secs(900))?.ok().map(drop)
    })
}

fn debs_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))?;
    let paths: Vec<_> = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|end| end == "deb")).collect())
}

/// The box.
struct Bench {
    container: Container,
}

impl Bench {
    fn sh(&self, shell: &str) -> Result<String> {
        let output = self.container.sh_within(LONG, shell)?;
        output.ok().with_context(|| shell.to_owned())
    }

    /// Runs this program inside the box and gives the JSON it prints.
    fn probe(&self, arguments: &str) -> Result<Value> {
        let text = self.sh(&format!("{PROBE} {arguments}"))?;
        serde_json::from_str(&text).with_context(|| format!("{arguments}: {text}"))
    }

    fn install(&self, repository: &AptRepo) -> Result<()> {
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

    fn starts(&self, table: &mut Table) -> Result<()> {
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
    fn calm(&self, table: &mut Table) -> Result<()> {
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

    fn load(&self, table: &mut Table, load: (usize, usize)) -> Result<()> {
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

    fn sizes(&self, table: &mut Table, minimal: &Path) -> Result<()> {
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

/// The table, as it grows.
#[derive(Default)]
struct Table {
    rows: Vec<[String; 4]>,
    /// CPU per tick of both at the small size.
    small: (f64, f64),
}

impl Table {
    fn row(&mut self, what: &str, target: Option<f64>, ours: f64, theirs: f64) {
        // As precise as it is printed: three ticks a minute are never exactly three.
        let missed = |most: f64| (ours * 100.0).round() > (most * 100.0).round();
        let target = target.map_or(String::new(), |most| {
            format!("{}{}", if missed(most) { "MISSED: " } else { "" }, text(most))
        });
        self.rows.push([what.to_owned(), target, text(ours), text(theirs)]);
    }

    fn print(&self, versions: &str, kernel: &str) -> String {
        let head = ["", "at most", OURS, THEIRS].map(str::to_owned);
        let mut table = String::new();
        for [what, target, ours, theirs] in std::iter::once(&head).chain(&self.rows) {
            // A string takes whatever is written to it.
            let _ = writeln!(table, "{what:<64} {target:>12} {ours:>20} {theirs:>12}");
        }
        let _ = write!(
            table,
            "
{versions}
on Linux {kernel}, in a container with Debian 13's systemd, D-Bus and logind.
Memory, wake-ups and CPU in each {INTERVAL} s: {CALM_SECONDS} s with 100 quiet connections and 50 processes, in which
one lock is taken, so that D-Bus is used. CPU per tick: one tick a second. The processes sleep, and
both ends of the connections are in the box.
Both run as their packages' units; autosuspend checks Users, ActiveConnection, Load,
NetworkBandwidth and Processes at each turn, {OURS} all it ships.
A wake-up is the end of 0.2 s or more of sleep: what takes a processor out of idle. Voluntary
switches (voluntary_ctxt_switches of all threads) count each wait for an answer, too.
CPU is user and system time on the processor, from schedstat; per tick it is the median.
Targets of the two large sizes: a hundred times what was measured at the small one.
Start to ready: exec until READY=1, or until the first check's line in the log; the median of
{STARTS} starts with warm caches. Binary of autosuspend: its Python files and the interpreter.
Installed sizes: dpkg's; minimal is a Debian that boots, with D-Bus."
        );
        table
    }
}

fn text(value: f64) -> String {
    format!("{value:.*}", if value < 10.0 { 2 } else { usize::from(value < 100.0) })
}

fn median(values: &[f64]) -> Result<f64> {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().context("nothing was measured")
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

/// What runs inside the box, to see what only shows there, and prints JSON.
mod inside {
    use std::net::{Ipv4Addr, TcpListener, TcpStream};
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::net::UnixDatagram;
    use std::os::unix::process::CommandExt as _;
    use std::process::Stdio;
    use std::time::Instant;

    use super::*;

    /// Between two looks at a program's CPU time; so many without a change end a tick.
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    const QUIET_LOOKS: u32 = 10;

    /// Holds connections open, both ends, until it is killed.
    pub(super) fn connect(address: &str, number: &str) -> Result<()> {
        let address = (address.parse::<Ipv4Addr>()?, PORT);
        let listener = TcpListener::bind(address)?;
        let mut ends = Vec::new();
        for _ in 0..number.parse()? {
            ends.push(TcpStream::connect(address)?);
            ends.push(listener.accept()?.0);
        }
        loop {
            std::thread::park();
        }
    }

    /// One program that is watched.
    struct Watched {
        pid: String,
        /// Nanoseconds on a processor: at the last look, and when the last tick ended.
        cpu: u64,
        before: u64,
        /// Looks since it last moved.
        quiet: u32,
        /// Whether it has been seen asleep: the first tick may have been joined half-way.
        settled: bool,
        ticks: Vec<f64>,
        /// When the first tick ended, and the last.
        ended: Option<(Instant, Instant)>,
    }

    impl Watched {
        fn look(&mut self) -> Result<()> {
            let now = of_threads(&self.pid, "schedstat", |text| {
                text.split(' ').next().and_then(|time| time.parse().ok())
            })?;
            self.quiet = if now == self.cpu { self.quiet + 1 } else { 0 };
            self.cpu = now;
            if self.quiet == QUIET_LOOKS {
                if self.settled {
                    self.ticks.push(now.saturating_sub(self.before) as f64 / 1e6);
                    let ended = Instant::now();
                    self.ended = Some((self.ended.map_or(ended, |(first, _)| first), ended));
                }
                self.settled = true;
                self.before = now;
            }
            Ok(())
        }
    }

    /// Watches programs: `{seconds, programs: [{span, ticks, voluntary, VmRSS, …}]}`.
    pub(super) fn watch(seconds: &str, pids: &[&str]) -> Result<()> {
        let most = Duration::from_secs(seconds.parse()?);
        let mut programs: Vec<Watched> = pids
            .iter()
            .map(|pid| Watched {
                pid: (*pid).to_owned(),
                cpu: 0,
                before: 0,
                quiet: 0,
                settled: false,
                ticks: Vec::new(),
                ended: None,
            })
            .collect();
        let start = Instant::now();
        let switched: Vec<u64> = pids.iter().map(|pid| voluntary(pid)).collect::<Result<_>>()?;
        while start.elapsed() < most {
            programs.iter_mut().try_for_each(Watched::look)?;
            std::thread::sleep(LOOK_EVERY);
        }
        let mut seen = Vec::new();
        for (program, before) in programs.iter().zip(switched) {
            let status = std::fs::read_to_string(format!("/proc/{}/status", program.pid))?;
            let field = |name| field(&status, name).with_context(|| format!("no {name}"));
            let span = program.ended.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
            seen.push(serde_json::json!({
                "span": span,
                "ticks": program.ticks,
                "voluntary": voluntary(&program.pid)?.saturating_sub(before),
                "VmRSS": field("VmRSS")?,
                "RssAnon": field("RssAnon")?,
                "RssFile": field("RssFile")?,
            }));
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({ "seconds": seconds, "programs": seen }));
        Ok(())
    }

    /// Adds up what a file says of each thread of a process.
    fn of_threads(pid: &str, file: &str, read: impl Fn(&str) -> Option<u64>) -> Result<u64> {
        let folder = format!("/proc/{pid}/task");
        let threads = std::fs::read_dir(&folder).with_context(|| format!("{pid} has ended"))?;
        let mut sum = 0;
        for thread in threads {
            let path = thread?.path().join(file);
            let text = std::fs::read_to_string(&path)?;
            sum += read(&text).with_context(|| format!("{}: {text}", path.display()))?;
        }
        Ok(sum)
    }

    fn voluntary(pid: &str) -> Result<u64> {
        of_threads(pid, "status", |text| field(text, "voluntary_ctxt_switches"))
    }

    fn field(status: &str, name: &str) -> Option<u64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Starts a program as a user and prints the milliseconds until it says the mark: to its
    /// notify socket, or on stdout.
    pub(super) fn start(user: &str, mark: &str, program: &[&str]) -> Result<()> {
        let socket = "/run/bench/notify";
        if Path::new(socket).exists() {
            std::fs::remove_file(socket)?;
        }
        let notified = UnixDatagram::bind(socket)?;
        notified.set_read_timeout(Some(Duration::from_secs(30)))?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o666))?;
        let (name, arguments) = program.split_first().context("no program")?;
        let mut command = Command::new(name);
        command.args(arguments).uid(user.parse()?).env("NOTIFY_SOCKET", socket);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let start = Instant::now();
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = child.stdout.take().context("no stdout")?;
        let said = if mark == "READY=1" {
            hear(&notified, mark)
        } else {
            let mut lines = BufReader::new(stdout).lines();
            lines
                .find(|line| line.as_ref().is_ok_and(|line| line.contains(mark)))
                .map(drop)
                .with_context(|| format!("{name} ended before it said {mark}"))
        };
        let took = start.elapsed().as_secs_f64() * 1e3;
        child.kill()?;
        child.wait()?;
        said.map(|()| println!("{took}"))
    }

    fn hear(socket: &UnixDatagram, mark: &str) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            let length = socket.recv(&mut buffer).with_context(|| format!("no {mark}"))?;
            let heard = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if heard.lines().any(|line| line == mark) {
                return Ok(());
            }
        }
    }
}
