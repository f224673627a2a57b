//! Brings a worktree back that a session's file says to bring back. `git worktree prune` is never
//! run: it is repository-wide and destroys what other sessions know of their branches.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

/// A large checkout takes its time.
const WITHIN: Duration = Duration::from_secs(120);

/// `git worktree add`, for a branch that is there, or from the repository's HEAD for one that is
/// not yet.
///
/// # Errors
/// git's words.
pub async fn recreate(repository: &Path, worktree: &Path, branch: &str) -> Result<(), String> {
    let full = format!("refs/heads/{branch}");
    let there = git(repository, &["show-ref", "--verify", "--quiet"], &[&full]).await.is_ok();
    let path = worktree.as_os_str();
    // A folder that was deleted by hand is still registered: --force takes its place.
    let added = match there {
        true => {
            git(
                repository,
                &["worktree", "add", "--force"],
                &["--".as_ref(), path, branch.as_ref()],
            )
            .await
        }
        false => {
            git(repository, &["worktree", "add", "--force", "-b", branch], &["--".as_ref(), path])
                .await
        }
    };
    added.map(drop)
}

/// git without the hooks of a file system monitor, which would start a daemon of its own.
async fn git<T: AsRef<OsStr>>(
    repository: &Path,
    words: &[&str],
    rest: &[T],
) -> Result<String, String> {
    let mut command = Command::new("git");
    command.args(["-c", "core.fsmonitor=false", "-C"]).arg(repository);
    command.args(words).args(rest).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(WITHIN, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("git: {error}")),
        Err(_) => return Err(format!("git: not within {WITHIN:?}")),
    };
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(said),
    }
}
