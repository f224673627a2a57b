//! What becomes of the worktree of a session that is removed. git refuses to delete what it calls
//! changes. It deletes without a word what it ignores (`.env`, a database), what a setting hides from
//! its status, and the only name of commits on no branch; and it does not know who else works there.

use std::path::{Path, PathBuf};

use guppy_session_keeper::act::git;
use guppy_session_keeper::intent::{self, Declared, Intent};
use guppy_session_keeper::patience::Patience;

/// So many ignored files are named.
const NAMED: usize = 3;

/// Removes it if nothing is lost by that, and says what became of it. `sessions` is the folder of
/// those that are left.
pub(super) async fn remove(sessions: &Path, intent: &Intent) -> String {
    let worktree = intent.worktree.display();
    let Some(repository) = &intent.repository else {
        return format!("{worktree} is no worktree of guppy's and stays");
    };
    if real(repository) == real(&intent.worktree) {
        return format!("{worktree} is the repository itself and stays");
    }
    if !intent.worktree.exists() {
        return format!("{worktree} was not there any more");
    }
    if let Some(why) = others(sessions, &intent.worktree) {
        return format!("{worktree} stays: {why}");
    }
    if let Some(why) = would_lose(repository, &intent.worktree).await {
        return format!("{worktree} stays: {why}");
    }
    let path = intent.worktree.to_string_lossy();
    // Whatever the user has set: this is how git finds out that there are changes.
    let words = ["-c", "status.showUntrackedFiles=normal", "worktree", "remove", "--", &path];
    match git(repository, &words).await {
        Ok(_) => format!("{worktree} had no changes and is removed; its branch stays"),
        Err(why) => format!("{worktree} stays: {}", why.lines().next().unwrap_or_default()),
    }
}

/// Whether another session works there, or may.
fn others(sessions: &Path, worktree: &Path) -> Option<String> {
    let all = match intent::read(sessions, &Patience::default()) {
        Ok(all) => all,
        Err(why) => {
            return Some(format!("whether another session works there is not known: {why}"));
        }
    };
    let own = real(worktree);
    all.sessions.iter().find_map(|(name, declared)| match declared {
        Declared::Valid(other) => real(&other.worktree)
            .starts_with(&own)
            .then(|| format!("session {name} works there too")),
        Declared::Refused(_) => {
            Some(format!("session {name} may work there too: its file is refused"))
        }
    })
}

/// What git would delete with it and calls no change.
async fn would_lose(repository: &Path, worktree: &Path) -> Option<String> {
    let status =
        ["status", "--porcelain", "-z", "--ignored", "--untracked-files=normal", "--no-renames"];
    let said = match git(worktree, &status).await {
        Ok(said) => said,
        Err(why) => return Some(why.lines().next().unwrap_or_default().to_owned()),
    };
    let ignored: Vec<_> = said.split('\0').filter_map(|line| line.strip_prefix("!! ")).collect();
    if !ignored.is_empty() {
        let named = ignored.get(..NAMED).unwrap_or(&ignored).join(", ");
        let more = if ignored.len() > NAMED { ", ..." } else { "" };
        let (repository, worktree) = (repository.display(), worktree.display());
        return Some(format!(
            "it has files that git ignores ({named}{more}): git -C {repository} worktree remove \
             {worktree} deletes them too"
        ));
    }
    // On a branch, that keeps them.
    if git(worktree, &["symbolic-ref", "--quiet", "HEAD"]).await.is_ok() {
        return None;
    }
    let only = ["rev-list", "--max-count=1", "HEAD", "--not", "--branches", "--tags", "--remotes"];
    match git(worktree, &only).await {
        Ok(none) if none.trim().is_empty() => None,
        Ok(_) => Some("it is on no branch, and has commits that no branch has".to_owned()),
        Err(why) => Some(why.lines().next().unwrap_or_default().to_owned()),
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use guppy_session_keeper::act::add;
    use guppy_session_keeper::name::SessionName;

    use super::*;

    struct Place {
        folder: tempfile::TempDir,
    }

    impl Place {
        /// A repository that ignores `.env`, and a worktree of it.
        async fn new() -> Self {
            let place = Self { folder: tempfile::tempdir().unwrap() };
            let repository = place.at("shop");
            fs::create_dir_all(&repository).unwrap();
            git(&repository, &["init", "-q", "-b", "main", "."]).await.unwrap();
            fs::write(repository.join(".gitignore"), ".env\n").unwrap();
            git(&repository, &["add", "."]).await.unwrap();
            place.commit(&repository).await;
            add(&repository, &place.at("fix"), "fix").await.unwrap();
            place
        }

        fn at(&self, path: &str) -> PathBuf {
            self.folder.path().canonicalize().unwrap().join(path)
        }

        async fn commit(&self, folder: &Path) {
            let words = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "x"];
            git(folder, &[&words[..], &["--allow-empty"]].concat()).await.unwrap();
        }

        fn intent(&self) -> Intent {
            Intent {
                agent: "claude".to_owned(),
                worktree: self.at("fix"),
                repository: Some(self.at("shop")),
                ..Intent::default()
            }
        }

        async fn remove(&self) -> String {
            remove(&self.at("sessions.d"), &self.intent()).await
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_that_holds_nothing_of_its_own_is_removed() {
        let place = Place::new().await;
        place.commit(&place.at("fix")).await;
        let said = place.remove().await;
        assert!(said.contains("is removed") && !place.at("fix").exists(), "{said}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_git_would_delete_without_a_word_stays() {
        let place = Place::new().await;
        fs::write(place.at("fix/.env"), "KEY=1").unwrap();
        let said = place.remove().await;
        assert!(said.contains("stays: it has files that git ignores (.env)"), "{said}");
        fs::remove_file(place.at("fix/.env")).unwrap();

        // A setting that hides new files also from git's own refusal.
        git(&place.at("shop"), &["config", "status.showUntrackedFiles", "no"]).await.unwrap();
        fs::write(place.at("fix/new.txt"), "x").unwrap();
        let said = place.remove().await;
        assert!(said.contains("stays") && place.at("fix/new.txt").exists(), "{said}");
        fs::remove_file(place.at("fix/new.txt")).unwrap();

        git(&place.at("fix"), &["checkout", "-q", "--detach"]).await.unwrap();
        place.commit(&place.at("fix")).await;
        let said = place.remove().await;
        assert!(said.contains("stays: it is on no branch") && place.at("fix").exists(), "{said}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn one_in_which_another_session_works_stays() {
        let place = Place::new().await;
        let sessions = place.at("sessions.d");
        let other = SessionName::parse("shop/other").unwrap();
        intent::write(&sessions, &other, &place.intent()).unwrap();
        let said = place.remove().await;
        assert!(said.contains("stays: session shop/other works there too"), "{said}");
        fs::write(intent::path_of(&sessions, &other), "worktre = 1").unwrap();
        let said = place.remove().await;
        assert!(said.contains("its file is refused") && place.at("fix").exists(), "{said}");
        fs::remove_file(intent::path_of(&sessions, &other)).unwrap();
        let said = place.remove().await;
        assert!(said.contains("is removed"), "{said}");
    }
}
