//! The shim's own end: that of its agent, so that tmux shows it.

use std::process::ExitCode;

use nix::sys::signal::{Signal, raise};
use rustix::process::{Resource, Rlimit, WaitStatus, setrlimit};

use super::signals::unblock;
use crate::name::SessionName;

/// Ends as the agent did: with its exit status, or by its signal.
pub(super) fn as_the_agent(status: &WaitStatus) -> ExitCode {
    if let Some(signal) = status.terminating_signal() {
        // The agent may have left a core; one of the shim helps nobody.
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
        if let Ok(signal) = Signal::try_from(signal) {
            let _ = unblock();
            // Rust's own handler of SIGSEGV and SIGBUS takes the first one, and steps aside.
            for _ in 0..2 {
                let _ = raise(signal);
            }
        }
        // A signal that does not end this one, as a shell says it.
        return ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX));
    }
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    ExitCode::from(code.unwrap_or(u8::MAX))
}

/// Says on the terminal what a person sees in the dead pane.
pub(super) fn say(name: &SessionName, status: &WaitStatus, oom_killed: Option<bool>) {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(0), _) => {}
        (Some(code), _) => say!("\nguppy: the agent of {name} ended with status {code}"),
        (_, Some(_)) if oom_killed == Some(true) => {
            say!("\nguppy: the agent of {name} was ended by the kernel: out of memory");
        }
        (_, Some(signal)) => say!("\nguppy: the agent of {name} was ended by signal {signal}"),
        _ => {}
    }
}
