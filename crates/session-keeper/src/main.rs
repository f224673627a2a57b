//! guppy-session-keeper: the wiring. Look, decide, act; once a tick, and sooner when a hook rings.

use std::cell::RefCell;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use guppy_session_keeper::alone;
use guppy_session_keeper::config::Config;
use guppy_session_keeper::keeper::Keeper;
use guppy_session_keeper::paths::{LIBEXEC, Paths};
use guppy_session_keeper::round::Round;
use guppy_session_keeper::sense::Looker;
use guppy_session_keeper::serve::{INTERFACE, LIMITS, Service};
use service::clock::Clock;
use service::config::Live;
use service::signals::Signals;
use service::socket::{listen, serve};
use service::{args, notify};
use tokio::sync::Notify;
use tokio::task::LocalSet;
use tracing::{error, info};

const ABOUT: args::Daemon = args::Daemon {
    name: "session-keeper",
    version: env!("CARGO_PKG_VERSION"),
    about: "Keeps every agent of its user in a tmux session, and in its conversation after a reboot",
};

fn main() -> ExitCode {
    ABOUT.main::<Config, _>(async |args| LocalSet::new().run_until(run(args)).await)
}

async fn run(args: args::Args) -> Result<(), String> {
    let listener = listen(args.socket.as_deref());
    let mut paths = Paths::of_this_user().map_err(|error| error.to_string())?;
    if let Some(socket) = args.socket {
        paths.socket = socket;
    }
    let config = Live::<Config>::start(args.config, None);
    if let Some(wrong) = config.error() {
        error!(guppy_event = "config-error", "{wrong}");
    }
    let _alone = alone::take(&paths.state)?;
    let looker = Looker::of_this_user(paths)?;
    let libexec =
        std::env::var_os(LIBEXEC).map_or_else(|| "/usr/libexec/guppy".into(), PathBuf::from);
    let mut keeper = Keeper::new(Clock::Kernel, config, looker, libexec);
    // Before anybody is answered; what is wrong with it the first look says.
    let _ = keeper.read();
    info!(guppy_event = "started", "keeping the sessions of {}", keeper.paths().config.display());
    let keeper = Rc::new(RefCell::new(keeper));
    let wake = Rc::new(Notify::new());
    let service = Service::new(Rc::clone(&keeper), Rc::clone(&wake));
    let mut round = Round::new(keeper, wake).map_err(|error| error.to_string())?;
    let signals = Signals::new().map_err(|error| error.to_string())?;
    notify::ready();
    tokio::select! {
        () = serve(listener, service, INTERFACE, LIMITS) => {}
        () = round.go_on(signals) => {}
    }
    notify::stopping();
    Ok(())
}
