//! A look of a keeper at the world, and what it then does.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use service::clock::Boottime;

use super::super::*;
use super::world::{World, id};
use crate::agents::IdSource;
use crate::learned::Server;
use crate::sense::{Evidence, Holder, Own, Pane, Reading, Seen, TmuxServer, Twin};

impl World {
    /// Looks and acts until the time has passed. Each look is when `decide` asks for it.
    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while self.now < end {
            let next = self.look(usize::MAX);
            let tick = self.now + self.config.tick;
            let soonest = self.now + Duration::from_millis(10);
            self.now = next.unwrap_or(tick).clamp(soonest, tick).min(end);
        }
        self.look(usize::MAX);
    }

    /// One look, of whose actions only so many are done: then the keeper is killed.
    pub(super) fn look(&mut self, at_most: usize) -> Option<Boottime> {
        let evidence = self.evidence();
        let sessions = self
            .intents
            .iter()
            .map(|(name, intent)| {
                let wanted = match &self.refused {
                    Some(why) => Wanted::Refused(why.clone()),
                    None => Wanted::Valid(Arc::clone(intent), Arc::clone(&self.agent)),
                };
                let learned =
                    Reading::Known(Rc::new(self.places.get(name).unwrap().learned.clone()));
                let under_way = self.under_way.contains(name);
                (name.clone(), Session { wanted, learned, under_way })
            })
            .collect();
        let (boot, wall) = self.now();
        let now = Now { boot: &boot, at: self.now, wall };
        let decision = decide(&sessions, &evidence, &self.config, now);
        self.standings.extend(decision.standings);
        // An answer, and a shim that reports, bring the next look at once.
        let soon = |action: &Action| matches!(action, Action::Probe(_) | Action::Start(..));
        let probed = decision.actions.iter().any(soon);
        for action in decision.actions.into_iter().take(at_most) {
            self.act(action);
        }
        if probed { Some(self.now) } else { decision.look_again }
    }

    fn evidence(&mut self) -> Evidence {
        let unknown = || "EIO".to_owned();
        let names: Vec<_> = self.places.keys().cloned().collect();
        let mut sessions = BTreeMap::new();
        for name in names {
            let fresh = Some(id(self.number()));
            let place = self.places.get(&name).unwrap();
            let process = place.process.and_then(|pid| self.processes.get(&pid));
            let conversation = place.learned.conversation.as_ref();
            let own = Own {
                conversation: place.truth.clone(),
                activity: process.map(|process| process.activity.clone()).unwrap_or_default(),
                turned: process.is_some_and(|process| process.turned),
            };
            let pane = place.pane.map(|(pane, status)| Pane {
                id: format!("%{pane}"),
                pid: pane,
                dead: place.process.is_none(),
                status,
            });
            let has_ids = self.agent.conversation.id == IdSource::Given;
            let transcript =
                has_ids.then(|| conversation.is_some_and(|id| self.transcripts.contains(id)));
            let populated =
                self.processes.values().any(|process| process.session.as_ref() == Some(&name));
            let mut seen = Seen {
                pane: Reading::Known(pane),
                populated: Reading::Known(populated),
                report: Reading::Known(place.report.clone()),
                worktree: Reading::Known(place.worktree),
                unmounted: place.unmounted.clone(),
                twin: place.twin.clone().unwrap_or(Twin::Nobody),
                transcript: Reading::Known(transcript),
                own,
                name_taken: false,
                screen: place.screen.clone(),
                fresh,
            };
            if self.blind {
                seen.populated = Reading::Unknown(unknown());
                seen.pane = Reading::Unknown(unknown());
            }
            sessions.insert(name, seen);
        }
        let server = match self.server {
            _ if self.blind => Reading::Unknown(unknown()),
            None => Reading::Known(TmuxServer::Absent),
            Some(_) if self.stopping => Reading::Known(TmuxServer::Ending),
            Some(pid) => Reading::Known(TmuxServer::Ours(Server {
                pid,
                started: 1,
                boot: format!("boot-{}", self.boot),
            })),
        };
        let holders = self
            .processes
            .iter()
            .map(|(pid, process)| Holder {
                agent: "claude".to_owned(),
                conversation: process.conversation.clone(),
                pid: *pid,
                session: process.session.clone(),
            })
            .collect();
        Evidence {
            server,
            holders: Reading::Known(holders),
            probes: self.probes.clone(),
            neighbours: Reading::Known(self.neighbours.clone()),
            sessions,
        }
    }
}
