//! The Varlink socket: taken from systemd or bound by path, and served so that no client can hang,
//! end or bloat the daemon.

mod caller;
mod connection;
mod serve;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::sockopt;

pub use caller::{Caller, group_id, user_name};
pub use connection::Stream;
pub use serve::{Limits, serve};

/// A socket that listens.
#[derive(Debug)]
pub struct Listener(tokio::net::UnixListener);

/// What a service offers, besides `org.varlink.service`.
#[derive(Clone, Copy, Debug)]
pub struct Interface {
    /// `dev.guppy.Something`.
    pub name: &'static str,
    /// The methods' names as on the wire, without the interface. One that is left out is not found.
    pub methods: &'static [&'static str],
}

/// Why there is no socket to serve.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Neither systemd nor the command line names one.
    #[error(
        "no socket was handed over: start the daemon through its .socket unit, or say --socket PATH"
    )]
    None,
    /// The unit hands over the wrong thing.
    #[error(
        "the socket handed over (LISTEN_FDS, first one) {0}: the .socket unit must say ListenStream= with a path"
    )]
    HandedOver(String),
    /// Somebody serves there.
    #[error("{0}: another process listens there: end it, or say another --socket")]
    Taken(String),
    /// The kernel refuses.
    #[error("cannot listen on {0}: {1}")]
    Bind(String, io::Error),
}

/// The socket at `path` if there is one on the command line, else the one that systemd handed over
/// (sd_listen_fds(3)). Call it once, within the tokio runtime, before any other thread exists: it
/// takes `$LISTEN_FDS` out of the environment.
///
/// # Errors
/// [`SocketError`], with what to do.
pub fn listen(path: Option<&Path>) -> Result<Listener, SocketError> {
    match path {
        Some(path) => bind(path),
        None => handed_over(listenfd::ListenFd::from_env()),
    }
}

fn handed_over(mut handed: listenfd::ListenFd) -> Result<Listener, SocketError> {
    let wrong = |error: io::Error| SocketError::HandedOver(error.to_string());
    let listener = handed.take_unix_listener(0).map_err(wrong)?.ok_or(SocketError::None)?;
    if !sockopt::socket_acceptconn(listener.as_fd()).map_err(|error| wrong(error.into()))? {
        return Err(SocketError::HandedOver("does not listen".to_owned()));
    }
    adopt(listener).map_err(wrong)
}

/// Binds `path`. A socket file that nobody listens on, as a killed daemon leaves it, is replaced;
/// anything else that is there stays.
fn bind(path: &Path) -> Result<Listener, SocketError> {
    let failed = |error: io::Error| SocketError::Bind(path.display().to_string(), error);
    let bound = match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            match UnixStream::connect(path) {
                // Not a socket gives ConnectionRefused too.
                Err(error)
                    if error.kind() == io::ErrorKind::ConnectionRefused && is_socket(path) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
                Ok(_) => return Err(SocketError::Taken(path.display().to_string())),
            }
            std::fs::remove_file(path).map_err(failed)?;
            UnixListener::bind(path).map_err(failed)?
        }
        bound => bound.map_err(failed)?,
    };
    adopt(bound).map_err(failed)
}

fn is_socket(path: &Path) -> bool {
    use std::os::unix::fs::FileTypeExt;

    path.symlink_metadata().is_ok_and(|metadata| metadata.file_type().is_socket())
}

fn adopt(listener: UnixListener) -> io::Result<Listener> {
    listener.set_nonblocking(true)?;
    tokio::net::UnixListener::from_std(listener).map(Listener)
}
