//! Bytes: TCP connections, disks and interfaces, each against a floor over the window.

use std::time::Duration;

use service::clock::Boottime;

use super::meter::{Meter, Moved};
use super::verdict::Verdict;
use crate::config::{Config, Disk, SSH_PORT};
use crate::sense::{DiskTotals, Evidence, Interface, Reading, Socket};

/// A direction of one connection.
pub(super) type Flow = (u64, Direction);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    /// tcpi_bytes_received.
    In,
    /// tcpi_bytes_acked.
    Out,
}

pub(super) fn tcp(
    meter: &mut Meter<Flow>,
    sockets: &[Socket],
    evidence: &Evidence,
    config: &Config,
    now: Boottime,
) -> Verdict {
    let flows = sockets
        .iter()
        .flat_map(|socket| {
            [
                ((socket.cookie, Direction::In), socket.received),
                ((socket.cookie, Direction::Out), socket.acked),
            ]
        })
        .collect();
    meter.push(now, config.window, flows);
    let floor = config.tcp.bytes_per_minute as f64 / 60.0;
    // Who draws is only asked of what would count.
    let enough = floor * meter.span(config.window).as_secs_f64();
    let counts = |moved: &Moved<Flow>| {
        let (cookie, way) = moved.key;
        way == Direction::In
            || moved.amount as f64 <= enough
            || !sockets.iter().any(|it| it.cookie == cookie && is_drawn(it, evidence, sockets))
    };
    match busiest(meter, config.window, floor, counts) {
        Busiest::Above { key: (cookie, _), per_second, at } => {
            let peer = sockets.iter().find(|socket| socket.cookie == cookie).map_or_else(
                || "a closed connection".to_owned(),
                |socket| {
                    format!(
                        "port {} from {}:{}",
                        socket.local_port, socket.remote, socket.remote_port
                    )
                },
            );
            Verdict::Active { at, detail: format!("{peer}: {} B/min", minute(per_second)) }
        }
        Busiest::Below(per_second) => Verdict::Quiet(format!(
            "{} connections, the busiest {} B/min (floor {})",
            sockets.len(),
            minute(per_second),
            config.tcp.bytes_per_minute
        )),
    }
}

/// Whether what is sent to this side can only be what programs draw in its terminals, an htop or a
/// followed log that was left open: no activity, and what is typed there is received. So it is while
/// every ssh connection of the host carries a terminal (several may share one: ssh_config(5),
/// ControlMaster) and it runs no command here. Of an IDE, an sftp or a forward beside them bytes count,
/// and so they do while any of this is not known.
fn is_drawn(to: &Socket, evidence: &Evidence, sockets: &[Socket]) -> bool {
    let (Reading::Known(terminals), Reading::Known(commands)) =
        (&evidence.terminals, &evidence.commands)
    else {
        return false;
    };
    let is_ssh = |it: &&Socket| it.local_port == SSH_PORT && it.remote == to.remote;
    let connections = sockets.iter().filter(is_ssh).count();
    let terminals = terminals.iter().filter(|it| it.host == Some(to.remote)).count();
    to.local_port == SSH_PORT
        && connections <= terminals
        && commands.iter().all(|it| it.host.is_some_and(|host| host != to.remote))
}

/// What the disk meter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DiskTotal {
    Bytes,
    /// Microseconds in which some task waited for I/O.
    Waited,
}

pub(super) fn disk(
    bytes: &mut Meter<DiskTotal>,
    waited: &mut Meter<DiskTotal>,
    totals: &DiskTotals,
    (floors, window): (&Disk, Duration),
    now: Boottime,
) -> Verdict {
    bytes.push(now, window, vec![(DiskTotal::Bytes, totals.bytes)]);
    let pressure = totals.pressure.map(|total| (DiskTotal::Waited, total));
    waited.push(now, window, pressure.into_iter().collect());
    let moved = match busiest(bytes, window, floors.bytes_per_second as f64, |_| true) {
        Busiest::Above { per_second, at, .. } => {
            return Verdict::Active { at, detail: format!("disks: {per_second:.0} B/s") };
        }
        Busiest::Below(per_second) => per_second,
    };
    let waited = match busiest(waited, window, floors.pressure * 1e6, |_| true) {
        Busiest::Above { per_second, at, .. } => {
            let detail = format!("tasks wait for I/O {:.0} % of the time", per_second / 1e4);
            return Verdict::Active { at, detail };
        }
        Busiest::Below(per_second) => per_second / 1e4,
    };
    Verdict::Quiet(format!(
        "{moved:.0} B/s (floor {}), waiting {waited:.0} % (floor {:.0} %)",
        floors.bytes_per_second,
        floors.pressure * 100.0
    ))
}

pub(super) fn network(
    meter: &mut Meter<String>,
    interfaces: &[Interface],
    config: &Config,
    now: Boottime,
) -> Verdict {
    let totals = interfaces.iter().map(|each| (each.name.clone(), each.bytes)).collect();
    meter.push(now, config.window, totals);
    match busiest(meter, config.window, config.network.bytes_per_second as f64, |_| true) {
        Busiest::Above { key, per_second, at } => {
            Verdict::Active { at, detail: format!("{key}: {per_second:.0} B/s") }
        }
        Busiest::Below(per_second) => Verdict::Quiet(format!(
            "{} interfaces, the busiest {per_second:.0} B/s (floor {})",
            interfaces.len(),
            config.network.bytes_per_second
        )),
    }
}

/// The key that moved most, and whether that is above the floor.
enum Busiest<K> {
    Above { key: K, per_second: f64, at: Boottime },
    Below(f64),
}

fn busiest<K: Ord + Clone>(
    meter: &Meter<K>,
    window: Duration,
    per_second: f64,
    counts: impl Fn(&Moved<K>) -> bool,
) -> Busiest<K> {
    let span = meter.span(window).as_secs_f64();
    let counted = meter.moved().into_iter().filter(counts);
    let Some(top) = counted.max_by_key(|moved| moved.amount) else {
        return Busiest::Below(0.0);
    };
    let rate = top.amount as f64 / span;
    match meter.last_above(&top.key, per_second) {
        Some(at) if rate > per_second => Busiest::Above { key: top.key, per_second: rate, at },
        _ => Busiest::Below(rate),
    }
}

fn minute(per_second: f64) -> u64 {
    (per_second * 60.0) as u64
}
