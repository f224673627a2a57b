//! One file per verb. A verb takes its arguments and gives a [`Report`] or a [`Failure`]; it
//! prints nothing itself.

use std::future::Future;

use crate::cli::{Cli, Verb};
use crate::report::{Code, Failure, Report};

pub mod doctor;
pub mod hold;
pub mod idle;
pub mod release;
pub mod session;
pub mod status;
pub mod vpn;

/// Runs the verb that was asked for.
///
/// # Errors
/// What the verb could not do, and the exit status for it.
pub fn run(cli: Cli) -> Result<Report, Failure> {
    let socket = cli.socket.as_deref();
    match cli.verb {
        Verb::Status => wait_for(status::run(socket)),
        Verb::Idle => wait_for(idle::run(socket)),
        Verb::Hold(hold) => hold::run(socket, hold),
        Verb::Release { id } => wait_for(release::run(socket, id)),
        Verb::Doctor => wait_for(doctor::run(socket)),
        Verb::Vpn(verb) => wait_for(vpn::run(socket, verb)),
        Verb::Session(verb) => session::run(socket, verb),
    }
}

/// Runs `work` to its end. The runtime goes with it, so that `guppy hold` can become its command
/// with nothing left open.
fn wait_for<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Code::Failed, format!("cannot wait for anything: {error}")))?
        .block_on(work)
}
