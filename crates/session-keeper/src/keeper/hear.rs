//! What hooks tell. They wake the loop; what they say counts only for the start that they come
//! from: a late one of an agent that has ended changes nothing.

use std::path::Path;

use super::Keeper;
use crate::agents::IdSource;
use crate::api::HookEvent;
use crate::conversation::Conversation;
use crate::decide::Wanted;
use crate::hook;
use crate::name::SessionName;
use crate::patience::Work;
use crate::sense::{Activity, Heard};

/// No honest event is longer.
const LEFT_AT_MOST: usize = 64 * 1024;

/// What a hook calls for beyond a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heeded {
    /// Nothing.
    Look,
    /// A turn has ended: its transcript is worth keeping.
    Sync(SessionName),
}

/// Reads what a hook has left, and removes it.
fn take_what_was_left(path: &Path) -> Option<HookEvent> {
    let text = service::state::read(path, LEFT_AT_MOST).ok()??;
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!("{}: {error}", path.display());
    }
    serde_json::from_str(&text).ok()
}

impl Keeper {
    /// Takes an event in.
    pub fn hear(&mut self, event: &HookEvent) -> Heeded {
        let heeded = self.heed(event);
        heeded.unwrap_or(Heeded::Look)
    }

    /// Takes in what hooks have left while no keeper was there to be told.
    pub fn hear_what_was_left(&mut self) {
        let works = self.intents.sessions.keys().map(|name| -> Work<_> {
            let path = hook::left_at(&self.looker.paths, name);
            (path.clone(), Box::new(move || take_what_was_left(&path)))
        });
        let left = self.looker.patience.each(works.collect());
        for event in left.into_iter().filter_map(Result::ok).flatten() {
            self.heed(&event);
        }
    }

    fn heed(&mut self, event: &HookEvent) -> Option<Heeded> {
        let name = SessionName::parse(event.session.as_deref()?).ok()?;
        let start = self.learned(&name)?.start;
        if event.start != Some(start) {
            return None;
        }
        let Some(Wanted::Valid(_, agent)) = self.wanted(&name) else { return None };
        let heard = self.heard.entry(name.clone()).or_default();
        if heard.start != start {
            *heard = Heard { start, ..Heard::default() };
        }
        let has_ids = agent.conversation.id != IdSource::Session;
        // SessionEnd comes with a throwaway id for a resume that failed: nothing is bound to it.
        if has_ids
            && matches!(event.event.as_str(), "SessionStart" | "UserPromptSubmit")
            && let Some(id) = &event.conversation
            && let Ok(id) = Conversation::of_shape(agent.conversation.shape, id)
        {
            heard.conversation = Some(id);
        }
        let detail = event.detail.clone().unwrap_or_default();
        heard.failed = None;
        match event.event.as_str() {
            "SessionStart" => heard.activity = Activity::Idle,
            "UserPromptSubmit" => {
                heard.activity = Activity::Working;
                heard.turned = true;
            }
            "PermissionRequest" => heard.activity = Activity::Waiting(detail),
            "Stop" => {
                heard.activity = Activity::Idle;
                return Some(Heeded::Sync(name));
            }
            "StopFailure" => {
                heard.activity = Activity::Idle;
                heard.failed = Some(detail);
                return Some(Heeded::Sync(name));
            }
            _ => {}
        }
        Some(Heeded::Look)
    }
}
