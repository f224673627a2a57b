//! The units of VPN clients, as systemd tells of them over D-Bus (org.freedesktop.systemd1(5)).
//! systemd says when a job of one ends, and whatever changes of the one that is watched; between two
//! changes nothing is asked.

use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

use futures_util::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc::{self, Receiver, Sender, WeakSender};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use zbus::message::Type;
use zbus::{
    Connection, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant,
};

use super::Unit;

/// A bus that answers at all answers within this.
const ANSWER_AT_MOST: Duration = Duration::from_secs(20);

const SYSTEMD: &str = "org.freedesktop.systemd1";

/// What systemd's ListUnits gives for each: name, description, load, active and sub state, the unit
/// it follows, its object, and of a job the id, the type and the object.
type Listed =
    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

const MANAGER: (&str, &str) = ("/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager");
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// systemd, and what it says of the clients' units.
#[derive(Debug)]
pub struct Units {
    bus: Connection,
    heard: Receiver<()>,
    hearing: WeakSender<()>,
    /// The profile whose unit is watched, and the task that hears of it.
    watched: Option<(String, AbortHandle)>,
}

impl Units {
    /// Connects, and has systemd tell of changes.
    ///
    /// # Errors
    /// For people: there is no bus, or no systemd on it.
    pub async fn connect() -> Result<Self, String> {
        within("the system bus", async {
            let bus = Connection::system().await?;
            let jobs = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender(SYSTEMD)
                .interface(MANAGER.1)
                .member("JobRemoved")
                .build()?;
            let jobs = MessageStream::for_match_rule(jobs, &bus, None).await?;
            // One that waits to be heard is as good as many.
            let (hear, heard) = mpsc::channel(1);
            let hearing = hear.downgrade();
            tokio::spawn(listen(jobs, of_client, hear));
            call(&bus, MANAGER, "Subscribe", &()).await?;
            Ok(Self { bus, heard, hearing, watched: None })
        })
        .await
    }

    /// Has systemd tell of whatever changes of a profile's unit, its client's status among it, and of
    /// no other's any more. One that is watched already still is.
    ///
    /// # Errors
    /// For people: what the bus says.
    pub async fn watch(&mut self, profile: &str) -> Result<(), String> {
        if self.watched.as_ref().is_some_and(|(watched, _)| watched == profile) {
            return Ok(());
        }
        let changes = within("the system bus", async {
            let rule = MatchRule::builder()
                .msg_type(Type::Signal)
                .sender(SYSTEMD)
                .path(path_of(&crate::profile::unit(profile)))
                .interface(PROPERTIES)
                .member("PropertiesChanged")
                .build()?;
            MessageStream::for_match_rule(rule, &self.bus, None).await
        })
        .await?;
        let hear = self.hearing.upgrade().ok_or("the system bus has ended")?;
        let task = tokio::spawn(listen(changes, |_| true, hear)).abort_handle();
        if let Some((_, old)) = self.watched.replace((profile.to_owned(), task)) {
            old.abort();
        }
        Ok(())
    }

    /// The units that are loaded.
    ///
    /// # Errors
    /// For people: what systemd says.
    pub async fn read(&self) -> Result<Vec<Unit>, String> {
        within("systemd's units", async {
            let (states, patterns): (&[&str], _) = (&[], &["guppy-vpn@*.service"][..]);
            let listed =
                call(&self.bus, MANAGER, "ListUnitsByPatterns", &(states, patterns)).await?;
            let listed: Vec<Listed> = listed.body().deserialize()?;
            let mut units = Vec::new();
            for (name, _, _, active, _, _, path, ..) in listed {
                let profile =
                    name.strip_prefix("guppy-vpn@").and_then(|name| name.strip_suffix(".service"));
                let Some(profile) = profile else { continue };
                units.push(Unit {
                    profile: profile.to_owned(),
                    active,
                    status: self.property(&path, "StatusText").await?.try_into()?,
                    exit_status: self.property(&path, "ExecMainStatus").await?.try_into()?,
                });
            }
            Ok(units)
        })
        .await
    }

    async fn property(&self, path: &str, name: &str) -> zbus::Result<OwnedVariant> {
        let asked = ("org.freedesktop.systemd1.Service", name);
        let answer = call(&self.bus, (path, PROPERTIES), "Get", &asked).await?;
        answer.body().deserialize()
    }

    /// Queues the start of a profile's client.
    ///
    /// # Errors
    /// For people: what systemd or polkit says.
    pub async fn start(&self, profile: &str) -> Result<(), String> {
        let unit = crate::profile::unit(profile);
        within(&format!("start of {unit}"), async {
            call(&self.bus, MANAGER, "StartUnit", &(unit.as_str(), "replace")).await.map(drop)
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
            call(&self.bus, MANAGER, "StopUnit", &(unit.as_str(), "replace")).await.map(drop)
        })
        .await
    }

    /// Ends when systemd has said something about a client's unit; false: it will say nothing more.
    /// Cancel safe.
    pub async fn next(&mut self) -> bool {
        self.heard.recv().await.is_some()
    }
}

/// Takes signals as they come: one that nobody took would keep the answer behind it from whoever asks.
async fn listen(mut signals: MessageStream, is_hint: fn(&Message) -> bool, hear: Sender<()>) {
    while let Some(Ok(message)) = signals.next().await {
        if is_hint(&message) {
            let _ = hear.try_send(());
        }
    }
}

/// JobRemoved has number, object, unit and result.
fn of_client(message: &Message) -> bool {
    message
        .body()
        .deserialize::<(u32, OwnedObjectPath, String, String)>()
        .is_ok_and(|(_, _, unit, _)| unit.starts_with("guppy-vpn@"))
}

/// A unit's object: what is no letter and no digit is escaped (sd_bus_path_encode(3)).
fn path_of(unit: &str) -> String {
    let mut path = String::from("/org/freedesktop/systemd1/unit/");
    for byte in unit.bytes() {
        // Writing to a String cannot fail.
        let _ = match byte {
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => write!(path, "{}", char::from(byte)),
            other => write!(path, "_{other:02x}"),
        };
    }
    path
}

/// One method of an object's interface. Without zbus's proxies, which bring a cache of properties and
/// a stream of their changes for every object.
async fn call<B>(
    bus: &Connection,
    (path, interface): (&str, &str),
    method: &str,
    body: &B,
) -> zbus::Result<Message>
where
    B: Serialize + DynamicType,
{
    bus.call_method(Some(SYSTEMD), path, Some(interface), method, body).await
}

async fn within<T>(what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T, String> {
    match timeout(ANSWER_AT_MOST, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: no answer within {} s", ANSWER_AT_MOST.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_units_object_is_named_as_systemd_names_it() {
        // As busctl(1) lists it.
        let path = "/org/freedesktop/systemd1/unit/guppy_2dvpn_40acme_2d2_2eservice";
        assert_eq!(path_of("guppy-vpn@acme-2.service"), path);
    }
}
