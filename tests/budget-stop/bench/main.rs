//! The numbers of budget-stop and, in the same run, those of the same job in Python with boto3: both
//! speak the Runtime API to the same stub, and to moto through the same proxy, which answers 80 ms
//! late. One table on stdout.
//!
//! Nothing here is a pass or a fail: a target is printed beside what was measured. What cannot be
//! measured fails the bench, with the reason.

#![allow(dead_code, reason = "the tests use the rest of what they share with this")]
// JSON gives null for what is not there, and anything else that is not there fails the bench.
#![allow(clippy::indexing_slicing)]

#[path = "../account.rs"]
mod account;
#[path = "../faults.rs"]
mod faults;
#[path = "../http.rs"]
mod http;
#[path = "../lambda.rs"]
mod lambda;
#[path = "../moto.rs"]
mod moto;
#[path = "../proxy.rs"]
mod proxy;
#[path = "../tools.rs"]
mod tools;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;

use account::{Account, REGIONS};
use lambda::{Function, program};

const TIMEOUT: Duration = Duration::from_secs(300);
/// The way to a region and back, as from one side of an ocean to the other.
const LATENCY: Duration = Duration::from_millis(80);
const INSTANCES: u32 = 1200;
/// Cold starts of each, of which the median is shown.
const STARTS: usize = 7;
/// The budget, the regions, the report; in each region two lists, one stop, and what still costs.
const CALLS_AT_LEAST: usize = 3 + 17 * 4;

/// What was measured of one of the two.
struct Measured {
    first_poll: Duration,
    peak_kb: u64,
    time: Duration,
    calls: usize,
}

fn main() -> Result<()> {
    println!("{}", bench()?);
    Ok(())
}

fn bench() -> Result<String> {
    let ours = program("amd64")?;
    let python = tools::folder()?.join("venv/bin/python");
    let peer = Path::new(env!("CARGO_MANIFEST_DIR")).join("budget-stop/bench");
    let account = Account::new()?;
    account.spent("200");
    for (number, region) in REGIONS.iter().enumerate() {
        let rest = u32::from(number < INSTANCES as usize % REGIONS.len());
        account.run_tagged(region, INSTANCES / 17 + rest)?;
    }
    let ours = measure(&account, || Command::new(&ours))?;
    let boto3 = measure(&account, || {
        let mut command = Command::new(&python);
        command.args(["-m", "awslambdaric", "peer.handler"]).current_dir(&peer);
        command
    })?;
    let sizes = |architecture: &str| -> Result<(u64, u64)> {
        let binary = program(architecture)?;
        let zip = binary.parent().context("no folder")?.with_extension("zip");
        Ok((fs::metadata(binary)?.len(), fs::metadata(zip)?.len()))
    };
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let mib = |kb: u64| kb as f64 / 1024.0;
    let mut table = format!("{:<58}{:>10}{:>10}{:>10}\n", "", "at most", "guppy", "boto3");
    let mut row = |what: &str, most: String, ours: String, other: String| {
        table.push_str(&format!("{what:<58}{most:>10}{ours:>10}{other:>10}\n"));
    };
    let one = |value: f64| format!("{value:.1}");
    row(
        "exec to first poll, ms",
        one(ms(boto3.first_poll) / 5.0),
        one(ms(ours.first_poll)),
        one(ms(boto3.first_poll)),
    );
    row(
        "peak resident memory, MiB",
        one(mib(boto3.peak_kb) / 4.0),
        one(mib(ours.peak_kb)),
        one(mib(boto3.peak_kb)),
    );
    let what = "stop of 1,200 instances in 17 regions, API calls";
    row(
        what,
        (CALLS_AT_LEAST * 11 / 10).to_string(),
        ours.calls.to_string(),
        boto3.calls.to_string(),
    );
    row(
        "  the same, s",
        String::new(),
        format!("{:.2}", ours.time.as_secs_f64()),
        format!("{:.2}", boto3.time.as_secs_f64()),
    );
    let mb = |bytes: u64| format!("{:.2}", bytes as f64 / 1e6);
    for name in ["amd64", "arm64"] {
        // An architecture that is not built is one that nothing is said of.
        let Ok((binary, zip)) = sizes(name) else { continue };
        row(&format!("program for {name}, MB"), "5".into(), mb(binary), String::new());
        row("  zipped, MB", "2.3".into(), mb(zip), String::new());
    }
    table.push_str(
        "\nFirst poll: from exec to the first question to the Runtime API, the median of seven. At most is a
fifth of boto3's time, a quarter of its memory, and a tenth above the fewest calls that do the job.
The time has moto's own in it, which answers one question at a time. Both without TLS.\n",
    );
    Ok(table)
}

/// Cold starts, and one run over everything, which is started again first.
fn measure(account: &Account, command: impl Fn() -> Command) -> Result<Measured> {
    for region in REGIONS {
        let ids: Vec<String> = account.states(&[region])?.into_keys().collect();
        account.somebody("StartInstances", region, &ids)?;
    }
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let function = Function::start_program(account, command(), &[])?;
        starts.push(function.first_poll(Duration::from_secs(120))?);
    }
    starts.sort();
    account.proxy.faults().latency = LATENCY;
    let before = account.proxy.calls().len();
    let mut function = Function::start_program(account, command(), &[])?;
    function.first_poll(Duration::from_secs(120))?;
    let start = Instant::now();
    let answer = function.invoke(&json!({ "action": "check" }), TIMEOUT)?.done()?;
    let time = start.elapsed();
    account.proxy.faults().latency = Duration::ZERO;
    ensure!(answer["stopped"] == INSTANCES, "{answer}");
    let first_poll = *starts.get(STARTS / 2).context("no starts")?;
    let calls = account.proxy.calls().len() - before;
    Ok(Measured { first_poll, peak_kb: function.peak_kb()?, time, calls })
}
