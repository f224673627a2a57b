//! Room one: reads the world. What enters is the kernel, logind and the files of /run; what leaves
//! is [`Evidence`]. Nothing here judges: a reading is a running total, a list or an event, so that
//! work between two ticks is seen when `decide` compares two of them.
//!
//! **Architecture Invariant:** a failed read is [`Reading::Unknown`], never an empty list.

mod builds;
mod cgroups;
pub mod checks;
mod commands;
mod cpu;
mod disk;
mod file;
pub mod holds;
mod inhibitors;
mod logind;
mod logins;
mod network;
mod packages;
mod processes;
mod sensors;
mod tcp;
mod terminals;
#[cfg(test)]
pub(crate) mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

pub use sensors::{Roots, Sensors, terminals_now};

/// One sensor's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<T> {
    /// What was read.
    Known(T),
    /// Why nothing could be read, in words for an operator.
    Unknown(String),
}

/// Everything that was read at one tick.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Terminals that somebody could type into.
    pub terminals: Reading<Vec<Terminal>>,
    /// Commands that run for a remote host without a terminal.
    pub commands: Reading<Vec<RemoteCommand>>,
    /// Established TCP connections whose local port is watched; with `evidence.tcp` off, ssh's.
    pub sockets: Reading<Vec<Socket>>,
    /// CPU time used, by unit.
    pub cpu: Reading<CpuTotals>,
    /// What the disks moved and how long tasks waited for them.
    pub disk: Reading<DiskTotals>,
    /// What the network interfaces moved.
    pub network: Reading<Vec<Interface>>,
    /// Image builds under way.
    pub builds: Reading<Vec<Build>>,
    /// logind's inhibitor locks.
    pub inhibitors: Reading<Vec<Inhibitor>>,
    /// Package managers at work.
    pub packages: Reading<Vec<PackageLock>>,
    /// The holds that are in force.
    pub holds: Reading<Vec<Hold>>,
    /// What the operator's own checks said.
    pub checks: Reading<Vec<Check>>,
}

/// A terminal and the stamp that moves when a program reads input from it.
///
/// Numbers of terminals are reused, so `(name, leader, leader_start)` is its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Below /dev: `pts/0`, `ttyS0`, `tty1`.
    pub name: String,
    /// Session leader that has it as controlling terminal (proc_pid_stat(5), field 6); 0: none.
    pub leader: u32,
    /// The leader's start, in clock ticks since boot (field 22); 0: no leader.
    pub leader_start: u64,
    /// st_atime in nanoseconds of the wall clock. Only ever compared for inequality.
    pub atime: i128,
    /// Who sits there, for people: `ssh alice from 100.64.0.2`, `tmux`, `console`.
    pub what: String,
    /// The remote host of sshd's own terminals, where logind knows it.
    pub host: Option<IpAddr>,
}

/// A command under `sshd: U@notty` or under tailscaled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCommand {
    /// The command's process, below sshd's or tailscaled's.
    pub pid: u32,
    /// When it started.
    pub since: Boottime,
    /// For people: `make -j8 (alice, ssh from 100.64.0.2)`.
    pub what: String,
    /// The remote host, where logind knows it.
    pub host: Option<IpAddr>,
    /// It counts by its bytes on the wire only: an IDE server, an idle sftp.
    pub by_bytes: bool,
}

/// One TCP connection, from sock_diag(7) with tcp_info (include/uapi/linux/tcp.h).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// The kernel's id of the socket, never reused within a boot.
    pub cookie: u64,
    /// Port on this box.
    pub local_port: u16,
    /// The other side; v4-mapped addresses are given as v4.
    pub remote: IpAddr,
    /// The other side's port.
    pub remote_port: u16,
    /// tcpi_bytes_acked: sent and acknowledged, so retransmissions do not count.
    pub acked: u64,
    /// tcpi_bytes_received.
    pub received: u64,
    /// tcpi_unacked: segments in flight.
    pub unacked: u32,
    /// tcpi_backoff: doublings of the retransmission timer.
    pub backoff: u8,
    /// tcpi_last_ack_recv, milliseconds.
    pub last_ack_ms: u32,
}

/// CPU time in microseconds, from cgroup v2 `cpu.stat` `usage_usec` and /proc/stat's steal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuTotals {
    /// Each non-slice cgroup directly below a slice, by its path below /sys/fs/cgroup:
    /// `system.slice/docker.service`, `user.slice/user-1000.slice/session-3.scope`.
    pub units: Vec<(String, u64)>,
    /// The sum of the root's children: it keeps what cgroups used that have gone since.
    pub total: u64,
    /// Steal of all processors: time this box wanted and the hypervisor gave to others.
    pub steal: u64,
}

/// Disks, running totals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskTotals {
    /// Bytes read and written by whole physical disks (/proc/diskstats; 512-byte sectors).
    pub bytes: u64,
    /// `some total=` of /proc/pressure/io in microseconds; None: this kernel has no PSI.
    pub pressure: Option<u64>,
}

/// A network interface that counts: a physical one, or a container bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `eth0`, `docker0`.
    pub name: String,
    /// Received and sent since it was made.
    pub bytes: u64,
}

/// An image build that exists, busy or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Build {
    /// Identity: the step's cgroup, or the build command's pid and start.
    pub id: String,
    /// For people.
    pub what: String,
}

/// One of logind's locks (org.freedesktop.login1, ListInhibitors).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Inhibitor {
    /// Colon-separated: `shutdown:idle`.
    pub what: String,
    /// Who took it.
    pub who: String,
    /// Why.
    pub why: String,
    /// `block`, `block-weak`, `delay`.
    pub mode: String,
    /// The process that holds it.
    pub pid: u32,
}

/// A lock of dpkg or apt that is held (/proc/locks).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageLock {
    /// The lock file.
    pub path: String,
    /// Its holder.
    pub pid: u32,
    /// The holder's start in clock ticks since boot; 0: gone meanwhile.
    pub start: u64,
}

/// Somebody's word that the box must stay up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// What `guppy release` takes.
    pub id: u64,
    /// The uid that placed it.
    pub uid: u32,
    /// That uid's name, for people.
    pub who: String,
    /// In the holder's words.
    pub why: String,
    /// When it was placed.
    pub since: Boottime,
    /// When it ends at the latest.
    pub until: Boottime,
    /// It ends earlier when this process does.
    pub process: Option<Process>,
}

/// A process that cannot be taken for a later one with the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// Its start in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start: u64,
}

/// One of the operator's executables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its file name.
    pub name: String,
    /// What it said.
    pub said: Said,
}

/// A check's verdict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Said {
    /// Exit status 0.
    Active,
    /// Exit status 1.
    Quiet,
    /// Anything else, and why.
    Unknown(String),
}
