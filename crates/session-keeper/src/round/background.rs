//! What takes longer than a look may: it is begun by one, and rings for the next when it is done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use tracing::info;

use super::Round;
use super::errand::Hands;
use crate::act::{self, Stamp};
use crate::intent::Intent;
use crate::name::SessionName;
use crate::sense::{Activity, Probe, Sight, reach};

impl Hands {
    /// Makes a worktree again in the background: a checkout may take longer than the watchdog waits.
    pub(super) fn recreate(&self, name: SessionName, repository: PathBuf, intent: &Intent) {
        let (keeper, wake) = (Rc::clone(&self.keeper), Rc::clone(&self.wake));
        if !keeper.borrow_mut().recreating.insert(name.clone()) {
            return;
        }
        let worktree = intent.worktree.clone();
        let branch = intent.branch.clone().unwrap_or_else(|| name.branch().to_owned());
        info!(guppy_event = "worktree", "{name}: making {} again", worktree.display());
        tokio::task::spawn_local(async move {
            let made = act::recreate(&repository, &worktree, &branch).await;
            let mut keeper = keeper.borrow_mut();
            keeper.recreating.remove(&name);
            if let Err(why) = made {
                keeper.trouble(&name, why);
            }
            wake.notify_one();
        });
    }

    /// Asks an address in the background, and wakes the loop with the answer.
    pub(super) fn probe(&self, address: String) {
        let keeper = Rc::clone(&self.keeper);
        let wake = Rc::clone(&self.wake);
        let at_most = keeper.borrow().config.config().starts.probe_at_most;
        if !keeper.borrow_mut().probing.insert(address.clone()) {
            return;
        }
        tokio::task::spawn_local(async move {
            let failed = reach(&address, at_most).await;
            let mut keeper = keeper.borrow_mut();
            let at = keeper.clock.now();
            keeper.probing.remove(&address);
            keeper.probes.insert(address, Probe { at, failed });
            wake.notify_one();
        });
    }
}

impl Round {
    /// Saves what agents that rest have written since: those without hooks say nothing of a turn's
    /// end.
    pub(super) fn save(&self, sight: &mut Sight) {
        let mut there = BTreeSet::new();
        for (name, files) in std::mem::take(&mut sight.files) {
            let seen = sight.evidence.sessions.get(&name);
            let rests = seen.is_some_and(|seen| seen.own.activity != Activity::Working);
            files.iter().filter(|_| rests).for_each(|(file, now)| self.save_one(file, *now));
            there.extend(files.into_iter().map(|(file, _)| file));
        }
        self.keeper.borrow_mut().saved.retain(|path, _| there.contains(path));
    }

    fn save_one(&self, path: &Path, now: Stamp) {
        let mut keeper = self.keeper.borrow_mut();
        // A disk that takes its time is not asked for the same again and again.
        if keeper.saved.get(path) == Some(&now) || !keeper.saving.insert(path.to_owned()) {
            return;
        }
        let (keeper, path) = (Rc::clone(&self.keeper), path.to_owned());
        tokio::task::spawn_local(async move {
            let saved = act::sync_in_background(path.clone()).await;
            let mut keeper = keeper.borrow_mut();
            keeper.saving.remove(&path);
            if saved {
                keeper.saved.insert(path, now);
            }
        });
    }
}
