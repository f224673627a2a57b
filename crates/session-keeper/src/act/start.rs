//! Starts an agent: its launch file, then its shim in a pane. A pane that is dead is used again, so
//! that clients which look at it stay; never one that lives (`respawn-pane` without `-k` refuses
//! that).

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::{info, warn};

use super::{Mended, mend};
use crate::agents::{Agent, words};
use crate::beside::{STATE, TRANSCRIPTS};
use crate::config;
use crate::decide::{Standing, Start};
use crate::intent::Intent;
use crate::launch::{Launch, Limits, VERSION};
use crate::name::SessionName;
use crate::paths;
use crate::sense::Looker;
use crate::tmux::{Tmux, TmuxError, literal};

/// The size of a window that no client has looked at yet: agents draw for it.
const COLUMNS: &str = "200";
const ROWS: &str = "50";
/// Where our hook stands among the user's own of that name.
const HOOK: &str = "pane-died[8430]";
/// Overrides of places that a pane must pass on.
const OVERRIDES: [&str; 4] = [paths::CONFIG_DIR, paths::STATE_DIR, paths::SOCKET, paths::CGROUP];

/// What starting needs.
#[derive(Debug)]
pub struct Starter<'a> {
    /// The user's places and the way to tmux.
    pub looker: &'a Looker,
    /// Where the shim is.
    pub libexec: &'a Path,
    /// The machine's caps.
    pub limits: config::Limits,
}

impl Starter<'_> {
    /// Writes down what its shim needs, and mends what a power cut has left of its transcript.
    ///
    /// # Errors
    /// In words for the journal and for people.
    pub async fn prepare(
        &self,
        name: &SessionName,
        intent: &Intent,
        agent: &Arc<Agent>,
        start: &Start,
    ) -> Result<(), String> {
        let path = self.looker.paths.launch(name);
        let launch = self.launch(name, intent, agent, start);
        let state = &self.looker.paths.state;
        let mut folders = vec![state.join("launch"), state.join("reports")];
        if agent.start.iter().any(|word| word.contains("{state}")) {
            // Where the words of agents.d put its history.
            folders.push(state.join(&intent.agent));
        }
        let write = move || {
            for folder in folders {
                fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            }
            launch.write(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        STATE.run(write).await?;
        let Some(id) = start.conversation.clone().filter(|_| start.resume) else { return Ok(()) };
        let (ground, agent) = (self.looker.ground(), Arc::clone(agent));
        let (of, worktree) = (name.clone(), intent.worktree.clone());
        let mend = move || {
            if let Some(transcript) = ground.transcript_of(&of, &agent, &worktree, &id) {
                make_whole(&of, &transcript);
            }
            Ok(())
        };
        TRANSCRIPTS.run(mend).await
    }

    /// Starts what was prepared.
    ///
    /// # Errors
    /// In words for the journal and for people.
    pub async fn start(
        &self,
        name: &SessionName,
        intent: &Intent,
        start: &Start,
    ) -> Result<(), String> {
        let worktree = literal(intent.worktree.as_os_str());
        let mut place: Vec<&OsStr> = vec!["-c".as_ref(), &worktree];
        let overrides = overrides();
        for pair in &overrides {
            place.extend([OsStr::new("-e"), pair]);
        }
        let shim = self.libexec.join("guppy-session-shim");
        let stem = name.file_stem();
        place.extend([shim.as_os_str(), OsStr::new(&stem)]);

        let session = name.tmux();
        let target = match &start.pane {
            Some(pane) => pane.clone(),
            None => format!("={session}:"),
        };
        let mut first: Vec<&OsStr> = match &start.pane {
            Some(pane) => ["respawn-pane", "-t", pane].map(OsStr::new).to_vec(),
            None => ["new-session", "-d", "-s", &session, "-x", COLUMNS, "-y", ROWS]
                .map(OsStr::new)
                .to_vec(),
        };
        first.append(&mut place);
        let set =
            |option, value| ["set-option", "-p", "-t", &target, option, value].map(OsStr::new);
        let (stays, named) = (set("remain-on-exit", "on"), set("@guppy_name", &session));
        // Whatever the user's own sessions do: one that is kept is there when nobody looks at it.
        let kept = ["set-option", "-t", &target, "destroy-unattached", "off"].map(OsStr::new);
        match self.looker.tmux.run(&[&first, &kept, &stays, &named]).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn launch(&self, name: &SessionName, intent: &Intent, agent: &Agent, start: &Start) -> Launch {
        let places = self.looker.places(name, &intent.worktree, start.conversation.as_ref());
        let command = if start.resume { agent.resume() } else { &agent.start };
        let mut env = agent.env.clone();
        env.extend(intent.env.clone());
        env.insert("GUPPY_SESSION".to_owned(), name.to_string());
        env.insert("GUPPY_START".to_owned(), start.number.to_string());
        let limits = intent.limits.or(self.limits);
        Launch {
            version: VERSION,
            name: name.to_string(),
            agent: intent.agent.clone(),
            conversation: start.conversation.as_ref().map(ToString::to_string),
            argv: words(command, &intent.argv, places),
            native: agent.native(),
            cwd: intent.worktree.clone(),
            env_files: intent.env_files.clone(),
            env,
            limits: Limits {
                memory_high: limits.memory_high.map(|bytes| bytes.0),
                memory_max: limits.memory_max.map(|bytes| bytes.0),
                pids_max: limits.pids_max,
            },
            start: start.number,
        }
    }
}

/// What a power cut has left of a transcript is made whole before its agent goes on in it.
fn make_whole(name: &SessionName, transcript: &Path) {
    match mend(transcript) {
        Ok(None) => {}
        Ok(Some(Mended { zeros, line })) => info!(
            guppy_event = "mended",
            "{name}: its transcript was cut off: {zeros} zeros taken from its end{}",
            if line { ", its last line ended" } else { "" }
        ),
        // The agent may know what to do with it.
        Err(error) => warn!(guppy_event = "not-mended", "{}: {error}", transcript.display()),
    }
}

fn overrides() -> Vec<OsString> {
    let set = OVERRIDES.iter().filter_map(|name| {
        let mut pair = OsString::from(name);
        pair.push("=");
        pair.push(std::env::var_os(name)?);
        Some(pair)
    });
    set.collect()
}

/// Writes where a session stands into the options of its pane, for status lines.
///
/// # Errors
/// [`TmuxError`].
pub async fn show(tmux: &Tmux, pane: &str, standing: &Standing) -> Result<(), TmuxError> {
    let why = literal(OsStr::new(&standing.why));
    let state = OsStr::new(standing.state.as_str());
    let set = |option: &'static str, value| {
        [
            OsStr::new("set-option"),
            "-p".as_ref(),
            "-t".as_ref(),
            pane.as_ref(),
            option.as_ref(),
            value,
        ]
    };
    tmux.run(&[&set("@guppy_state", state), &set("@guppy_why", &why)]).await.map(drop)
}

/// Has the server tell us of panes that die. Without it the next slow look sees them.
///
/// # Errors
/// [`TmuxError`], or a path that no shell and no format takes as it is.
pub async fn install_hooks(tmux: &Tmux, libexec: &Path, socket: &Path) -> Result<(), TmuxError> {
    let plain = |path: &PathBuf| {
        let fit = |c: char| c.is_ascii_alphanumeric() || "/._-@+".contains(c);
        path.to_str().is_some_and(|path| path.chars().all(fit))
    };
    let (program, socket) = (libexec.join("guppy-session-hook"), socket.to_owned());
    if let Some(path) = [&program, &socket].into_iter().find(|path| !plain(path)) {
        let what = format!("{} cannot stand in a hook of tmux", path.display());
        return Err(TmuxError::Refused(what));
    }
    // A command that fails puts a pane into view mode.
    let command = format!(
        "run-shell -b \"{} --socket {} --tmux pane-died #{{hook_pane}} || true\"",
        program.display(),
        socket.display()
    );
    let set = ["set-hook", "-g", HOOK, &command].map(OsStr::new);
    tmux.run(&[&set]).await.map(drop)
}
