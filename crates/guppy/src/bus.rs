//! What systemd, logind and timedated say over D-Bus. Every answer is bounded in time: a bus that
//! hangs must not take `guppy doctor` with it.

use std::future::Future;

use zbus::{Connection, OwnedObjectPath, OwnedVariant};

use crate::agent::DEADLINE;

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// A bus that could not be asked, in words.
pub type Answer<T> = Result<T, String>;

/// A unit as systemd sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// `loaded`, `not-found`, `masked`, …
    pub load: String,
    /// `active`, `failed`, …
    pub active: String,
    /// `running`, `auto-restart`, …
    pub sub: String,
    /// `enabled`, `disabled`, …; empty without a file.
    pub file: String,
    /// It was to be started, and a condition of its own did not hold (systemd.unit(5), Condition…=).
    pub is_skipped: bool,
}

/// One of logind's locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Colon-separated: `shutdown:idle`.
    pub what: String,
    /// Who took it, in their words.
    pub who: String,
    /// Why, in their words.
    pub why: String,
    /// `block` or `delay`.
    pub mode: String,
    /// The process that holds it.
    pub pid: u32,
}

/// The system bus.
#[derive(Debug)]
pub struct Bus(Connection);

impl Bus {
    /// Connects.
    ///
    /// # Errors
    /// There is no bus, or it hangs.
    pub async fn connect() -> Answer<Self> {
        bounded(Connection::system()).await.map(Self)
    }

    /// The state of `unit`.
    ///
    /// # Errors
    /// systemd does not answer.
    pub async fn unit(&self, unit: &str) -> Answer<Unit> {
        let reply = bounded(self.0.call_method(
            Some(SYSTEMD),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "LoadUnit",
            &unit,
        ))
        .await?;
        let path: OwnedObjectPath = reply.body().deserialize().map_err(|e| e.to_string())?;
        let property =
            |name| self.property(SYSTEMD, path.as_str(), "org.freedesktop.systemd1.Unit", name);
        let text = async |name| {
            String::try_from(property(name).await?).map_err(|error| format!("{name}: {error}"))
        };
        // Of one that was never to be started the result is no, too.
        let asked = u64::try_from(property("ConditionTimestampMonotonic").await?);
        let held = bool::try_from(property("ConditionResult").await?);
        Ok(Unit {
            is_skipped: asked.is_ok_and(|asked| asked > 0) && held.is_ok_and(|held| !held),
            load: text("LoadState").await?,
            active: text("ActiveState").await?,
            sub: text("SubState").await?,
            file: text("UnitFileState").await?,
        })
    }

    /// The units that systemd has loaded whose names fit `pattern`, each with its ActiveState and
    /// SubState, by name.
    ///
    /// # Errors
    /// systemd does not answer.
    pub async fn units(&self, pattern: &str) -> Answer<Vec<(String, (String, String))>> {
        type Listed = (
            String,
            String,
            String,
            String,
            String,
            String,
            OwnedObjectPath,
            u32,
            String,
            OwnedObjectPath,
        );
        let every_state: [&str; 0] = [];
        let reply = bounded(self.0.call_method(
            Some(SYSTEMD),
            "/org/freedesktop/systemd1",
            Some("org.freedesktop.systemd1.Manager"),
            "ListUnitsByPatterns",
            &(every_state.as_slice(), [pattern].as_slice()),
        ))
        .await?;
        let listed: Vec<Listed> = reply.body().deserialize().map_err(|e| e.to_string())?;
        let mut units: Vec<_> = listed.into_iter().map(|unit| (unit.0, (unit.3, unit.4))).collect();
        units.sort();
        Ok(units)
    }

    /// The locks that somebody holds on shutdown, sleep and the like.
    ///
    /// # Errors
    /// logind does not answer.
    pub async fn locks(&self) -> Answer<Vec<Lock>> {
        let reply = bounded(self.0.call_method(
            Some("org.freedesktop.login1"),
            "/org/freedesktop/login1",
            Some("org.freedesktop.login1.Manager"),
            "ListInhibitors",
            &(),
        ))
        .await?;
        let locks: Vec<(String, String, String, String, u32, u32)> =
            reply.body().deserialize().map_err(|error| error.to_string())?;
        Ok(locks
            .into_iter()
            .map(|(what, who, why, mode, _uid, pid)| Lock { what, who, why, mode, pid })
            .collect())
    }

    /// Whether the wall clock follows a time server.
    ///
    /// # Errors
    /// timedated does not answer; it is started when asked.
    pub async fn clock_is_synchronised(&self) -> Answer<bool> {
        const TIMEDATE: &str = "org.freedesktop.timedate1";
        let value = self
            .property(TIMEDATE, "/org/freedesktop/timedate1", TIMEDATE, "NTPSynchronized")
            .await?;
        bool::try_from(value).map_err(|error| error.to_string())
    }

    async fn property(
        &self,
        service: &str,
        path: &str,
        interface: &str,
        name: &str,
    ) -> Answer<OwnedVariant> {
        let reply = bounded(self.0.call_method(
            Some(service),
            path,
            Some("org.freedesktop.DBus.Properties"),
            "Get",
            &(interface, name),
        ))
        .await?;
        reply.body().deserialize().map_err(|error| format!("{name}: {error}"))
    }
}

async fn bounded<T>(question: impl Future<Output = zbus::Result<T>>) -> Answer<T> {
    match tokio::time::timeout(DEADLINE, question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
    }
}
