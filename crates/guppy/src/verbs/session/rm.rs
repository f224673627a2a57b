//! `guppy rm`: ends a session and forgets it. Nothing that is in no commit is ever deleted, and no
//! commit that is on no branch: see [`worktree`].

mod worktree;

use std::ffi::OsStr;

use guppy_session_keeper::api::SessionKeeper;
use guppy_session_keeper::intent;
use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;
use guppy_session_keeper::tmux::Tmux;
use serde::Serialize;

use super::STOPS_WITHIN;
use crate::keeper::{listing, tell, tmux, until};
use crate::report::{Code, Failure, Report};

#[derive(Serialize)]
struct Removed {
    name: String,
    /// Whether a file declared it.
    was_there: bool,
    /// What became of its worktree, in words.
    worktree: String,
}

/// Runs the verb. A session that no file declares is already gone.
///
/// # Errors
/// The keeper is away (it must end the agent), or the agent does not end.
pub(super) async fn run(
    paths: &Paths,
    name: &SessionName,
    keep_worktree: bool,
) -> Result<Report, Failure> {
    let text = name.to_string();
    let folder = paths.config.join("sessions.d");
    let file = intent::path_of(&folder, name);
    if !file.exists() {
        let gone = Removed { name: text, was_there: false, worktree: String::new() };
        return Report::new(format!("{name} is not there: nothing to remove\n"), &gone);
    }
    let intent = intent::read_one(&file);
    // Also where its file is refused: it may have been spoiled since its agent was started.
    tell(paths, async |mut keeper| keeper.stop(&text).await).await?;
    until(paths, &text, STOPS_WITHIN, |line| line.state == "stopped").await?;
    close(&tmux(&listing(paths).await?).await, name).await;
    std::fs::remove_file(&file)
        .map_err(|error| Failure::new(Code::Failed, format!("{}: {error}", file.display())))?;
    tell(paths, async |mut keeper| keeper.forget(&text).await).await?;
    let worktree = match intent {
        Ok(_) if keep_worktree => "its worktree stays".to_owned(),
        Ok(intent) => worktree::remove(&folder, &intent).await,
        Err(_) => "its worktree is not known".to_owned(),
    };
    let said = format!("{name} is removed; {worktree}\n");
    Report::new(said, &Removed { name: text, was_there: true, worktree })
}

/// Closes what is left of its tmux session, unless a person has opened more in it.
async fn close(tmux: &Tmux, name: &SessionName) {
    let target = format!("={}:", name.tmux());
    let panes = ["list-panes", "-s", "-t", &target, "-F", "#{pane_dead}"].map(OsStr::new);
    let all_dead = tmux.run(&[&panes]).await.is_ok_and(|said| said.lines().all(|dead| dead == "1"));
    if all_dead {
        let kill = ["kill-session", "-t", &target].map(OsStr::new);
        let _ = tmux.run(&[&kill]).await;
    }
}
