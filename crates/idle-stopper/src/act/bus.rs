//! logind and systemd over D-Bus. A connection is made for each call and dropped after it: calls
//! are rare, and an open one costs memory all day. Every call has a deadline.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use zbus::OwnedObjectPath;
use zbus::connection::Builder;

/// A bus that answers at all answers within this.
const ANSWER_AT_MOST: Duration = Duration::from_secs(20);
/// Between two looks at a unit that is being waited for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Login {
    /// `interactive`: whether polkit may ask a person.
    fn power_off(&self, interactive: bool) -> zbus::Result<()>;
    fn can_power_off(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn get_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Unit",
    default_service = "org.freedesktop.systemd1"
)]
trait Unit {
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
}

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Job",
    default_service = "org.freedesktop.systemd1"
)]
trait Job {
    #[zbus(property(emits_changed_signal = "false"))]
    fn state(&self) -> zbus::Result<String>;
}

/// Has logind power the box off. Block locks are respected: `-ignore-inhibit` is not ours.
///
/// # Errors
/// Whatever logind says; on systemd 252 a lock is reported as ESTALE, on 257 as AccessDenied.
pub async fn power_off() -> Result<(), String> {
    power_off_over(Builder::system(), ANSWER_AT_MOST).await
}

async fn power_off_over(bus: Builder<'_>, at_most: Duration) -> Result<(), String> {
    within_time("logind PowerOff", at_most, async {
        let bus = bus.build().await?;
        LoginProxy::new(&bus).await?.power_off(false).await
    })
    .await
}

/// Whether logind would: `yes`, `no`, `challenge` (a rule is missing, or a lock is held), `na`.
///
/// # Errors
/// When logind cannot be asked.
pub async fn can_power_off() -> Result<String, String> {
    within("logind CanPowerOff", async {
        let bus = zbus::Connection::system().await?;
        LoginProxy::new(&bus).await?.can_power_off().await
    })
    .await
}

/// Has systemd start poweroff.target, which no lock of logind's stands against.
///
/// # Errors
/// Whatever systemd says.
pub async fn force_power_off() -> Result<(), String> {
    force_power_off_over(Builder::system(), ANSWER_AT_MOST).await
}

async fn force_power_off_over(bus: Builder<'_>, at_most: Duration) -> Result<(), String> {
    let name = super::POWER_OFF_UNIT;
    within_time("systemd StartUnit poweroff.target", at_most, async {
        let bus = bus.build().await?;
        ManagerProxy::new(&bus).await?.start_unit(name, "replace-irreversibly").await
    })
    .await
    .map(drop)
}

/// Queues the start of a unit.
///
/// # Errors
/// Whatever systemd says.
pub async fn start(unit: &str) -> Result<(), String> {
    within(unit, async {
        let bus = zbus::Connection::system().await?;
        ManagerProxy::new(&bus).await?.start_unit(unit, "replace").await
    })
    .await
    .map(drop)
}

/// Waits until a unit neither starts nor stops.
///
/// # Errors
/// Whatever systemd says, and that it still does after `at_most`.
pub async fn wait_until_settled(unit: &str, at_most: Duration) -> Result<(), String> {
    let deadline = Instant::now() + at_most;
    while let Some("activating" | "deactivating") = active_state(unit).await?.as_deref() {
        if Instant::now() >= deadline {
            return Err(format!("{unit} still runs after {at_most:?}"));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Starts a oneshot unit and waits until it has ended, well or not: until then its job lives.
///
/// # Errors
/// Whatever systemd says, and that the unit failed or still runs after `at_most`.
pub async fn start_and_wait(unit: &str, at_most: Duration) -> Result<(), String> {
    let deadline = Instant::now() + at_most;
    let bus = within("the system bus", zbus::Connection::system()).await?;
    let job =
        within(unit, async { ManagerProxy::new(&bus).await?.start_unit(unit, "replace").await })
            .await?;
    while within(unit, is_queued(&bus, &job)).await? {
        if Instant::now() >= deadline {
            return Err(format!("{unit} still runs after {at_most:?}"));
        }
        sleep(LOOK_EVERY).await;
    }
    match active_state(unit).await?.as_deref() {
        Some("failed") => Err(format!("{unit} failed (see: journalctl -u {unit})")),
        _ => Ok(()),
    }
}

/// Whether a job still waits or runs; one that has ended has no object any more.
async fn is_queued(bus: &zbus::Connection, job: &OwnedObjectPath) -> zbus::Result<bool> {
    match JobProxy::builder(bus).path(job).build().await?.state().await {
        Ok(_) => Ok(true),
        Err(zbus::Error::FDO(error)) if matches!(*error, zbus::fdo::Error::UnknownObject(_)) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

async fn active_state(unit: &str) -> Result<Option<String>, String> {
    within(unit, async {
        let bus = zbus::Connection::system().await?;
        let path = match ManagerProxy::new(&bus).await?.get_unit(unit).await {
            Ok(path) => path,
            Err(zbus::Error::MethodError(name, ..))
                if name.as_str() == "org.freedesktop.systemd1.NoSuchUnit" =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let unit = UnitProxy::builder(&bus).path(path).build().await?;
        unit.active_state().await.map(Some)
    })
    .await
}

async fn within<T>(what: &str, call: impl Future<Output = zbus::Result<T>>) -> Result<T, String> {
    within_time(what, ANSWER_AT_MOST, call).await
}

async fn within_time<T>(
    what: &str,
    at_most: Duration,
    call: impl Future<Output = zbus::Result<T>>,
) -> Result<T, String> {
    match timeout(at_most, call).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(format!("{what}: {error}")),
        Err(_) => Err(format!("{what}: no answer within {} s", at_most.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::sense::tests::bus::Bus;

    /// Each takes the order and says nothing: the loop gets an answer all the same, and orders anew.
    #[tokio::test]
    async fn a_logind_and_a_systemd_that_hang_are_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let bus = Bus::start(folder.path()).await;
        bus.known.lock().unwrap().hangs = true;
        let at_most = Duration::from_secs(3);
        let to = || Builder::address(bus.address.as_str());
        let why = power_off_over(to(), at_most).await.unwrap_err();
        assert_eq!(why, "logind PowerOff: no answer within 3 s");
        let why = force_power_off_over(to(), at_most).await.unwrap_err();
        assert_eq!(why, "systemd StartUnit poweroff.target: no answer within 3 s");
        assert_eq!(bus.known.lock().unwrap().calls, ["PowerOff", "StartUnit"]);
    }
}
