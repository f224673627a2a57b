//! Whose hook this is. An agent starts others (`claude -p` in a script, another kind of agent as a
//! tool), and they inherit `GUPPY_SESSION` with the rest of its environment, and have the same
//! settings of the same user. What such a one says is not of the session: its conversation would
//! take the place of the session's own.
//!
//! The session's agent is what its shim has started, or the one child of a launcher that the shim
//! has started (npm's codex is a program below node).

use std::ffi::OsString;
use std::fs;

/// How the kernel calls a shim: the first 15 bytes of its name (proc(5), comm).
const SHIM: &str = "guppy-session-s";
/// What runs the command line of a hook, by the names that the kernel has for them.
const SHELLS: [&str; 8] = ["sh", "dash", "bash", "zsh", "fish", "ksh", "mksh", "busybox"];
/// What a launcher is written in, as its program's name begins.
const INTERPRETERS: [&str; 12] = [
    "node", "bun", "deno", "python", "perl", "ruby", "sh", "dash", "bash", "zsh", "fish", "busybox",
];

/// A process above the hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Above {
    parent: u32,
    /// Its comm.
    name: String,
    /// The program's path; None: it cannot be read.
    program: Option<OsString>,
}

/// Whether this process is a hook of the session's own agent.
pub(super) fn is_of_the_session() -> bool {
    let parent = rustix::process::getppid().map(|parent| parent.as_raw_pid().unsigned_abs());
    parent.is_some_and(|parent| is_of_the_agent(parent, read))
}

/// The same, `parent` being the hook's.
fn is_of_the_agent(parent: u32, read: impl Fn(u32) -> Option<Above>) -> bool {
    let Some(mut agent) = read(parent) else { return false };
    // The command line of a hook is run by a shell, unless that has become the hook.
    if is_shell(&agent) {
        let Some(above) = read(agent.parent) else { return false };
        if above.name == SHIM {
            // An agent that is a shell script.
            return true;
        }
        agent = above;
    }
    let Some(above) = read(agent.parent) else { return false };
    if above.name == SHIM {
        return true;
    }
    let other = above.program.is_none() || above.program != agent.program;
    other && is_launcher(&above) && read(above.parent).is_some_and(|shim| shim.name == SHIM)
}

fn is_shell(process: &Above) -> bool {
    SHELLS.contains(&process.name.as_str())
}

fn is_launcher(process: &Above) -> bool {
    let program = process.program.as_ref().map(|path| path.to_string_lossy().into_owned());
    let name = program.as_deref().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    INTERPRETERS.iter().any(|begin| name.starts_with(begin))
}

fn read(pid: u32) -> Option<Above> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in brackets, and may hold brackets and spaces itself.
    let (begin, rest) = stat.rsplit_once(')')?;
    let name = begin.split_once('(')?.1.to_owned();
    let parent = rest.split_whitespace().nth(1)?.parse().ok()?;
    let program = fs::read_link(format!("/proc/{pid}/exe")).ok().map(Into::into);
    Some(Above { parent, name, program })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Processes from the shim down to the hook's parent: the kernel's name and the program.
    fn is_own(chain: &[(&str, &str)]) -> bool {
        let read = |pid: u32| {
            let (name, program) = chain.get(usize::try_from(pid).unwrap().checked_sub(1)?)?;
            let program = Some(OsString::from(program));
            Some(Above { parent: pid - 1, name: (*name).to_owned(), program })
        };
        is_of_the_agent(u32::try_from(chain.len()).unwrap(), read)
    }

    const TMUX: (&str, &str) = ("tmux: server", "/usr/bin/tmux");
    const SHIM: (&str, &str) = ("guppy-session-s", "/usr/libexec/guppy/guppy-session-shim");
    const SH: (&str, &str) = ("sh", "/usr/bin/dash");
    const BASH: (&str, &str) = ("bash", "/usr/bin/bash");
    const CLAUDE: (&str, &str) = ("claude", "/home/a/.local/bin/claude");
    const NODE: (&str, &str) = ("node", "/home/a/.nvm/bin/node");
    const CODEX: (&str, &str) = ("codex", "/home/a/.nvm/lib/codex");

    #[test]
    fn the_agent_that_the_shim_has_started_is_the_sessions() {
        for chain in [
            &[TMUX, SHIM, CLAUDE][..],
            &[TMUX, SHIM, CLAUDE, SH],
            &[TMUX, SHIM, NODE, CODEX],
            &[TMUX, SHIM, NODE, CODEX, SH],
            // A script of the user's around it, and an agent that is one.
            &[TMUX, SHIM, BASH, CLAUDE, SH],
            &[TMUX, SHIM, ("claude", "/usr/bin/dash")],
            &[TMUX, SHIM, SH],
        ] {
            assert!(is_own(chain), "{chain:?}");
        }
    }

    #[test]
    fn an_agent_that_another_has_started_is_not() {
        for chain in [
            &[TMUX, SHIM, CLAUDE, BASH, CLAUDE, SH][..],
            &[TMUX, SHIM, CLAUDE, BASH, CLAUDE],
            &[TMUX, SHIM, CLAUDE, CLAUDE, SH],
            &[TMUX, SHIM, NODE, CODEX, BASH, CLAUDE, SH],
            &[TMUX, SHIM, NODE, CODEX, BASH, NODE, CODEX, SH],
            &[TMUX, SHIM, NODE, BASH, NODE, SH],
            &[TMUX, SHIM, NODE, NODE, SH],
            &[TMUX, SHIM, CLAUDE, ("python3", "/usr/bin/python3"), CLAUDE, SH],
            // In no session at all.
            &[TMUX, BASH, CLAUDE, SH],
            &[CLAUDE],
        ] {
            assert!(!is_own(chain), "{chain:?}");
        }
    }

    #[test]
    fn a_process_is_read_as_the_kernel_has_it() {
        let own = read(std::process::id()).unwrap();
        assert_eq!(own.parent, rustix::process::getppid().unwrap().as_raw_pid().unsigned_abs());
        assert!(own.program.is_some() && !own.name.is_empty());
        assert_eq!(read(u32::MAX), None);
    }
}
