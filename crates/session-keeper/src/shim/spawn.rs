//! From the shim to an agent that runs. A FIFO tells when: the child opens it first, and the kernel
//! closes it at the moment in which the child becomes the agent. So "started" means that the agent
//! itself runs, in its group and in the foreground, and what failed before is told in words.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Command;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::{WaitOptions, waitpid};

use super::Refusal;
use super::lock::remove;
use super::login::pid;
use crate::process::Identity;

/// Spawns a child of [`Orders`](super::child::Orders) with this FIFO, and waits until it has become
/// the agent.
pub(super) fn agent(command: &mut Command, fifo: &Path, shown: &str) -> Result<Identity, Refusal> {
    let failed = |error: io::Error| Refusal(format!("cannot start {shown}: {error}"));
    let mut news =
        make(fifo).map_err(|error| Refusal(format!("cannot make {}: {error}", fifo.display())))?;
    let child = command.spawn().map_err(failed)?.id();
    let identity = Identity::of(child).map_err(failed)?;
    let told = wait(&mut news, &identity).map_err(failed)?;
    let _ = remove(fifo);
    match told {
        None => Ok(identity),
        Some(why) => {
            let _ = waitpid(pid(child), WaitOptions::empty());
            Err(Refusal(format!("cannot start {shown}: {why}")))
        }
    }
}

/// Open for reading without waiting for a writer.
fn make(fifo: &Path) -> io::Result<File> {
    remove(fifo)?;
    mkfifoat(CWD, fifo, Mode::RUSR | Mode::WUSR)?;
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(fifo)
}

/// None: it has become the agent. Some: why not.
fn wait(news: &mut File, child: &Identity) -> io::Result<Option<String>> {
    let Some(handle) = child.open()? else { return Ok(Some("it ended at once".to_owned())) };
    loop {
        let mut ready = [
            PollFd::new(&*news, PollFlags::IN),
            PollFd::from_borrowed_fd(handle.as_fd(), PollFlags::IN),
        ];
        match poll(&mut ready, None) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        // In the order of what is certain: words, then the end of the line, then of the child.
        let [told, ended] = ready.map(|entry| entry.revents());
        if told.contains(PollFlags::IN) {
            let mut why = [0; 1024];
            let count = news.read(&mut why)?;
            let why = why.get(..count).unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(why).into_owned()));
        }
        if told.contains(PollFlags::HUP) {
            return Ok(None);
        }
        if ended.contains(PollFlags::IN) {
            return Ok(Some("it ended at once".to_owned()));
        }
    }
}
