//! What `guppy-vpn@NAME.service` runs: makes the tunnel's interface, runs the customer's VPN on it,
//! and takes nothing of this box's own routes, rules and names. It runs as a user of its own, and
//! what comes from the customer's server is not believed.

mod address;
mod device;
mod openvpn;
mod openvpn_config;
mod openvpn_management;
mod refusals;
mod unit;
mod wireguard;
mod wireguard_config;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tracing::{error, info};

use crate::decide::{EXIT_CONFIG, EXIT_PARKED};
use crate::intent::{self, Intent};
use crate::profile::{self, Kind, Profile};
use device::Device;

/// A credential of this unit (systemd.exec(5)). Each may be plain, by this word, or encrypted, by
/// `guppy-vpn-NAME.WORD`, the name that is encrypted with it.
const CONFIG: &str = "conf";
const AUTH: &str = "auth";
const CODE: &str = "code";
/// No honest config or key is longer.
const SECRET_AT_MOST: usize = 1 << 20;

/// Why the client ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was told to.
    Stopped,
    /// Something that may be better next time: systemd starts it again.
    Again(String),
    /// The customer's server has refused the login twice.
    Parked(String),
    /// Nobody can work with this config.
    Config(String),
}

/// Runs the client of a profile until it is told to end.
pub fn main(name: &str) -> ExitCode {
    service::journal::init("guppy-vpn");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(name)),
        Err(error) => Ended::Again(error.to_string()),
    };
    service::notify::stopping();
    let (status, why) = match ended {
        Ended::Stopped => return ExitCode::SUCCESS,
        Ended::Again(why) => (1, why),
        Ended::Parked(why) => (EXIT_PARKED, why),
        Ended::Config(why) => (EXIT_CONFIG, why),
    };
    error!(guppy_event = "vpn-ended", "{name}: {why}");
    service::notify::status(&why);
    ExitCode::from(u8::try_from(status).unwrap_or(1))
}

async fn run(name: &str) -> Ended {
    let profile = match profile::load(Path::new(profile::FOLDER), name) {
        Ok(profile) => profile,
        Err(why) => return Ended::Config(why),
    };
    let device = match Device::new(profile.interface(name)) {
        Ok(device) => device,
        Err(error) => return Ended::Again(format!("netlink: {error}")),
    };
    let ended = match profile.kind {
        Kind::WireGuard => wireguard::run(name, &device).await,
        Kind::OpenVpn => openvpn_of(name, &profile, &device).await,
        Kind::Unit => unit::run(&device).await,
    };
    if let Ended::Stopped = ended {
        info!(guppy_event = "vpn-ended", "{name}: ended");
    }
    if profile.kind != Kind::Unit
        && let Err(why) = device.delete().await
    {
        error!("{name}: {why}");
    }
    ended
}

async fn openvpn_of(name: &str, profile: &Profile, device: &Device) -> Ended {
    let asked = match Intent::read(Path::new(intent::FILE)) {
        Ok(intent) => intent.asked,
        Err(why) => return Ended::Again(why),
    };
    let refusals = match refusals::Refusals::read(name, asked) {
        Ok(refusals) => refusals,
        Err(why) => return Ended::Again(why),
    };
    if refusals.is_parked() {
        return Ended::Parked("the customer's server has refused the login twice".to_owned());
    }
    openvpn::run(name, device, profile, refusals).await
}

/// The text of a credential; None: root has given none.
///
/// # Errors
/// For people: it cannot be read, or is no text.
fn secret(name: &str, word: &str) -> Result<Option<String>, String> {
    let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) else {
        return Ok(None);
    };
    for id in [format!("guppy-vpn-{name}.{word}"), word.to_owned()] {
        let text = service::state::read(&folder.join(&id), SECRET_AT_MOST)
            .map_err(|error| format!("credential {id}: {error}"))?;
        if text.is_some() {
            return Ok(text);
        }
    }
    Ok(None)
}

/// The config file of a profile.
fn config(name: &str) -> Result<String, Ended> {
    let missing = || {
        Ended::Config(format!(
            "there is no config: put the customer's file as guppy-vpn-{name}.conf into /etc/credstore \
             (mode 0600)"
        ))
    };
    secret(name, CONFIG).map_err(Ended::Config)?.ok_or_else(missing)
}
