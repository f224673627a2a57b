//! guppy-exit-router: the wiring. Sense, decide, act; whenever something changes.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;

use exit_router::config::Config;
use exit_router::daemon::Daemon;
use exit_router::round::Round;
use exit_router::serve::{INTERFACE, Service};
use exit_router::{intent, profile};
use service::clock::Clock;
use service::config::Live;
use service::socket::{Limits, listen, serve};
use service::{args, notify};
use tokio::sync::Notify;
use tracing::{error, info};

const ABOUT: args::Daemon = args::Daemon {
    name: "exit-router",
    version: env!("CARGO_PKG_VERSION"),
    about: "Sends what peers of a tailnet send through this box into a customer's VPN, or nowhere",
};

fn main() -> ExitCode {
    ABOUT.main::<Config, _>(run)
}

async fn run(args: args::Args) -> Result<(), String> {
    let listener = listen(args.socket.as_deref());
    let last_good = args.state_dir.join("config.toml");
    let config = Live::<Config>::start(args.config, Some(last_good));
    if let Some(wrong) = config.error() {
        error!(guppy_event = "config-error", "{wrong}");
    }
    let (intent, profiles) = (Path::new(intent::FILE), Path::new(profile::FOLDER));
    let daemon = Daemon::start(Clock::Kernel, config, intent, profiles);
    info!(
        guppy_event = "started",
        "{} asked for",
        daemon.intent.profile.as_deref().unwrap_or("no tunnel is")
    );
    let daemon = Rc::new(RefCell::new(daemon));
    let wake = Rc::new(Notify::new());
    let service = Service::new(Rc::clone(&daemon), Rc::clone(&wake));
    let mut round = Round::new(daemon, wake).await.map_err(|error| error.to_string())?;
    round.look().await;
    notify::ready();
    let ended = tokio::select! {
        () = serve(listener, service, INTERFACE, Limits::default()) => Ok(()),
        ended = round.go_on() => ended.map_err(|error| error.to_string()),
    };
    notify::stopping();
    ended
}
