//! `guppy agents`: which agents can be kept, and whether their hooks are in place; `guppy agents
//! setup` installs the hooks, with the consent that `--yes` is.

use std::path::{Path, PathBuf};

use guppy_session_keeper::agents::hooks::{self, Change};
use guppy_session_keeper::agents::{Agent, Folders};
use guppy_session_keeper::paths::Paths;
use serde::Serialize;

use crate::cli::{Agents, AgentsVerb, Setup};
use crate::keeper::libexec;
use crate::report::{Code, Failure, Report};
use crate::table::columns;

#[derive(Serialize)]
struct Line {
    name: String,
    about: String,
    /// `installed`, `missing`, `none` (it has no settings), or what is wrong.
    hooks: String,
    /// What is wrong with its files.
    error: Option<String>,
}

#[derive(Serialize)]
struct Planned {
    agent: String,
    file: PathBuf,
    /// The events whose hook is added or removed; empty: already so.
    events: Vec<String>,
    done: bool,
}

/// Runs the verb.
///
/// # Errors
/// The folders cannot be read, or settings are not what they should be.
pub(super) fn run(paths: &Paths, arguments: Agents) -> Result<Report, Failure> {
    let failed = |why: String| Failure::new(Code::Failed, why);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let home = home.ok_or_else(|| failed("HOME is not set".to_owned()))?;
    let folders = Folders::of(&paths.config);
    let command = libexec().join("guppy-session-hook").display().to_string();
    match arguments.verb {
        None => list(&folders.read().map_err(failed)?, &home, &command),
        Some(AgentsVerb::Setup(setup)) => setup_all(&folders, &home, &command, setup),
    }
}

type All = std::collections::BTreeMap<String, Result<Agent, String>>;

fn list(agents: &All, home: &Path, command: &str) -> Result<Report, Failure> {
    let lines: Vec<_> = agents
        .iter()
        .map(|(name, agent)| match agent {
            Ok(agent) => Line {
                name: name.clone(),
                about: agent.about.clone(),
                hooks: hooks_of(agent, home, command),
                error: None,
            },
            Err(why) => Line {
                name: name.clone(),
                about: String::new(),
                hooks: String::new(),
                error: Some(why.clone()),
            },
        })
        .collect();
    let rows: Vec<_> = lines
        .iter()
        .map(|line| {
            let hooks = match line.hooks.as_str() {
                "missing" => "hooks missing: guppy agents setup".to_owned(),
                "installed" => "hooks installed".to_owned(),
                "none" | "" => String::new(),
                wrong => wrong.to_owned(),
            };
            let about = line.error.clone().unwrap_or_else(|| line.about.clone());
            [line.name.clone(), about, hooks]
        })
        .collect();
    Report::new(columns(&rows), &lines)
}

fn hooks_of(agent: &Agent, home: &Path, command: &str) -> String {
    let Some(file) = hooks::file_of(agent, home) else { return "none".to_owned() };
    match hooks::plan(agent, &file, command, Change::Install) {
        Ok(edit) if edit.events.is_empty() => "installed".to_owned(),
        Ok(_) => "missing".to_owned(),
        Err(why) => why,
    }
}

fn setup_all(
    folders: &Folders,
    home: &Path,
    command: &str,
    setup: Setup,
) -> Result<Report, Failure> {
    let failed = |why: String| Failure::new(Code::Failed, why);
    let named = setup.agent.is_some();
    let agents: Vec<(String, Agent)> = match setup.agent {
        Some(name) => {
            let agent = folders.read_one(&name).map_err(failed)?;
            vec![(name, agent)]
        }
        None => {
            let all = folders.read().map_err(failed)?;
            all.into_iter().filter_map(|(name, agent)| Some((name, agent.ok()?))).collect()
        }
    };
    let change = if setup.remove { Change::Remove } else { Change::Install };
    let mut planned = Vec::new();
    for (name, agent) in agents {
        let Some(file) = hooks::file_of(&agent, home) else { continue };
        // What an agent that is not used here would have is not made for it. One that was never
        // started has no folder yet, and is to tell of its first conversation.
        if !named && !file.parent().is_some_and(Path::exists) && !is_installed(&agent) {
            continue;
        }
        let edit = hooks::plan(&agent, &file, command, change).map_err(failed)?;
        let done = setup.yes && !edit.events.is_empty();
        if done {
            edit.apply().map_err(failed)?;
        }
        planned.push(Planned { agent: name, file: edit.file.clone(), events: edit.events, done });
    }
    Report::new(text(&planned, change, setup.yes), &planned)
}

/// Whether its program is in the caller's PATH.
fn is_installed(agent: &Agent) -> bool {
    let Some(program) = agent.start.first() else { return false };
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn text(planned: &[Planned], change: Change, yes: bool) -> String {
    let mut text = String::new();
    let (did, would) = match change {
        Change::Install => ("added to", "would be added to"),
        Change::Remove => ("removed from", "would be removed from"),
    };
    for plan in planned {
        let file = plan.file.display();
        if plan.events.is_empty() {
            text.push_str(&format!("{}: already so in {file}\n", plan.agent));
            continue;
        }
        let how = if plan.done { did } else { would };
        let events = plan.events.join(", ");
        text.push_str(&format!("{}: a hook for {events} {how} {file}\n", plan.agent));
    }
    if planned.is_empty() {
        text.push_str(
            "no agent that takes hooks is installed here: install one, then say this again \
             (or name it: guppy agents setup claude)\n",
        );
    } else if !yes && planned.iter().any(|plan| !plan.events.is_empty()) {
        text.push_str("nothing was changed; to do it, say it again with --yes\n");
    }
    text
}
