//! guppy-idle-stopper: the wiring. Sense, decide, act; once a tick, and sooner when something
//! falls due.

#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::process::ExitCode;
use std::rc::Rc;

use idle_stopper::config::Config;
use idle_stopper::daemon::Daemon;
use idle_stopper::round::Round;
use idle_stopper::serve::{INTERFACE, Service};
use service::clock::Clock;
use service::config::Live;
use service::socket::{Limits, listen, serve};
use service::{args, notify};
use tokio::sync::Notify;
use tracing::{error, info};

const ABOUT: args::Daemon = args::Daemon {
    name: "idle-stopper",
    version: env!("CARGO_PKG_VERSION"),
    about: "Stops its own box after a time in which nothing worked and nobody typed",
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
    info!(guppy_event = "started", "watching, mode {}", config.config().mode.as_str());
    let daemon = Daemon::start(Clock::Kernel, config, args.state_dir);
    let daemon = Rc::new(RefCell::new(daemon));
    let wake = Rc::new(Notify::new());
    let service = Service::new(Rc::clone(&daemon), Rc::clone(&wake));
    let mut round = Round::new(daemon, wake).map_err(|error| error.to_string())?;
    notify::ready();
    tokio::select! {
        () = serve(listener, service, INTERFACE, Limits::default()) => {}
        () = round.go_on() => {}
    }
    notify::stopping();
    Ok(())
}
