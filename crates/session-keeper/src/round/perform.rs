//! What is done for one action, whoever has ordered it.

use std::rc::Rc;
use std::sync::Arc;

use tracing::info;

use super::errand::Hands;
use crate::act::{self, SendError, Starter};
use crate::agents::Agent;
use crate::decide::{Action, Line, Start, Wanted};
use crate::intent::Intent;
use crate::keeper::{self, Keeper};
use crate::learned::Learned;
use crate::name::SessionName;
use crate::process::Identity;
use crate::sense::Reading;
use crate::serve::activity;

impl Hands {
    pub(super) async fn perform(&self, action: Action) -> Result<(), String> {
        match action {
            // What follows hangs on what comes of them: see `run`.
            Action::Remember(..) | Action::Start(..) => Ok(()),
            Action::Clear(name) => {
                let looker = Rc::clone(&self.keeper.borrow().looker);
                let Reading::Known(tree) = &looker.tree else { return Ok(()) };
                info!(guppy_event = "clear", "{name}: ending what its last agent has left");
                act::clear(tree.agent(&name)).await
            }
            Action::End { name, force } => {
                let looker = Rc::clone(&self.keeper.borrow().looker);
                let shim = self.shim(&name);
                if !force && shim.is_some() && self.asked.borrow().get(&name) == shim.as_ref() {
                    return Ok(());
                }
                info!(
                    guppy_event = "end",
                    "{name}: ending its agent{}",
                    if force { " by force" } else { "" }
                );
                match (force, &looker.tree, shim) {
                    (true, Reading::Known(tree), _) => act::clear(tree.agent(&name)).await,
                    (_, _, Some(shim)) => {
                        act::end(shim)?;
                        self.asked.borrow_mut().insert(name, shim);
                        Ok(())
                    }
                    _ => Ok(()),
                }
            }
            Action::Rotate(name, id) => {
                let path = self.keeper.borrow().paths().rotate(&name);
                match self.shim(&name) {
                    Some(shim) => act::rotate(path, &id, shim).await,
                    None => Ok(()),
                }
            }
            Action::Send(name, line) => {
                let (intent, agent) = self.wanted(&name)?;
                let text = match line {
                    Line::Prompt => intent.prompt.clone().unwrap_or_default(),
                    Line::Continue => intent.continue_with.clone(),
                };
                info!(guppy_event = "send", "{name}: sending {line:?}");
                self.send(&name, &agent, &text, line).await
            }
            Action::Recreate(name) => {
                let (intent, _) = self.wanted(&name)?;
                let Some(repository) = intent.repository.clone() else { return Ok(()) };
                self.recreate(name, repository, &intent);
                Ok(())
            }
            Action::Probe(address) => {
                self.probe(address);
                Ok(())
            }
        }
    }

    /// Starts; false: nobody was told to, and what it was remembered for is not so.
    pub(super) async fn start(
        &self,
        name: &SessionName,
        start: &Start,
        known: Option<&Reading<Rc<Learned>>>,
    ) -> Result<bool, String> {
        let (intent, agent) = self.wanted(name)?;
        let (looker, libexec, limits) = {
            let keeper = self.keeper.borrow();
            let limits = keeper.config.config().limits;
            (Rc::clone(&keeper.looker), keeper.libexec.clone(), limits)
        };
        let starter = Starter { looker: &looker, libexec: &libexec, limits };
        // Boxed, as all that is long: what waits for its turn takes little room, and a hundred wait at boot.
        Box::pin(starter.prepare(name, &intent, &agent, start)).await?;
        let _turn = self.starting.lock().await;
        // A person may have said stop meanwhile.
        if looker.tmux.hangs() || !self.keeper.borrow().knows(name, known) {
            return Ok(false);
        }
        let how = if start.resume { "resuming" } else { "starting" };
        info!(guppy_event = "start", "{name}: {how} {} ({})", intent.agent, start.number);
        Box::pin(starter.start(name, &intent, start)).await?;
        Ok(true)
    }

    async fn send(
        &self,
        name: &SessionName,
        agent: &Agent,
        text: &str,
        line: Line,
    ) -> Result<(), String> {
        let (looker, pane) = {
            let keeper = self.keeper.borrow();
            (Rc::clone(&keeper.looker), keeper.pane(name))
        };
        let pane = pane.ok_or("it has no pane")?;
        let now = || activity(&self.keeper, name, &pane);
        let sent = act::send(&looker.tmux, &pane, agent, text, now).await;
        if let Err(SendError::NotReady(_) | SendError::NotTyped(_) | SendError::Ended) = &sent {
            // It is sent when the agent is ready again.
            let of = name.clone();
            let unsend = move |keeper: &Keeper| {
                let mut learned = keeper.learned(&of)?.clone();
                learned.unsend(line);
                Some(learned)
            };
            keeper::learn(&self.keeper, name, unsend).await?;
        }
        sent.map_err(|error| error.to_string())
    }

    fn wanted(&self, name: &SessionName) -> Result<(Arc<Intent>, Arc<Agent>), String> {
        match self.keeper.borrow().wanted(name) {
            Some(Wanted::Valid(intent, agent)) => Ok((intent, agent)),
            Some(Wanted::Refused(why)) => Err(why),
            None => Err("no file declares it any more".to_owned()),
        }
    }

    /// The shim is the first process of its pane, also before it has reported.
    fn shim(&self, name: &SessionName) -> Option<Identity> {
        let keeper = self.keeper.borrow();
        let pane = keeper.view.as_ref()?.pane(name).filter(|pane| !pane.dead)?;
        Identity::of(pane.pid).ok()
    }
}
