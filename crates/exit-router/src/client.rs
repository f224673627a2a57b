//! What `guppy-vpn@NAME.service` runs: the client of one customer's VPN. In: the profile, the
//! credentials that systemd hands over, and what the customer's server says, which is hostile. Out:
//! an interface of the tunnels' group that is up and has addresses, and READY=1 once it carries.
//!
//! **Architecture Invariant:** it makes one interface with addresses of /32 and /128, and nothing
//! else: no route, no rule, no resolver. What goes into the tunnel is the daemon's to say.

mod address;
mod base64;
mod openvpn;
mod refusals;
mod secret;
mod tunnel;
mod unit;
mod wireguard;
mod wrong;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use service::signals::{Signal, Signals};
use tracing::{error, info};

use crate::intent;
use crate::profile::{self, Kind};
use crate::rtnl::Handle;
use refusals::Refusals;
use secret::Secrets;

const USAGE: &str = "usage: exit-router-helper client NAME [--remove] [--profiles FOLDER] [--intent \
     FILE] (run by guppy-vpn@NAME.service)";

/// A server that is there has answered by then; else the unit begins anew, and looks its name up
/// again.
const CONNECT_AT_MOST: Duration = Duration::from_secs(90);

/// Why a client ended that nobody told to end.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It would end so again: systemd starts it again all the same, after 5 s.
    Failed(String),
    /// The customer's server has refused the login, or wants a code: a person has to come.
    Parked(String),
    /// The profile or a credential is wrong, or what the server pushes.
    Wrong(String),
}

impl Ended {
    /// sysexits.h's numbers, of which the unit names the last two in RestartPreventExitStatus.
    const fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Parked(_) => 77,
            Self::Wrong(_) => 78,
        }
    }
}

/// Where the client finds its things.
struct Places {
    profiles: PathBuf,
    intent: PathBuf,
    /// `$CREDENTIALS_DIRECTORY` (systemd.exec(5)).
    credentials: PathBuf,
    /// `$STATE_DIRECTORY`: refusals are counted over reboots.
    state: PathBuf,
    /// `$RUNTIME_DIRECTORY`: sockets.
    runtime: PathBuf,
    /// Only remove what a client that was killed has left.
    remove: bool,
}

/// All that a kind of client needs.
struct Context {
    /// The profile's name.
    name: String,
    interface: String,
    handle: Handle,
    secrets: Secrets,
    refusals: Refusals,
    runtime: PathBuf,
}

/// `exit-router-helper client NAME`, with the words after `client`.
pub fn main(words: &[&str]) -> ExitCode {
    let Some((name, places)) = arguments(words) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    service::journal::init("guppy-vpn");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(&name, places)),
        Err(error) => Err(Ended::Failed(error.to_string())),
    };
    let Err(ended) = ended else { return ExitCode::SUCCESS };
    let (event, why) = match &ended {
        Ended::Failed(why) => ("vpn-failed", why),
        Ended::Parked(why) => ("vpn-parked", why),
        Ended::Wrong(why) => ("vpn-config-error", why),
    };
    error!(guppy_event = event, guppy_profile = name, "{name}: {why}");
    // The line of `guppy vpn status`: it outlives the process.
    service::notify::status(why);
    ExitCode::from(ended.status())
}

fn arguments(words: &[&str]) -> Option<(String, Places)> {
    let mut words = words.iter();
    let name = words.next().filter(|name| !name.starts_with('-'))?;
    // With several, they are separated by colons.
    let folder = |variable: &str, default: &str| {
        let said = std::env::var(variable).ok().filter(|said| !said.is_empty());
        PathBuf::from(said.as_deref().and_then(|said| said.split(':').next()).unwrap_or(default))
    };
    let mut places = Places {
        profiles: profile::FOLDER.into(),
        intent: intent::FILE.into(),
        credentials: folder("CREDENTIALS_DIRECTORY", "/nonexistent"),
        state: folder("STATE_DIRECTORY", "/var/lib/guppy-vpn"),
        runtime: folder("RUNTIME_DIRECTORY", "/run/guppy-vpn"),
        remove: false,
    };
    while let Some(word) = words.next() {
        match *word {
            "--profiles" => places.profiles = words.next()?.into(),
            "--remove" => places.remove = true,
            "--intent" => places.intent = words.next()?.into(),
            _ => return None,
        }
    }
    Some(((*name).to_owned(), places))
}

/// That of another unit is not this one's to delete, and of a profile that cannot be read nobody
/// knows whose it is: its client has said what is wrong with it.
async fn remove(name: &str, places: &Places) -> Result<(), Ended> {
    match profile::load(&places.profiles, name) {
        Ok(profile) if profile.kind != Kind::Unit => {
            let handle = Handle::connect().map_err(|error| Ended::Failed(error.to_string()))?;
            tunnel::clear(&handle, &profile.interface(name)).await
        }
        _ => Ok(()),
    }
}

async fn run(name: &str, places: Places) -> Result<(), Ended> {
    if places.remove {
        return remove(name, &places).await;
    }
    let profile = profile::load(&places.profiles, name).map_err(Ended::Wrong)?;
    let failed = |error: std::io::Error| Ended::Failed(error.to_string());
    let interface = profile.interface(name);
    let handle = Handle::connect().map_err(failed)?;
    let context = Context {
        name: name.to_owned(),
        interface,
        handle,
        secrets: Secrets::new(places.credentials, name),
        refusals: Refusals::new(&places.state, name, &places.intent),
        runtime: places.runtime,
    };
    let mut signals = Signals::new().map_err(failed)?;
    service::notify::status("connecting");
    match profile.kind {
        Kind::WireGuard => wireguard::run(&context, &mut signals).await,
        Kind::OpenVpn => openvpn::run(&context, profile.interactive, &mut signals).await,
        Kind::Unit => unit::run(&context, &mut signals).await,
    }
}

/// Works until it ends by itself, or systemd says that it is to end.
async fn until_stopped(
    signals: &mut Signals,
    work: impl Future<Output = Ended>,
) -> Result<(), Ended> {
    let stopped = async { while signals.next().await != Signal::Stop {} };
    tokio::select! {
        ended = work => Err(ended),
        () = stopped => {
            service::notify::stopping();
            Ok(())
        }
    }
}

/// The tunnel carries.
fn ready(name: &str, status: &str) {
    info!(guppy_event = "vpn-connected", guppy_profile = name, "{name}: {status}");
    service::notify::status(status);
    service::notify::ready();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_a_name_and_two_places() {
        let of = |line: &str| arguments(&line.split_whitespace().collect::<Vec<_>>());
        assert!(of("").is_none() && of("--intent x").is_none() && of("acme --profiles").is_none());
        assert!(of("acme other").is_none());
        let (name, places) = of("acme --profiles /p --intent /i").unwrap_or_else(|| panic!());
        assert_eq!((name.as_str(), places.profiles), ("acme", "/p".into()));
        assert_eq!(places.intent, PathBuf::from("/i"));
    }

    #[test]
    fn a_person_has_to_come_for_two_ends_only() {
        let all =
            [Ended::Failed, Ended::Parked, Ended::Wrong].map(|end| end(String::new()).status());
        assert_eq!(all, [1, 77, 78]);
    }
}
