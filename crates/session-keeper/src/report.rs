//! What a shim tells the keeper of its agent: on disk first, because the keeper may be away, then
//! a hint to its socket, so that it looks at once.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde::{Deserialize, Serialize};

use crate::name::SessionName;
use crate::process::Identity;

/// The version of the file that this program writes.
pub const VERSION: u32 = 1;

/// How a refusal begins that is for a lock.
pub const LOCKED: &str = "locked: ";

/// A keeper that does not take a hint within this is not waited for.
const HINT_DEADLINE: Duration = Duration::from_secs(1);

/// A report is refused when it is larger; bytes.
const AT_MOST: usize = 64 * 1024;

/// How far a start has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The agent runs.
    Started,
    /// The agent ran, and has ended.
    Ended,
    /// There was no start: `refused` says why.
    Refused,
}

/// What became of one start of one session. Fields that this version does not know are skipped: a
/// shim lives through upgrades of the keeper, and either may be the newer one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// The session.
    pub name: String,
    /// The number of the start, as [`Launch`](crate::launch::Launch) has it; 0 when that could not
    /// be read.
    pub start: u64,
    /// How far it has come.
    pub phase: Phase,
    /// When, in milliseconds of CLOCK_BOOTTIME.
    pub at_boottime_ms: u64,
    /// Of which boot.
    pub boot_id: String,
    /// The shim, whose pid is the pane's too: signals go there.
    pub shim_pid: u32,
    /// When it began: see [`Identity::start_time`].
    pub shim_start_time: u64,
    /// The agent's process; None when there was none.
    pub pid: Option<u32>,
    /// When that began: see [`Identity::start_time`].
    pub start_time: Option<u64>,
    /// The folder of the agent's control group.
    pub cgroup: Option<String>,
    /// The conversation whose lock the shim holds, or held until the end.
    pub conversation: Option<String>,
    /// A conversation that the agent has gone to although another shim holds it, and who.
    pub conflict: Option<String>,
    /// Limits that are not kept, each with the reason.
    #[serde(default)]
    pub limits_not_kept: Vec<String>,
    /// Why the agent got the known environment, and not that of a login shell.
    pub environment: Option<String>,
    /// What the agent exited with.
    pub exit_code: Option<i32>,
    /// Or the signal that ended it.
    pub signal: Option<i32>,
    /// Whether an OOM killer ended the agent itself; None: unknown.
    pub oom_killed: Option<bool>,
    /// How many of the agent's processes OOM killers ended in this start; None: unknown.
    pub oom_kills: Option<u64>,
    /// The tmux unit or the machine was stopping when the agent ended, or its server had gone, so
    /// that no exit status is a clean exit.
    pub unit_stopping: bool,
    /// Of these, that the server had gone, and nobody was stopping it.
    #[serde(default)]
    pub server_gone: bool,
    /// The pane was closed before the agent ended, and the server has answered since.
    pub pane_closed: bool,
    /// Somebody asked the shim to end its agent (SIGTERM), and it was not systemd.
    pub asked: bool,
    /// Why there was no start, with what to do. It begins with [`LOCKED`] when another shim holds
    /// the session or its conversation.
    pub refused: Option<String>,
}

impl Report {
    /// A report of a start that has not got anywhere yet.
    ///
    /// # Errors
    /// Those of reading the boot id and /proc.
    pub fn new(name: &SessionName, start: u64) -> io::Result<Self> {
        let shim = Identity::of(std::process::id())?;
        Ok(Self {
            version: VERSION,
            name: name.to_string(),
            start,
            phase: Phase::Refused,
            at_boottime_ms: 0,
            boot_id: service::clock::boot_id()?,
            shim_pid: shim.pid,
            shim_start_time: shim.start_time,
            pid: None,
            start_time: None,
            cgroup: None,
            conversation: None,
            conflict: None,
            limits_not_kept: Vec::new(),
            environment: None,
            exit_code: None,
            signal: None,
            oom_killed: None,
            oom_kills: None,
            unit_stopping: false,
            server_gone: false,
            pane_closed: false,
            asked: false,
            refused: None,
        })
    }

    /// Reads a file; None: there is no such file.
    ///
    /// # Errors
    /// Those of reading it; `InvalidData` when it is no report of this version.
    pub fn read(path: &Path) -> io::Result<Option<Self>> {
        let Some(text) = service::state::read(path, AT_MOST)? else { return Ok(None) };
        let report: Self = serde_json::from_str(&text)?;
        if report.version != VERSION {
            let what = format!("version {}, not {VERSION}", report.version);
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        Ok(Some(report))
    }

    /// Stamps it with the time and writes it so that it outlives a power cut.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write(&mut self, path: &Path) -> io::Result<()> {
        self.at_boottime_ms = service::clock::Clock::Kernel.now().as_millis();
        service::state::write_durably(path, &serde_json::to_vec(self)?)
    }

    /// Sends it to the keeper, who need not be there and is not waited for.
    ///
    /// # Errors
    /// Nobody listens, or takes it within a second.
    pub fn hint(&self, socket: &Path) -> io::Result<()> {
        let mut stream = connect(socket)?;
        stream.write_all(&self.call()?)
    }

    /// A Varlink call that asks for no answer, with the NUL that ends it.
    fn call(&self) -> io::Result<Vec<u8>> {
        let call = serde_json::json!({
            "method": "dev.guppy.SessionKeeper.Report",
            "parameters": { "report": self },
            "oneway": true,
        });
        let mut bytes = serde_json::to_vec(&call)?;
        bytes.push(0);
        Ok(bytes)
    }
}

/// Connects within a deadline: a keeper that hangs leaves its queue full, and connect(2) would
/// wait in it for ever.
fn connect(path: &Path) -> io::Result<UnixStream> {
    let socket = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(HINT_DEADLINE))?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn what_is_written_is_read_also_by_an_older_and_a_newer_keeper() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.json");
        assert_eq!(Report::read(&path).unwrap(), None);
        let mut report = Report::new(&SessionName::parse("shop/fix").unwrap(), 7).unwrap();
        report.refused = Some("no".to_owned());
        report.write(&path).unwrap();
        assert!(report.at_boottime_ms > 0);
        assert_eq!(Report::read(&path).unwrap().as_ref(), Some(&report));

        let mut newer = serde_json::to_value(&report).unwrap();
        newer.as_object_mut().unwrap().insert("more".to_owned(), 1.into());
        std::fs::write(&path, newer.to_string()).unwrap();
        assert_eq!(Report::read(&path).unwrap(), Some(report));
        newer.as_object_mut().unwrap().insert("version".to_owned(), 2.into());
        std::fs::write(&path, newer.to_string()).unwrap();
        assert!(Report::read(&path).is_err());
    }

    #[test]
    fn a_hint_is_one_varlink_call_and_nobody_need_listen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        let report = Report::new(&SessionName::parse("shop/fix").unwrap(), 7).unwrap();
        assert!(report.hint(&path).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        report.hint(&path).unwrap();
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0));
        let call: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        let parameter = |name: &str| call.pointer(&format!("/parameters/report/{name}"));
        assert_eq!(call.pointer("/method").unwrap(), "dev.guppy.SessionKeeper.Report");
        assert_eq!(call.pointer("/oneway").unwrap(), true);
        assert_eq!(parameter("name").unwrap(), "shop/fix");
        assert_eq!(parameter("start").unwrap(), 7);
    }

    #[test]
    fn a_keeper_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        let report = Report::new(&SessionName::parse("shop/fix").unwrap(), 7).unwrap();
        let mut taken = Vec::new();
        // Until its queue is full.
        let refused = (0..10_000).find_map(|_| match connect(&path) {
            Ok(stream) => {
                taken.push(stream);
                None
            }
            Err(error) => Some(error),
        });
        assert!(refused.is_some(), "{} connections waited", taken.len());
        // Who waited for it would do so for ever: how long the deadline takes is the machine's to say.
        let (told, heard) = std::sync::mpsc::channel();
        std::thread::spawn(move || told.send(report.hint(&path).map_err(|error| error.kind())));
        let said = heard.recv_timeout(Duration::from_secs(120)).unwrap();
        assert_eq!(said, Err(io::ErrorKind::WouldBlock));
    }
}
