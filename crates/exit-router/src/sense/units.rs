//! The units of VPN clients, as systemd tells of them over D-Bus (org.freedesktop.systemd1(5)).
//! systemd says when one of them changes; between two changes nothing is asked.

use std::future::Future;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::time::timeout;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

use super::Unit;

/// A bus that answers at all answers within this.
const ANSWER_AT_MOST: Duration = Duration::from_secs(20);

/// What systemd's ListUnits gives for each: name, description, load, active and sub state, the unit
/// it follows, its object, and of a job the id, the type and the object.
type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn list_units_by_patterns(
        &self,
        states: &[&str],
        patterns: &[&str],
    ) -> zbus::Result<Vec<Listed>>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Service",
    default_service = "org.freedesktop.systemd1"
)]
trait Service {
    #[zbus(property(emits_changed_signal = "false"))]
    fn status_text(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_main_status(&self) -> zbus::Result<i32>;
}

/// systemd, and what it says of the clients' units.
#[derive(Debug)]
pub struct Units {
    bus: Connection,
    signals: MessageStream,
}

impl Units {
    /// Connects, and has systemd tell of changes.
    ///
    /// # Errors
    /// For people: there is no bus, or no systemd on it.
    pub async fn connect() -> Result<Self, String> {
        within("the system bus", async {
            let bus = Connection::system().await?;
            // Those of a template's instances share a beginning, which no other unit's path has. '@'
            // and '-' are escaped in it (sd_bus_path_encode(3)), so it ends before '@'.
            let rule = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender("org.freedesktop.systemd1")
                .interface("org.freedesktop.systemd1.Manager")
                .member("JobRemoved")
                .build()?;
            let signals = MessageStream::for_match_rule(rule, &bus, NonZeroUsize::new(16)).await?;
            ManagerProxy::new(&bus).await?.subscribe().await?;
            Ok(Self { bus, signals })
        })
        .await
    }

    /// The units that are loaded.
    ///
    /// # Errors
    /// For people: what systemd says.
    pub async fn read(&self) -> Result<Vec<Unit>, String> {
        within("systemd's units", async {
            let manager = ManagerProxy::new(&self.bus).await?;
            let listed = manager.list_units_by_patterns(&[], &["guppy-vpn@*.service"]).await?;
            let mut units = Vec::new();
            for (name, _, _, active, _, _, path, ..) in listed {
                let profile =
                    name.strip_prefix("guppy-vpn@").and_then(|name| name.strip_suffix(".service"));
                let Some(profile) = profile else { continue };
                let service = ServiceProxy::builder(&self.bus).path(path).build().await?;
                units.push(Unit {
                    profile: profile.to_owned(),
                    active,
                    status: service.status_text().await?,
                    exit_status: service.exec_main_status().await?,
                });
            }
            Ok(units)
        })
        .await
    }

    /// Queues the start of a profile's client.
    ///
    /// # Errors
    /// For people: what systemd or polkit says.
    pub async fn start(&self, profile: &str) -> Result<(), String> {
        let unit = crate::profile::unit(profile);
        within(&format!("start of {unit}"), async {
            ManagerProxy::new(&self.bus).await?.start_unit(&unit, "replace").await.map(drop)
        })
        .await
    }

    /// Queues its end.
    ///
    /// # Errors
    /// As those of [`Units::start`].
    pub async fn stop(&self, profile: &str) -> Result<(), String> {
        let unit = crate::profile::unit(profile);
        within(&format!("stop of {unit}"), async {
            ManagerProxy::new(&self.bus).await?.stop_unit(&unit, "replace").await.map(drop)
        })
        .await
    }

    /// Ends when systemd has said something about a client's unit; false: it will say nothing more.
    pub async fn next(&mut self) -> bool {
        while let Some(message) = self.signals.next().await {
            let Ok(message) = message else { return false };
            // JobRemoved: number, object, unit, result.
            let of_client = message
                .body()
                .deserialize::<(u32, OwnedObjectPath, String, String)>()
                .is_ok_and(|(_, _, unit, _)| unit.starts_with("guppy-vpn@"));
            if of_client {
                return true;
            }
        }
        false
    }
}

async fn within<T>(what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T, String> {
    match timeout(ANSWER_AT_MOST, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: no answer within {} s", ANSWER_AT_MOST.as_secs())),
    }
}
