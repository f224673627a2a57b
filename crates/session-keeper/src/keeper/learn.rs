//! What is learned is written beside the loop: a disk may take many seconds for an fsync (a neighbour
//! who unpacks an image), and whoever only asks must not wait for it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

use super::{Keeper, aside};
use crate::agents::{Folders, Places};
use crate::beside::STATE;
use crate::learned::{self, Learned};
use crate::name::SessionName;
use crate::paths::Paths;
use crate::sense::{Looker, Reading};

/// Changes what is known of a session: nobody else does so between the reading and the writing.
/// `change` is asked what is to be known instead; None: nothing. Whether something was written. It is
/// known when it is on the disk, and not sooner; whoever asked and does not wait changes nothing of
/// that.
///
/// # Errors
/// Those of the file system; what was known before then still is.
pub async fn learn(
    keeper: &Rc<RefCell<Keeper>>,
    name: &SessionName,
    change: impl FnOnce(&Keeper) -> Option<Learned> + 'static,
) -> Result<bool, String> {
    let (keeper, name) = (Rc::clone(keeper), name.clone());
    let written = tokio::task::spawn_local(async move {
        let one_at_a_time = keeper.borrow_mut().writing(&name);
        let _turn = one_at_a_time.lock().await;
        let Some(learned) = change(&keeper.borrow()) else { return Ok(false) };
        let path = learned::path_of(&keeper.borrow().paths().state, &name.file_stem());
        let to_write = learned.clone();
        let write = move || {
            let wrong = |error: std::io::Error| format!("{}: {error}", path.display());
            path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(wrong)?;
            learned::write(&path, &to_write).map_err(wrong)
        };
        STATE.run(write).await?;
        keeper.borrow_mut().learned.insert(name, Reading::Known(Rc::new(learned)));
        Ok(true)
    });
    written.await.map_err(|error| error.to_string())?
}

/// Forgets a session, which must not be declared any more.
///
/// # Errors
/// Those of the file system.
pub async fn forget(keeper: &Rc<RefCell<Keeper>>, name: &SessionName) -> Result<(), String> {
    let (keeper, name) = (Rc::clone(keeper), name.clone());
    let forgotten = tokio::task::spawn_local(async move {
        let one_at_a_time = keeper.borrow_mut().writing(&name);
        let _turn = one_at_a_time.lock().await;
        let left = Left::of(&keeper.borrow(), &name);
        STATE.run(move || left.remove()).await?;
        let mut keeper = keeper.borrow_mut();
        keeper.learned.remove(&name);
        if let Reading::Known(tree) = &keeper.looker.tree
            && let Err(error) = tree.agent(&name).remove()
        {
            tracing::warn!("{}: {error}", name.cgroup());
        }
        Ok(())
    });
    forgotten.await.map_err(|error| error.to_string())?
}

/// What is on the disk of a session.
struct Left {
    name: SessionName,
    paths: Paths,
    folders: Folders,
    home: PathBuf,
    shell: PathBuf,
}

impl Left {
    fn of(keeper: &Keeper, name: &SessionName) -> Self {
        let Looker { paths, home, shell, .. } = &*keeper.looker;
        Self {
            name: name.clone(),
            paths: paths.clone(),
            folders: keeper.folders.clone(),
            home: home.clone(),
            shell: shell.clone(),
        }
    }

    fn remove(&self) -> Result<(), String> {
        let Self { name, paths, .. } = self;
        let path = learned::path_of(&paths.state, &name.file_stem());
        learned::remove(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        for path in [paths.launch(name), paths.report(name), paths.rotate(name)] {
            match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("{}: {error}", path.display()));
                }
                _ => {}
            }
        }
        let places = Places {
            name,
            conversation: None,
            home: &self.home,
            state: &paths.state,
            worktree: &self.home,
            shell: &self.shell,
            pid: None,
        };
        aside::put_aside(self.folders.read()?.values().flatten(), places)
    }
}
