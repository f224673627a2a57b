//! The verbs for sessions of agents.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use guppy_session_keeper::name::SessionName;

/// What can be done with sessions.
#[derive(Debug, Subcommand)]
pub enum SessionVerb {
    /// A worktree, a tmux session and an agent in it, kept from now on
    #[command(after_help = "Examples:\n  guppy new shop/fix-login\n  guppy new shop/fix-login \
        --prompt \"the login form loses its input\" -- --model opus\n  guppy new ops/watch --agent \
        shell --worktree ~ -- -c 'htop'")]
    New(Box<New>),

    /// Every session, where it stands and why
    Ls {
        /// Ask git too: branch, changes, commits ahead and behind
        #[arg(long)]
        git: bool,
    },

    /// Look at a session; C-b d to leave
    Attach {
        /// PROJECT/BRANCH
        name: SessionName,
    },

    /// End a session's agent; it stays stopped, over reboots too
    Stop {
        /// PROJECT/BRANCH
        name: SessionName,
    },

    /// Start a session's agent, whatever has held it back
    Start {
        /// PROJECT/BRANCH
        name: SessionName,
    },

    /// End a session's agent, and start it again in its conversation
    Restart {
        /// PROJECT/BRANCH
        name: SessionName,
    },

    /// End a session and forget it; the branch stays, and so does a worktree with changes, with files
    /// that git ignores, or with another session in it
    Rm {
        /// PROJECT/BRANCH
        name: SessionName,
        /// Leave the worktree also without changes
        #[arg(long)]
        keep_worktree: bool,
    },

    /// What stands on a session's screen, and above it
    Logs {
        /// PROJECT/BRANCH
        name: SessionName,
        /// So many lines above the screen
        #[arg(long, short = 'n', default_value_t = 200)]
        lines: u32,
    },

    /// Give text to a session's agent, as one prompt; it must be ready
    Send {
        /// PROJECT/BRANCH
        name: SessionName,
        /// The text; - reads it from stdin
        #[arg(required = true)]
        text: Vec<String>,
    },

    /// The agents that can be kept, and their hooks
    Agents(Agents),
}

/// Arguments of `guppy new`.
#[derive(Debug, Args)]
pub struct New {
    /// PROJECT/BRANCH
    pub name: SessionName,
    /// The agent (see: guppy agents) [default: claude]
    #[arg(long)]
    pub agent: Option<String>,
    /// The git repository; else the one that you are in
    #[arg(long, value_name = "PATH")]
    pub repository: Option<PathBuf>,
    /// Where the agent works; else a new worktree beside the repository. A folder that is there is
    /// taken as it is
    #[arg(long, value_name = "PATH")]
    pub worktree: Option<PathBuf>,
    /// Sent once, when the agent is ready for the first time
    #[arg(long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// A file of KEY=value lines for secrets, mode 0600; may be said again
    #[arg(long = "env-file", value_name = "PATH")]
    pub env_files: Vec<PathBuf>,
    /// Do not start it by itself after a reboot
    #[arg(long)]
    pub no_autostart: bool,
    /// Words after the agent's own
    #[arg(last = true, value_name = "WORDS")]
    pub argv: Vec<String>,
}

/// Arguments of `guppy agents`.
#[derive(Debug, Args)]
pub struct Agents {
    /// What to do; without, the agents are listed.
    #[command(subcommand)]
    pub verb: Option<AgentsVerb>,
}

/// What can be done with agents.
#[derive(Debug, Subcommand)]
pub enum AgentsVerb {
    /// Install the hooks by which agents tell what they do
    Setup(Setup),
}

/// Arguments of `guppy agents setup`.
#[derive(Debug, Args)]
pub struct Setup {
    /// Only this one
    pub agent: Option<String>,
    /// Take the hooks out again
    #[arg(long)]
    pub remove: bool,
    /// Do it; without, what would change is only shown
    #[arg(long)]
    pub yes: bool,
}
