//! The pane's terminal: whose turn it is to read from it, and how it was found.

use std::io::{self, Stdin};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Pid;
use rustix::termios::{self, OptionalActions, Termios};

/// The controlling terminal at stdin.
#[derive(Debug)]
pub(super) struct Terminal {
    stdin: Stdin,
    /// As it was before the agent: one that is killed leaves it raw and without echo.
    found: Termios,
}

impl Terminal {
    /// None where stdin is no terminal.
    pub(super) fn of_stdin() -> Option<Self> {
        let stdin = io::stdin();
        let found = termios::tcgetattr(&stdin).ok()?;
        Some(Self { stdin, found })
    }

    /// Gives it to a process group: keys go there, Ctrl-C and Ctrl-Z too. SIGTTOU must be blocked.
    pub(super) fn give_to(&self, group: Pid) -> io::Result<()> {
        Ok(termios::tcsetpgrp(&self.stdin, group)?)
    }

    /// Takes it back as it was found. It may have been closed: then there is nothing to mend.
    pub(super) fn take_back(&self) {
        let _ = self.give_to(rustix::process::getpgrp());
        let _ = termios::tcsetattr(&self.stdin, OptionalActions::Drain, &self.found);
    }

    /// Whether its other end is closed: tmux has let go of the pane.
    pub(super) fn is_closed(&self) -> bool {
        let mut asked = [PollFd::new(&self.stdin, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut asked, Some(&at_once)).is_ok() && asked[0].revents().contains(PollFlags::HUP)
    }
}
