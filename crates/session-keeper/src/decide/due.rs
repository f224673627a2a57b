//! A session whose agent does not run: does it start, and if not, why.

use super::gates::CLEARED;
use super::{Action, Case, Round, Standing, Start};
use crate::agents::IdSource;
use crate::learned::{Begun, MOMENTS_AT_MOST, Server, Stop};
use crate::sense::{Reading, TmuxServer};

type Step = (Standing, Vec<Action>);

impl Round<'_> {
    pub(super) fn dead(&mut self, case: &mut Case<'_>, moved: bool) -> Step {
        let none = |standing| (standing, Vec::new());
        let latest = self.is_latest(case);
        let judged = case.judge(&self.evidence.server, latest, &self.config.crash, self.now);
        if judged {
            // Nothing is left to end.
            case.learned.ending = None;
            case.learned.restart = None;
        }
        if let Some(standing) = self.rests(case) {
            return self.rest(case, standing);
        }
        let server = match self.server() {
            Ok(server) => server,
            Err(standing) => return none(standing),
        };
        if moved {
            // Its transcript has not been looked for yet.
            self.look_at(self.now.at);
            return none(Standing::due("its conversation was just learned"));
        }
        let gates = self.gates(case);
        match gates {
            Err(shut) => {
                let (standing, action) = *shut;
                (standing, action.into_iter().collect())
            }
            Ok(()) => self.start(case, server),
        }
    }

    /// Whether no other session was started later on the server of its last start. Of agents that were
    /// all lost with their server it is the one that is suspected: those before it had it live on.
    fn is_latest(&self, case: &Case<'_>) -> bool {
        let Some(begun) = &case.learned.begun else { return false };
        let mut last = self.last_on.iter().filter(|(server, ..)| *server == begun.server);
        last.all(|(_, at, name)| (*at, name) <= (begun.at.at, case.name))
    }

    /// A person who has said stop means all of it: what an agent has left (its shim was killed, or it
    /// ended by itself and what it had started did not) works on otherwise, and nobody sees it.
    fn rest(&mut self, case: &Case<'_>, standing: Standing) -> Step {
        let by_person = case.learned.stopped == Some(Stop::Person);
        if by_person && case.seen.populated == Reading::Known(true) {
            self.look_at(self.now.at + CLEARED);
            let standing = Standing::of(super::State::Ending, "what its agent has left");
            return (standing, vec![Action::Clear(case.name.clone())]);
        }
        (standing, Vec::new())
    }

    /// Why it stays as it is, if it does.
    fn rests(&self, case: &mut Case<'_>) -> Option<Standing> {
        let name = case.name;
        let learned = &mut case.learned;
        let again = format!("guppy start {name}");
        match learned.stopped {
            Some(Stop::Person) => return Some(Standing::stopped(format!("by a person ({again})"))),
            Some(Stop::Removed) => {
                let why = format!("its pane was closed in tmux ({again})");
                return Some(Standing::stopped(why));
            }
            Some(Stop::Exited) => {
                return Some(Standing::stopped(format!("its agent has ended ({again})")));
            }
            None => {}
        }
        match &learned.parked {
            Some(park) if park.until.is_some_and(|until| until <= self.now.wall) => {
                learned.parked = None;
            }
            Some(park) => return Some(Standing::parked(format!("{} ({again})", park.why))),
            None => {}
        }
        let asked = learned.asked.as_deref() == Some(self.now.boot);
        (!case.intent.autostart && !asked)
            .then(|| Standing::stopped(format!("autostart = false ({again})")))
    }

    fn server(&self) -> Result<Server, Standing> {
        match &self.evidence.server {
            Reading::Known(TmuxServer::Ours(server)) => Ok(server.clone()),
            Reading::Known(TmuxServer::Absent | TmuxServer::Ending) => {
                Err(Standing::due("waits for the tmux server"))
            }
            Reading::Known(TmuxServer::Foreign(why)) => Err(Standing::blocked(why.clone())),
            Reading::Unknown(why) => Err(Standing::unknown(why.clone())),
        }
    }

    fn start(&mut self, case: &mut Case<'_>, server: Server) -> Step {
        let now = self.now.moment();
        let rules = &case.agent.conversation;
        let begins = case.learned.conversation.is_none();
        if rules.id == IdSource::Given && begins {
            let Some(fresh) = case.seen.fresh.clone() else {
                return (Standing::unknown("no id for a new conversation"), Vec::new());
            };
            case.learned.conversation = Some(fresh);
        }
        let resume = match (rules.id, &case.seen.transcript) {
            (IdSource::Session, _) => case.learned.start > 0,
            (IdSource::Learned, _) => !begins,
            (IdSource::Given, Reading::Known(Some(there))) => !begins && *there,
            (IdSource::Given, _) => !begins && case.learned.start > 0,
        };
        case.learned.mark_loss(rules.id, begins, resume);
        let learned = &mut case.learned;
        learned.start += 1;
        learned.begun = Some(Begun { at: now.clone(), server, resumed: resume });
        learned.wait = None;
        learned.starts.retain(|start| {
            start.age(self.now.boot, self.now.at).is_some_and(|age| age < super::HOUR)
        });
        let surplus = (learned.starts.len() + 1).saturating_sub(MOMENTS_AT_MOST);
        learned.starts.drain(..surplus);
        learned.starts.push(now);

        self.last_start = Some(self.now.at);
        self.starts += 1;
        if let Some(id) = &learned.conversation {
            self.taken.insert((case.intent.agent.clone(), id.clone()), case.name.clone());
        }
        let start = Start {
            number: learned.start,
            conversation: learned.conversation.clone(),
            resume,
            pane: case.pane.map(|pane| pane.id.clone()),
        };
        let why = learned.note.clone().unwrap_or_default();
        let standing = Standing::of(super::State::Starting, why);
        (standing, vec![Action::Start(case.name.clone(), start)])
    }
}

impl crate::learned::Learned {
    /// Says aloud what a start does not bring back.
    fn mark_loss(&mut self, id: IdSource, begins: bool, resume: bool) {
        let ran_before = self.start > 0;
        let lost = match id {
            IdSource::Given => self.transcribed && !resume && !begins,
            IdSource::Learned => begins && ran_before && !self.fallback,
            IdSource::Session => false,
        };
        if lost {
            let what = match &self.conversation {
                Some(id) => format!("the transcript of conversation {id} is gone"),
                None => "the id of its conversation was never learned".to_owned(),
            };
            self.note = Some(format!("{what}: a new one was begun"));
            self.transcribed = false;
        }
    }
}
