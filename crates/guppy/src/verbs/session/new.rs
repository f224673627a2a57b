//! `guppy new`: the worktree, then the file that declares the session; the keeper does the rest. All
//! of it may be said again: what is there is taken as it is, and never changed.

use std::path::{Path, PathBuf};

use guppy_session_keeper::act::{add, git};
use guppy_session_keeper::agents::Folders;
use guppy_session_keeper::api::SessionKeeper;
use guppy_session_keeper::intent::{self, Intent};
use guppy_session_keeper::paths::Paths;
use guppy_session_keeper::shim::check_secrets;
use serde::Serialize;

use super::{STARTS_WITHIN, is_settled};
use crate::cli::New;
use crate::keeper::{NoAnswer, tell, until};
use crate::report::{Code, Failure, Report};

#[derive(Serialize)]
struct Made {
    name: String,
    worktree: PathBuf,
    /// The file that declares it.
    file: PathBuf,
    /// Whether this call wrote it.
    new: bool,
    /// It was there, and this call has asked for something else.
    ignored: bool,
    state: Option<String>,
    why: String,
}

/// Runs the verb.
///
/// # Errors
/// No repository, a branch that is checked out elsewhere, an unknown agent; or it is not up in time.
pub(super) async fn run(paths: &Paths, new: New) -> Result<Report, Failure> {
    let failed = |why: String| Failure::new(Code::Failed, why);
    let folder = paths.config.join("sessions.d");
    let file = intent::path_of(&folder, &new.name);
    let there = file.exists();
    let intent = if there {
        intent::read_one(&file).map_err(failed)?
    } else {
        Folders::of(&paths.config).read_one(agent_of(&new)).map_err(failed)?;
        let intent = declare(&new).await?;
        intent::write(&folder, &new.name, &intent)
            .map_err(|error| failed(format!("{}: {error}", file.display())))?;
        intent
    };
    let name = new.name.to_string();
    let (state, why) = match tell(paths, async |mut keeper| keeper.start(&name).await).await {
        Ok(()) => {
            let line = until(paths, &name, STARTS_WITHIN, is_settled).await?;
            (Some(line.state), line.why)
        }
        // The file is what counts: the keeper starts it when it is back.
        Err(NoAnswer::Absent(why)) => (None, format!("it starts when the keeper runs: {why}")),
        Err(NoAnswer::Failed(failure)) => return Err(failure),
    };
    let ignored = there && has_options(&new, &intent);
    let made = Made { name, worktree: intent.worktree, file, new: !there, ignored, state, why };
    let held = matches!(made.state.as_deref(), Some("blocked" | "parked"));
    let mut report = Report::new(text(&made), &made)?;
    if held {
        report.code = Code::Failed;
    }
    Ok(report)
}

fn text(made: &Made) -> String {
    let Made { name, worktree, state, why, .. } = made;
    let begun = if made.new { "new" } else { "already there" };
    let stands = state.as_deref().unwrap_or("declared");
    let why = if why.is_empty() { String::new() } else { format!(" ({why})") };
    let worktree = worktree.display();
    let ignored = match made.ignored {
        true => format!("it is as {} says: your options were not taken\n", made.file.display()),
        false => String::new(),
    };
    format!(
        "{name} is {begun}: {stands}{why}\nin {worktree}\n{ignored}look at it: guppy attach {name}\n"
    )
}

/// Whether a call for a session that is there wants what its file does not say.
fn has_options(new: &New, intent: &Intent) -> bool {
    let same = |path: &Path| std::path::absolute(path).is_ok_and(|path| path == intent.worktree);
    let agent = new.agent.as_deref().is_some_and(|agent| agent != intent.agent);
    agent
        || new.prompt.is_some() && new.prompt != intent.prompt
        || !new.argv.is_empty() && new.argv != intent.argv
        || new.env_files.len() > intent.env_files.len()
        || new.no_autostart && intent.autostart
        || new.worktree.as_deref().is_some_and(|path| !same(path))
}

fn agent_of(new: &New) -> &str {
    new.agent.as_deref().unwrap_or("claude")
}

/// The intent, with its worktree made.
async fn declare(new: &New) -> Result<Intent, Failure> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| Failure::new(Code::Usage, format!("{}: {error}", path.display())))
    };
    let mut intent = Intent {
        agent: agent_of(new).to_owned(),
        argv: new.argv.clone(),
        autostart: !new.no_autostart,
        prompt: new.prompt.clone(),
        ..Intent::default()
    };
    for file in &new.env_files {
        let file = absolute(file)?;
        check_secrets(&file).map_err(|why| Failure::new(Code::Failed, why))?;
        intent.env_files.push(file);
    }
    let wanted = new.worktree.as_deref().map(absolute).transpose()?;
    if let Some(folder) = wanted.as_ref().filter(|folder| folder.is_dir()) {
        intent.repository = repository_of(folder).await.ok();
        intent.worktree.clone_from(folder);
        return Ok(intent);
    }
    let from = new.repository.clone().unwrap_or_else(|| ".".into());
    let repository = repository_of(&absolute(&from)?).await.map_err(|why| {
        let what =
            format!("{}: {why}: say --repository, or a --worktree that is there", from.display());
        Failure::new(Code::Failed, what)
    })?;
    intent.worktree = match wanted {
        Some(worktree) => worktree,
        None => beside(&repository, &new.name.file_stem()),
    };
    if !intent.worktree.is_dir() {
        // A branch begins at a commit: git's own words for a repository without any say none of this.
        if git(&repository, &["rev-parse", "--quiet", "--verify", "HEAD^{commit}"]).await.is_err() {
            let at = repository.display();
            return Err(Failure::new(
                Code::Failed,
                format!(
                    "{at} has no commit yet that a branch could begin from: make one \
                     (git -C {at} commit --allow-empty -m begin), then say this again"
                ),
            ));
        }
        add(&repository, &intent.worktree, new.name.branch()).await.map_err(|why| {
            // After what git says of its own work.
            let why = why.lines().last().unwrap_or_default();
            let remedy = "name another branch, or a folder that is there with --worktree";
            Failure::new(Code::Failed, format!("{}: {why}: {remedy}", repository.display()))
        })?;
    }
    intent.repository = Some(repository);
    Ok(intent)
}

/// The main worktree of the repository that a folder is in: the first that git lists.
async fn repository_of(folder: &Path) -> Result<PathBuf, String> {
    let listed = git(folder, &["worktree", "list", "--porcelain"]).await?;
    let first = listed.lines().next().and_then(|line| line.strip_prefix("worktree "));
    first.map(PathBuf::from).ok_or_else(|| "git names no worktree".to_owned())
}

fn beside(repository: &Path, stem: &str) -> PathBuf {
    repository.parent().unwrap_or(repository).join(stem)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worktree_is_made_beside_its_repository() {
        let made = beside(Path::new("/home/alice/shop"), "shop+fix-login");
        assert_eq!(made, Path::new("/home/alice/shop+fix-login"));
    }
}
