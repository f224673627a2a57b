//! What runs inside the box, to see what only shows there, and prints JSON.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::PORT;

/// Between two looks at a program's CPU time; so many without a change end a tick.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const QUIET_LOOKS: u32 = 10;

/// Holds connections open, both ends, until it is killed.
pub(crate) fn connect(address: &str, number: &str) -> Result<()> {
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
pub(crate) fn watch(seconds: &str, pids: &[&str]) -> Result<()> {
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
pub(crate) fn start(user: &str, mark: &str, program: &[&str]) -> Result<()> {
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
