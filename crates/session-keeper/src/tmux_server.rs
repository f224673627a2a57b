//! The first process of guppy-tmux@USER.service: it divides the unit's control group, makes sure
//! that no other server has the user's socket, and becomes the tmux server.
//!
//! A server that a person has started before is never ended, and never shadowed: `tmux -D` would
//! become a client of it, fail, and be restarted for ever. This waits for its end instead, and says
//! so where `systemctl status` shows it.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use rustix::net::sockopt::socket_peercred;
use service::notify;

use crate::cgroup::Tree;
use crate::process::{Identity, has_ended};

/// Overrides the program, for tests.
const TMUX: &str = "GUPPY_TMUX";

/// What of systemd's environment the server may have, and so every pane that is opened later.
/// XDG_RUNTIME_DIR and DBUS_SESSION_BUS_ADDRESS are not here, whoever set them: with these, tmux
/// 3.4 and later moves each pane out of the unit, into a scope of the user's own manager.
const KEPT: [&str; 9] =
    ["HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TMUX_TMPDIR", "TERM"];

/// The program, from its arguments: `--stopping` is the unit's ExecStop=.
pub fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let done = match (words.next(), words.next()) {
        (None, None) => serve(),
        (Some(word), None) if word == "--stopping" => {
            Tree::of_this_unit().and_then(|tree| tree.mark_stopping())
        }
        _ => {
            eprintln!("usage: guppy-tmux-server [--stopping] (run by guppy-tmux@USER.service)");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Becomes the server; returns only when that fails.
fn serve() -> io::Result<()> {
    let tree = Tree::of_this_unit()?;
    let missing = tree.prepare().map_err(|error| {
        let root = tree.path().display();
        let what = format!("cannot divide {root}: {error}: the unit needs Delegate=memory pids");
        io::Error::new(error.kind(), what)
    })?;
    for controller in missing {
        eprintln!("limits of agents are not kept: {controller}");
    }
    let socket = socket()?;
    while let Some(server) = server_at(&socket)? {
        wait_for(&server, &socket)?;
    }
    notify::status("the tmux server of this user");
    notify::ready();
    let tmux = std::env::var_os(TMUX).unwrap_or_else(|| "tmux".into());
    let mut command = Command::new(&tmux);
    command.arg("-D").env_clear().envs(kept(std::env::vars_os()));
    let error = command.exec();
    Err(io::Error::new(error.kind(), format!("{}: {error}", Path::new(&tmux).display())))
}

fn kept(own: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let is_kept = |name: &OsStr| {
        KEPT.iter().any(|kept| name == OsStr::new(kept))
            || [b"LC_".as_slice(), b"GUPPY_"].iter().any(|begin| name.as_bytes().starts_with(begin))
    };
    own.filter(|(name, _)| is_kept(name)).collect()
}

/// The user's default socket (tmux(1), -L and TMUX_TMPDIR).
fn socket() -> io::Result<PathBuf> {
    let folder = std::env::var_os("TMUX_TMPDIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
    // tmux resolves it too, and calls a relative one an error.
    let folder = fs::canonicalize(folder)?;
    Ok(folder.join(format!("tmux-{}/default", rustix::process::getuid().as_raw())))
}

/// Who serves there already; None: nobody. A socket that nobody serves any more is tmux's to
/// replace.
fn server_at(socket: &Path) -> io::Result<Option<Identity>> {
    let stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(error) if is_nobody(&error) => return Ok(None),
        Err(error) => {
            let what = format!("{}: {error}", socket.display());
            return Err(io::Error::new(error.kind(), what));
        }
    };
    let peer = socket_peercred(&stream)?;
    // In /tmp whoever comes first makes the folder. Another user's server is none to wait for.
    if peer.uid != rustix::process::getuid() {
        let what = format!(
            "{} is a socket of uid {}: have root remove its folder",
            socket.display(),
            peer.uid.as_raw()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
    }
    let pid = peer.pid.as_raw_pid().unsigned_abs();
    match Identity::of(pid) {
        Ok(server) => Ok(Some(server)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}

/// Waits for its end. The unit counts as started meanwhile: what is ordered after it must not hang.
fn wait_for(server: &Identity, socket: &Path) -> io::Result<()> {
    let pid = server.pid;
    let socket = socket.display();
    let text = format!(
        "waiting: a tmux server that was started by hand (pid {pid}) has {socket}, and agents in it would end with it. \
         When you can spare its sessions: tmux kill-server"
    );
    eprintln!("{text}");
    notify::status(&text);
    notify::ready();
    if let Some(handle) = server.open()? {
        while !has_ended(&handle, Duration::from_secs(3600))? {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_gets_no_bus_and_nothing_of_systemds() {
        let own = [
            "HOME",
            "PATH",
            "LC_ALL",
            "XDG_RUNTIME_DIR",
            "DBUS_SESSION_BUS_ADDRESS",
            "NOTIFY_SOCKET",
            "INVOCATION_ID",
            "JOURNAL_STREAM",
            "MEMORY_PRESSURE_WATCH",
            "SYSTEMD_EXEC_PID",
        ];
        let own = own.iter().map(|name| (OsString::from(name), OsString::from("x")));
        let names: Vec<_> = kept(own).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["HOME", "PATH", "LC_ALL"]);
    }
}
