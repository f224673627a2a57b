//! Worktrees: made for a new session, and made again where a session's file says so. `git worktree
//! prune` is never run: it is repository-wide and destroys what other sessions know of their
//! branches.

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
/// git's words: the branch is checked out elsewhere, the folder is not empty.
pub async fn add(repository: &Path, worktree: &Path, branch: &str) -> Result<(), String> {
    let there = is_there(repository, branch).await;
    let path = worktree.to_str().ok_or_else(|| format!("{worktree:?} is not UTF-8"))?;
    let added = match there {
        true => git(repository, &["worktree", "add", "--", path, branch]).await,
        false => git(repository, &["worktree", "add", "-b", branch, "--", path]).await,
    };
    added.map(drop)
}

/// As [`add`], for a worktree whose folder was deleted by hand: git still knows it at this place,
/// and at no other, or it would refuse to give the branch away. What git knows of its branch counts
/// more than `branch`, which may have been renamed since; one that is not there is not made anew.
///
/// # Errors
/// git's words, or that there is no such branch.
pub async fn recreate(repository: &Path, worktree: &Path, branch: &str) -> Result<(), String> {
    let known = git(repository, &["worktree", "list", "--porcelain"]).await?;
    let mut branch = branch.to_owned();
    if let Some(known) = entry(&known, worktree)
        && !worktree.exists()
    {
        branch = known.unwrap_or(branch);
        let path = worktree.to_str().ok_or_else(|| format!("{worktree:?} is not UTF-8"))?;
        // Only this one entry, whose folder is gone.
        git(repository, &["worktree", "remove", "--force", "--", path]).await?;
    }
    if !is_there(repository, &branch).await {
        return Err(format!(
            "{} has no branch {branch} to make {} again from: bring it back, or say \
             branch = \"...\" in the session's file",
            repository.display(),
            worktree.display()
        ));
    }
    add(repository, worktree, &branch).await
}

/// What git says of the worktree at this place: its branch, if it is on one.
fn entry(listed: &str, worktree: &Path) -> Option<Option<String>> {
    // git has it without symbolic links.
    let real = worktree
        .parent()
        .and_then(|parent| Some(parent.canonicalize().ok()?.join(worktree.file_name()?)));
    let is_it = |path: &str| {
        let path = Path::new(path);
        path == worktree || Some(path) == real.as_deref()
    };
    let entry = listed.split("\n\n").find(|entry| {
        entry.lines().next().and_then(|line| line.strip_prefix("worktree ")).is_some_and(is_it)
    })?;
    Some(entry.lines().find_map(|line| line.strip_prefix("branch refs/heads/").map(str::to_owned)))
}

async fn is_there(repository: &Path, branch: &str) -> bool {
    let full = format!("refs/heads/{branch}");
    git(repository, &["show-ref", "--verify", "--quiet", &full]).await.is_ok()
}

/// Runs git, without a monitor of the file system (it would start a daemon that outlives us) and
/// without locks that it can do without (they would break a command of the agent's).
///
/// # Errors
/// git's words.
pub async fn git(folder: &Path, words: &[impl AsRef<OsStr>]) -> Result<String, String> {
    let mut command = Command::new("git");
    command.args(["-c", "core.fsmonitor=false", "--no-optional-locks", "-C"]).arg(folder);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(WITHIN, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(format!("git: {error}")),
        Err(_) => return Err(format!("git: not within {WITHIN:?}")),
    };
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false if said.is_empty() => Err(format!("git: {}", output.status)),
        false => Err(said),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    async fn repository(folder: &Path) {
        let set = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty"];
        git(folder, &["init", "-q", "-b", "main", "."]).await.unwrap();
        git(folder, &[&set[..], &["-m", "x"]].concat()).await.unwrap();
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_deleted_worktree_comes_back_and_a_branch_is_never_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let (repo, one, two) = (root.join("repo"), root.join("one"), root.join("two"));
        std::fs::create_dir(&repo).unwrap();
        repository(&repo).await;
        add(&repo, &one, "fix/login").await.unwrap();
        assert!(add(&repo, &two, "fix/login").await.is_err());
        add(&repo, &two, "other").await.unwrap();

        std::fs::remove_dir_all(&one).unwrap();
        recreate(&repo, &one, "fix/login").await.unwrap();
        let head = git(&one, &["symbolic-ref", "HEAD"]).await.unwrap();
        assert_eq!(head.trim(), "refs/heads/fix/login");
        // One that is checked out elsewhere stays there.
        std::fs::remove_dir_all(&one).unwrap();
        git(&two, &["checkout", "-q", "--ignore-other-worktrees", "fix/login"]).await.unwrap();
        assert!(recreate(&repo, &one, "fix/login").await.is_err());
        assert!(two.exists());
    }
}
