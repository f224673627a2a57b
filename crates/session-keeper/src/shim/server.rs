//! The tmux server whose child this shim is. When the pane is closed, that was either a person's
//! wish or the server's own end; a server that ends closes its panes first, and may stay for long
//! after that: until its last client has gone, or for as long as the machine is busy. So no time
//! tells the two apart, but two facts do: it has ended, or it has answered.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, getppid};

use crate::process::{Identity, has_ended};

/// What leaves its end this much time spares most clients that would be turned away; and so often
/// it is looked whether one of the two facts is there.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A server that has turned a client away is asked again after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A tmux server.
#[derive(Debug)]
pub(super) struct Server {
    handle: OwnedFd,
    pid: u32,
}

impl Server {
    /// That of this pane; None: it has gone already.
    pub(super) fn of_this_pane() -> Option<Self> {
        let pid = getppid().map(Pid::as_raw_pid).map(i32::unsigned_abs)?;
        let handle = Identity::of(pid).ok()?.open().ok()??;
        Some(Self { handle, pid })
    }

    /// Whether the server has gone, and not just closed this pane. Waits for as long as neither is
    /// known: nobody can be told then, because the keeper asks the same server.
    pub(super) fn has_gone(&self) -> bool {
        // Its own program speaks as it does, also after an upgrade; but that may have taken the
        // libraries which this one needs.
        let programs = [PathBuf::from(format!("/proc/{}/exe", self.pid)), "tmux".into()];
        for program in programs.iter().cycle() {
            if self.ends_within(LOOK_EVERY) {
                return true;
            }
            // One that ends takes no new client: it has done so from before it closed its panes.
            if ask(program).is_ok_and(|client| self.answers(client)) {
                return false;
            }
            if self.ends_within(ASK_AGAIN) {
                return true;
            }
        }
        false
    }

    /// Whether the server answers this client. False as well when it has ended.
    fn answers(&self, mut client: Child) -> bool {
        loop {
            match client.try_wait() {
                Ok(Some(status)) => return status.success(),
                Ok(None) if !self.ends_within(LOOK_EVERY) => {}
                _ => {
                    let _ = client.kill();
                    let _ = client.wait();
                    return false;
                }
            }
        }
    }

    fn ends_within(&self, span: Duration) -> bool {
        has_ended(&self.handle, span).unwrap_or(false)
    }
}

/// Starts a client that asks for what every server can say, sessions or none. The socket is that of
/// the pane (TMUX= in tmux(1)).
fn ask(program: &PathBuf) -> io::Result<Child> {
    let mut client = Command::new(program);
    client.args(["-N", "show-options", "-s", "exit-empty"]).current_dir("/");
    client.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}
