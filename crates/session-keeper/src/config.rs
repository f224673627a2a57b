//! `/etc/guppy/session-keeper.toml` and `/etc/guppy/session-keeper.d/*.toml`: what holds for every
//! keeper of the machine. Every key, its unit, its range and its default.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::config::{Invalid, Validate, span};

use crate::size::Bytes;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// From one full look to the next; hooks bring more. 2s to 10min.
    #[serde(with = "span")]
    pub tick: Duration,
    /// When agents start.
    pub starts: Starts,
    /// What happens after a crash.
    pub crash: Crash,
    /// Caps for agents whose own file says nothing.
    pub limits: Limits,
}

/// `[starts]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Starts {
    /// From one start to the next on the machine, whatever the session and whoever's it is; 0s to
    /// 5min. 25 agents that start at once starve each other (herdr#4102).
    #[serde(with = "span")]
    pub stagger: Duration,
    /// No more starts in any hour, all sessions of all users together; an equal share of them is each
    /// user's own, at least one. 1 to 100000.
    pub per_hour: u32,
    /// How long the answer of a provider's address is believed; 1s to 10min.
    #[serde(with = "span")]
    pub probe_every: Duration,
    /// How long an address may take to answer; 1s to 1min.
    #[serde(with = "span")]
    pub probe_at_most: Duration,
}

/// `[crash]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Crash {
    /// From the first crash to the next start; it doubles with each one after. 1s to 1h.
    #[serde(with = "span")]
    pub backoff: Duration,
    /// It doubles no further; at least `backoff`, at most 1d.
    #[serde(with = "span")]
    pub backoff_at_most: Duration,
    /// This many crashes `within` park the session until a person comes; 1 to 100.
    pub park_at: u32,
    /// See `park_at`; 1min to 1d.
    #[serde(with = "span")]
    pub within: Duration,
    /// An agent that has lived this long has had no crash before; 1min to 1d.
    #[serde(with = "span")]
    pub forget_after: Duration,
}

/// `[limits]`, for each agent. None: the kernel's `max`, below the unit's own cap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// memory.high: above it the agent is slowed down. `"6GiB"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_high: Option<Bytes>,
    /// memory.max: above it the kernel ends the largest process of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_max: Option<Bytes>,
    /// pids.max: processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_max: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tick: Duration::from_secs(15),
            starts: Starts::default(),
            crash: Crash::default(),
            limits: Limits::default(),
        }
    }
}

impl Default for Starts {
    fn default() -> Self {
        Self {
            stagger: Duration::from_secs(2),
            per_hour: 600,
            probe_every: Duration::from_secs(30),
            probe_at_most: Duration::from_secs(5),
        }
    }
}

impl Default for Crash {
    fn default() -> Self {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        Self {
            backoff: Duration::from_secs(30),
            backoff_at_most: minutes(10),
            park_at: 5,
            within: minutes(15),
            forget_after: minutes(30),
        }
    }
}

impl Limits {
    /// These, and where they say nothing, `other`'s.
    pub fn or(self, other: Self) -> Self {
        Self {
            memory_high: self.memory_high.or(other.memory_high),
            memory_max: self.memory_max.or(other.memory_max),
            pids_max: self.pids_max.or(other.pids_max),
        }
    }

    /// A cap below which no agent can start is a mistake.
    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        const SMALLEST: Bytes = Bytes(1 << 20);
        for (key, value) in
            [("limits.memory_high", self.memory_high), ("limits.memory_max", self.memory_max)]
        {
            if let Some(value) = value.filter(|value| *value < SMALLEST) {
                return Err(Invalid::new(key, value, "at least 1MiB"));
            }
        }
        match self.pids_max {
            Some(few @ 0..=7) => Err(Invalid::new("limits.pids_max", few, "at least 8")),
            _ => Ok(()),
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        const HOUR: Duration = Duration::from_secs(3600);
        const DAY: Duration = Duration::from_secs(86_400);
        const MINUTE: Duration = Duration::from_secs(60);
        const SECOND: Duration = Duration::from_secs(1);
        let (starts, crash) = (&self.starts, &self.crash);
        for (key, value, least, most, valid) in [
            ("tick", self.tick, 2 * SECOND, 10 * MINUTE, "2s to 10min"),
            ("starts.stagger", starts.stagger, Duration::ZERO, 5 * MINUTE, "0s to 5min"),
            ("starts.probe_every", starts.probe_every, SECOND, 10 * MINUTE, "1s to 10min"),
            ("starts.probe_at_most", starts.probe_at_most, SECOND, MINUTE, "1s to 1min"),
            ("crash.backoff", crash.backoff, SECOND, HOUR, "1s to 1h"),
            (
                "crash.backoff_at_most",
                crash.backoff_at_most,
                crash.backoff,
                DAY,
                "from crash.backoff to 1d",
            ),
            ("crash.within", crash.within, MINUTE, DAY, "1min to 1d"),
            ("crash.forget_after", crash.forget_after, MINUTE, DAY, "1min to 1d"),
        ] {
            if value < least || value > most {
                return Err(Invalid::new(key, humantime::format_duration(value), valid));
            }
        }
        if !(1..=100_000).contains(&starts.per_hour) {
            return Err(Invalid::new("starts.per_hour", starts.per_hour, "1 to 100000"));
        }
        if !(1..=100).contains(&crash.park_at) {
            return Err(Invalid::new("crash.park_at", crash.park_at, "1 to 100"));
        }
        self.limits.validate()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use service::config::{Paths, load};

    use super::*;

    fn said(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("session-keeper.toml");
        std::fs::write(&file, text).unwrap();
        let paths = Paths { role: "".into(), file, dropins: "".into() };
        load::<Config>(&paths).unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_are_valid() {
        Config::default().validate().unwrap();
    }

    #[test]
    fn a_mistake_is_told_with_its_line_and_the_remedy() {
        for (text, place, remedy) in [
            ("\ntick = \"1s\"", ":2:1: tick = 1s", "2s to 10min"),
            ("[starts]\nper_hour = 0", ":2:1: starts.per_hour = 0", "1 to 100000"),
            ("[crash]\nbackof = \"1s\"", ":2:1:", "did you mean \"backoff\"?"),
            ("[crash]\nbackoff_at_most = \"2s\"", "crash.backoff_at_most = 2s", "crash.backoff"),
            ("[limits]\nmemory_max = \"4GB\"", ":2:14: limits.memory_max", "\"4GiB\""),
            ("[limits]\nmemory_max = 12", "limits.memory_max = 12", "1MiB"),
            ("[limits]\npids_max = 2", "limits.pids_max = 2", "at least 8"),
        ] {
            let said = said(text);
            assert!(said.contains(place) && said.contains(remedy), "{text}: {said}");
        }
    }
}
