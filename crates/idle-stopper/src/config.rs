//! `/etc/guppy/idle-stopper.toml` and `/etc/guppy/idle-stopper.d/*.toml`: every key, its unit, its
//! range and its default. A file may set any of them; what it leaves out keeps the default.

use std::num::NonZeroU16;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::{Invalid, Validate, span};

/// Whether the daemon acts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Does everything but power off, and logs when it would have.
    #[default]
    Observe,
    /// Powers the box off.
    Stop,
}

impl Mode {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Stop => "stop",
        }
    }
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `observe` or `stop`. The package guppy-data-plane sets `stop`.
    pub mode: Mode,
    /// How long everything must be quiet before the warning; 10s to 7d.
    #[serde(with = "span")]
    pub idle_after: Duration,
    /// From the warning to the stop; 1s to 1h.
    #[serde(with = "span")]
    pub warning: Duration,
    /// After boot, and after a gap between two ticks, nothing is judged for this long; 0s to 1d.
    #[serde(with = "span")]
    pub grace: Duration,
    /// From one reading to the next; 1s to 5min.
    #[serde(with = "span")]
    pub tick: Duration,
    /// Rates (CPU, bytes) are averages over this; at least one tick, at most 60 ticks and
    /// `idle_after`.
    #[serde(with = "span")]
    pub window: Duration,
    /// A reading that fails counts as active for this long in all, and is ignored from then on until
    /// it succeeds. What was used up is given back when something is known to be active while the
    /// reading succeeds.
    #[serde(with = "span")]
    pub unknown_at_most: Duration,
    /// A remote command or a build counts for this long at most.
    #[serde(with = "span")]
    pub command_at_most: Duration,
    /// An inhibitor lock counts for this long at most.
    #[serde(with = "span")]
    pub inhibit_at_most: Duration,
    /// A hold is given for this long at most.
    #[serde(with = "span")]
    pub hold_at_most: Duration,
    /// One process may keep dpkg's or apt's lock for this long.
    #[serde(with = "span")]
    pub package_at_most: Duration,
    /// All pre-stop hooks together; 0s to 1h. Each gets no more either.
    #[serde(with = "span")]
    pub hooks_at_most: Duration,
    /// Which kinds of evidence are read at all.
    pub evidence: Kinds,
    /// TCP connections.
    pub tcp: Tcp,
    /// CPU.
    pub cpu: Cpu,
    /// Disks.
    pub disk: Disk,
    /// Network interfaces.
    pub network: Network,
    /// Remote commands.
    pub commands: Commands,
}

/// A switch for each kind of evidence; all are on by default.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kinds {
    /// Keys read from terminals.
    pub terminals: bool,
    /// Remote commands without a terminal.
    pub commands: bool,
    /// Bytes on watched TCP ports.
    pub tcp: bool,
    /// CPU time.
    pub cpu: bool,
    /// Disk bytes and I/O pressure.
    pub disk: bool,
    /// Interface bytes.
    pub network: bool,
    /// Image builds.
    pub builds: bool,
    /// logind's locks.
    pub inhibitors: bool,
    /// dpkg's and apt's locks.
    pub packages: bool,
    /// `guppy hold`.
    pub holds: bool,
    /// `/etc/guppy/idle-stopper.checks.d/`.
    pub checks: bool,
}

impl Default for Kinds {
    fn default() -> Self {
        Self {
            terminals: true,
            commands: true,
            tcp: true,
            cpu: true,
            disk: true,
            network: true,
            builds: true,
            inhibitors: true,
            packages: true,
            holds: true,
            checks: true,
        }
    }
}

/// `[tcp]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Tcp {
    /// Ports of this box whose connections are watched, besides ssh's 22.
    pub ports: Vec<NonZeroU16>,
    /// Bytes a minute in one direction of one connection, above which it is active. ServerAlive
    /// every second makes about 5,000.
    pub bytes_per_minute: u64,
}

/// Where sshd listens. Its connections are watched always, and tell whether the caller of a remote
/// command is still there.
pub const SSH_PORT: u16 = 22;

impl Tcp {
    /// ssh's is always among them.
    fn watched(&self) -> Vec<u16> {
        let mut ports: Vec<u16> = self.ports.iter().map(|port| port.get()).collect();
        if !ports.contains(&SSH_PORT) {
            ports.push(SSH_PORT);
        }
        ports
    }
}

impl Default for Tcp {
    fn default() -> Self {
        Self { ports: Vec::new(), bytes_per_minute: 20_000 }
    }
}

/// `[cpu]`, in cores: 0.10 is a tenth of one processor.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cpu {
    /// One unit above this is active.
    pub unit_cores: f64,
    /// All units together, baseline excepted, and steal, above this are active.
    pub box_cores: f64,
    /// The floor of the units in `daemons`.
    pub daemon_cores: f64,
    /// Core-seconds in one window below which a single window over a floor is only a spike.
    pub spike_core_seconds: f64,
    /// Units that never count. A trailing `*` matches any rest.
    pub baseline: Vec<String>,
    /// Units with the floor `daemon_cores`, since work runs inside them too.
    pub daemons: Vec<String>,
}

impl Default for Cpu {
    fn default() -> Self {
        let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        Self {
            unit_cores: 0.10,
            box_cores: 0.25,
            daemon_cores: 0.25,
            spike_core_seconds: 10.0,
            baseline: list(&[
                "init.scope",
                "systemd-*",
                "dbus.service",
                "dbus-broker.service",
                "polkit.service",
                "rsyslog.service",
                "chrony.service",
                "chronyd.service",
                "ntpsec.service",
                "snapd.service",
                "amazon-cloudwatch-agent.service",
                // A virtual machine's host asks through it; on EC2 there is none.
                "qemu-guest-agent.service",
                "unattended-upgrades.service",
                "apt-daily*",
                "man-db.service",
                "packagekit.service",
                "fwupd.service",
                "getty@*",
                "serial-getty@*",
                "guppy-idle-stopper.slice",
            ]),
            daemons: list(&[
                // Session Manager's shells and commands run inside it.
                "amazon-ssm-agent.service",
                "snap.amazon-ssm-agent.*",
                "docker.service",
                "containerd.service",
                "buildkit.service",
                "buildkitd.service",
                "tailscaled.service",
            ]),
        }
    }
}

/// `[disk]`
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Disk {
    /// Bytes a second read and written by all disks, above which they are active.
    pub bytes_per_second: u64,
    /// Share of the window in which some task waited for I/O (PSI), above which it is active.
    pub pressure: f64,
}

impl Default for Disk {
    fn default() -> Self {
        Self { bytes_per_second: 65_536, pressure: 0.10 }
    }
}

/// `[network]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Bytes a second in and out of one interface, above which it is active.
    pub bytes_per_second: u64,
}

impl Default for Network {
    fn default() -> Self {
        Self { bytes_per_second: 10_240 }
    }
}

/// `[commands]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Commands {
    /// Parts of a program's path, or of its script's, that mark an IDE's server, which counts by
    /// its bytes.
    pub ide_servers: Vec<String>,
}

impl Default for Commands {
    fn default() -> Self {
        let names = [
            ".vscode-server",
            ".vscode-remote",
            ".cursor-server",
            ".windsurf-server",
            ".zed_server",
            "code-server",
            "remote-dev-server",
        ];
        Self { ide_servers: names.map(str::to_owned).to_vec() }
    }
}

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            idle_after: 30 * MINUTE,
            warning: 2 * MINUTE,
            grace: 10 * MINUTE,
            tick: Duration::from_secs(20),
            window: MINUTE,
            unknown_at_most: 2 * HOUR,
            command_at_most: 12 * HOUR,
            inhibit_at_most: 12 * HOUR,
            hold_at_most: 24 * HOUR,
            package_at_most: HOUR,
            hooks_at_most: MINUTE,
            evidence: Kinds::default(),
            tcp: Tcp::default(),
            cpu: Cpu::default(),
            disk: Disk::default(),
            network: Network::default(),
            commands: Commands::default(),
        }
    }
}

impl Config {
    /// The ports whose connections are read. Those of ssh tell, with `evidence.tcp` off too, which
    /// remote commands have lost their callers.
    pub fn watched_ports(&self) -> Vec<u16> {
        match self.evidence {
            Kinds { tcp: true, .. } => self.tcp.watched(),
            Kinds { commands: true, .. } => vec![SSH_PORT],
            Kinds { .. } => Vec::new(),
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        let second = Duration::from_secs(1);
        span::within("idle_after", self.idle_after, 10 * second, 7 * DAY)?;
        span::within("warning", self.warning, second, HOUR)?;
        span::within("grace", self.grace, Duration::ZERO, DAY)?;
        span::within("tick", self.tick, second, 5 * MINUTE)?;
        // A reading is kept for each tick of the window: 60 of them are enough, and bounded.
        span::within("window", self.window, self.tick, HOUR.min(60 * self.tick))
            .map_err(|invalid| invalid.beside("tick"))?;
        span::within("window", self.window, self.tick, self.idle_after)
            .map_err(|invalid| invalid.beside("idle_after"))?;
        for (key, value) in [
            ("unknown_at_most", self.unknown_at_most),
            ("command_at_most", self.command_at_most),
            ("inhibit_at_most", self.inhibit_at_most),
            ("hold_at_most", self.hold_at_most),
            ("package_at_most", self.package_at_most),
        ] {
            span::within(key, value, second, 30 * DAY)?;
        }
        span::within("hooks_at_most", self.hooks_at_most, Duration::ZERO, HOUR)?;
        for (key, value) in [
            ("cpu.unit_cores", self.cpu.unit_cores),
            ("cpu.box_cores", self.cpu.box_cores),
            ("cpu.daemon_cores", self.cpu.daemon_cores),
            ("cpu.spike_core_seconds", self.cpu.spike_core_seconds),
        ] {
            if !(0.0..=4096.0).contains(&value) {
                return Err(Invalid::new(key, value, "a number from 0 to 4096"));
            }
        }
        if !(0.0..=1.0).contains(&self.disk.pressure) {
            return Err(Invalid::new("disk.pressure", self.disk.pressure, "a share from 0 to 1"));
        }
        for (key, units) in
            [("cpu.baseline", &self.cpu.baseline), ("cpu.daemons", &self.cpu.daemons)]
        {
            let matches_none = |unit: &&String| {
                unit.is_empty() || unit.strip_suffix('*').unwrap_or(unit).contains('*')
            };
            if let Some(unit) = units.iter().find(matches_none) {
                let valid = "a unit's name, or the beginning of some and a \"*\" at the end";
                return Err(Invalid::new(key, format!("{unit:?}"), valid));
            }
        }
        // Every path has nothing in it: no command would ever count.
        if self.commands.ide_servers.iter().any(String::is_empty) {
            let valid = "a part of a program's path, as in \".vscode-server\"";
            return Err(Invalid::new("commands.ide_servers", "\"\"", valid));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
