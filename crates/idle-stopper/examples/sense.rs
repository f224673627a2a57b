//! Prints what the sensors see on this box: once, or as many times as the first argument says,
//! with the CPU time that one reading takes.

use idle_stopper::config::Config;
use idle_stopper::sense::Sensors;
use rustix::time::{ClockId, clock_gettime};

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let times: u32 = std::env::args().nth(1).and_then(|times| times.parse().ok()).unwrap_or(1);
    let config = Config::default();
    let mut sensors = Sensors::new();
    let mut evidence = sensors.read(&config, Vec::new()).await;
    println!("{evidence:#?}");
    let before = cpu_micros();
    for _ in 1..times {
        evidence = sensors.read(&config, Vec::new()).await;
    }
    drop(evidence);
    if let Some(rounds) = times.checked_sub(1).filter(|rounds| *rounds > 0) {
        println!("{} µs of CPU a reading", (cpu_micros() - before) / i64::from(rounds));
    }
}

fn cpu_micros() -> i64 {
    let now = clock_gettime(ClockId::ProcessCPUTime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}
