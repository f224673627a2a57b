//! Prints what the sensors see on this box, then what one reading costs:
//! `sense [TIMES [KIND…]]`, once and of every kind by default.

use idle_stopper::config::{Config, Kinds};
use idle_stopper::sense::Sensors;
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let times: i64 = args.next().map_or(Ok(1), |times| times.parse())?;
    let only: Vec<String> = args.collect();
    let config = Config { evidence: kinds(&only)?, ..Config::default() };
    let mut sensors = Sensors::new();
    let evidence = sensors.read(&config, Vec::new()).await;
    if times == 1 {
        println!("{evidence:#?}");
        return Ok(());
    }
    let before = cpu_nanos();
    for _ in 0..times {
        sensors.read(&config, Vec::new()).await;
    }
    println!("{} µs of CPU a reading", (cpu_nanos() - before) / times / 1000);
    Ok(())
}

/// The kinds that were named; all of them if none was.
fn kinds(only: &[String]) -> serde_json::Result<Kinds> {
    let mut kinds = serde_json::to_value(Kinds::default())?;
    for (kind, on) in kinds.as_object_mut().into_iter().flatten() {
        *on = Value::Bool(only.is_empty() || only.contains(kind));
    }
    serde_json::from_value(kinds)
}

fn cpu_nanos() -> i64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
