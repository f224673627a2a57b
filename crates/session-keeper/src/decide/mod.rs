//! Room two: judges. Pure: (declared × observed × learned, now) → actions. No I/O, no clock, no
//! logging; time and new ids are values that come in.
//!
//! What must be remembered is an action before the one that it is remembered for:
//! [`Action::Remember`] is durable before the start that it counts is ordered, so a keeper that is
//! killed between any two actions neither loses a conversation nor starts an agent twice.
//!
//! **Architecture Invariant:** one process a conversation. A session is started only while its
//! pane has no process, its cgroup is empty, and no process and no other session is known to be in
//! its conversation. What this cannot see (a twin between two looks) the shim's lock refuses.
//!
//! **Architecture Invariant:** unknown starts nothing and kills nothing.

mod due;
mod end;
mod gates;
mod live;
mod refused;
mod standing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use service::clock::Boottime;

pub use standing::{Standing, State};

use crate::agents::Agent;
use crate::config::Config;
use crate::conversation::Conversation;
use crate::intent::Intent;
use crate::learned::{Learned, Moment, Server};
use crate::name::SessionName;
use crate::sense::{Evidence, Reading, Seen};

/// The time, three ways.
#[derive(Clone, Copy, Debug)]
pub struct Now<'a> {
    /// Which boot.
    pub boot: &'a str,
    /// CLOCK_BOOTTIME.
    pub at: Boottime,
    /// Seconds of the wall clock since 1970: only for a reset that a provider gives so.
    pub wall: u64,
}

impl Now<'_> {
    /// This moment.
    pub fn moment(&self) -> Moment {
        Moment { boot: self.boot.to_owned(), at: self.at }
    }
}

/// What a session should be.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Its intent and its agent.
    Valid(Arc<Intent>, Arc<Agent>),
    /// Why its file is refused.
    Refused(String),
}

/// One declared session.
#[derive(Clone, Debug)]
pub struct Session {
    /// What it should be.
    pub wanted: Wanted,
    /// What is known of it; Unknown: its file cannot be read.
    pub learned: Reading<Rc<Learned>>,
    /// What an earlier look has ordered for it is being done: it may live, and is not judged by what
    /// was seen amid that.
    pub under_way: bool,
}

/// What to send to an agent that is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// The first prompt of a new session.
    Prompt,
    /// The line of `on_resume = "continue"`.
    Continue,
}

/// How to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The number.
    pub number: u64,
    /// The conversation; None: the agent makes one, or has none.
    pub conversation: Option<Conversation>,
    /// Go on with it, rather than begin it.
    pub resume: bool,
    /// The dead pane to start it in, so that attached clients stay; None: a new session.
    pub pane: Option<String>,
}

/// What to do. Each may be done twice without harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write what was learned, durably. If that fails, the session's later actions are not done.
    Remember(SessionName, Box<Learned>),
    /// Start the agent.
    Start(SessionName, Start),
    /// Kill what a dead agent has left in its cgroup.
    Clear(SessionName),
    /// End the agent that runs, as a person has asked; `force`: it has not heeded the first word.
    End {
        /// The session.
        name: SessionName,
        /// With SIGKILL to its cgroup.
        force: bool,
    },
    /// Tell the shim that its agent has gone to another conversation.
    Rotate(SessionName, Conversation),
    /// Send text to an agent that is ready.
    Send(SessionName, Line),
    /// Make the worktree again.
    Recreate(SessionName),
    /// Ask whether this address answers.
    Probe(String),
}

/// What came of a look.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// What to do, in this order.
    pub actions: Vec<Action>,
    /// Where each session that was judged stands, for people.
    pub standings: BTreeMap<SessionName, Standing>,
    /// A session is to be started, now or when its turn has come: the keepers of other users may
    /// know.
    pub wants_start: bool,
    /// When the next look is due, if that is before the next tick.
    pub look_again: Option<Boottime>,
}

/// Judges all sessions.
pub fn decide(
    sessions: &BTreeMap<SessionName, Session>,
    evidence: &Evidence,
    config: &Config,
    now: Now<'_>,
) -> Decision {
    let mut round = Round::new(sessions, evidence, config, now);
    for (name, session) in sessions.iter().filter(|(_, session)| !session.under_way) {
        let standing = match (&session.wanted, &session.learned, evidence.sessions.get(name)) {
            (Wanted::Refused(why), Reading::Known(learned), Some(seen)) => {
                round.refused(name, why, learned, seen)
            }
            (Wanted::Refused(why), ..) => Standing::blocked(why.clone()),
            (_, Reading::Unknown(why), _) => Standing::unknown(why.clone()),
            (Wanted::Valid(intent, agent), Reading::Known(learned), Some(seen)) => {
                round.session(name, intent, agent, learned, seen)
            }
            (.., None) => Standing::unknown("it has not been looked at yet"),
        };
        round.decision.standings.insert(name.clone(), standing);
    }
    round.decision
}

/// One pass over all sessions.
struct Round<'a> {
    evidence: &'a Evidence,
    config: &'a Config,
    now: Now<'a>,
    decision: Decision,
    /// Conversations that live sessions are in, or that were started in this pass.
    taken: BTreeMap<(String, Conversation), SessionName>,
    /// The last start of any session in this boot, and how many there were in the last hour.
    last_start: Option<Boottime>,
    starts: usize,
    /// The starts whose end was not judged before this pass: on which server, when and whose. Of those
    /// of one moment the later name was started later.
    last_on: Vec<(Server, Boottime, SessionName)>,
    probes: BTreeSet<String>,
}

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

impl<'a> Round<'a> {
    fn new(
        sessions: &BTreeMap<SessionName, Session>,
        evidence: &'a Evidence,
        config: &'a Config,
        now: Now<'a>,
    ) -> Self {
        let mut taken = BTreeMap::new();
        let (mut last_start, mut starts) = (None, 0);
        let mut last_on = Vec::new();
        for (name, session) in sessions {
            let Reading::Known(learned) = &session.learned else { continue };
            let this_boot = learned.starts.iter().filter(|start| start.boot == now.boot);
            for start in this_boot {
                last_start = last_start.max(Some(start.at));
                starts += usize::from(now.at.since(start.at) < HOUR);
            }
            if let Some(begun) = learned.begun.as_ref().filter(|_| learned.judged < learned.start) {
                last_on.push((begun.server.clone(), begun.at.at, name.clone()));
            }
            let live = session.under_way || evidence.sessions.get(name).is_some_and(may_live);
            if let (true, Wanted::Valid(intent, _), Some(id)) =
                (live, &session.wanted, &learned.conversation)
            {
                taken.insert((intent.agent.clone(), id.clone()), name.clone());
            }
        }
        let decision = Decision::default();
        let probes = BTreeSet::new();
        Self { evidence, config, now, decision, taken, last_start, starts, last_on, probes }
    }

    fn session(
        &mut self,
        name: &SessionName,
        intent: &Intent,
        agent: &Agent,
        learned: &Learned,
        seen: &Seen,
    ) -> Standing {
        let (pane, report) = match (&seen.pane, &seen.report) {
            (Reading::Known(pane), Reading::Known(report)) => (pane.as_ref(), report.as_ref()),
            (Reading::Unknown(why), _) | (_, Reading::Unknown(why)) => {
                return Standing::unknown(why);
            }
        };
        let mut case = Case { name, intent, agent, seen, pane, report, learned: learned.clone() };
        case.follow_report();
        case.follow_conversation();
        // What was looked up belongs to the conversation before.
        let moved = case.learned.conversation != learned.conversation;
        let (standing, mut actions) = match case.is_live() {
            true => self.live(&mut case),
            false => self.dead(&mut case, moved),
        };
        if case.learned != *learned {
            let remember = Action::Remember(name.clone(), Box::new(case.learned));
            actions.insert(0, remember);
        }
        self.decision.actions.append(&mut actions);
        standing
    }

    /// Asks for a look at that moment.
    fn look_at(&mut self, at: Boottime) {
        let soonest = self.decision.look_again.map_or(at, |other| other.min(at));
        self.decision.look_again = Some(soonest);
    }
}

/// Whether the session's agent may be running.
fn may_live(seen: &Seen) -> bool {
    !matches!(&seen.pane, Reading::Known(pane) if pane.as_ref().is_none_or(|pane| pane.dead))
        || seen.populated != Reading::Known(false)
}

/// One session, with what this pass learns of it.
struct Case<'a> {
    name: &'a SessionName,
    intent: &'a Intent,
    agent: &'a Agent,
    seen: &'a Seen,
    pane: Option<&'a crate::sense::Pane>,
    report: Option<&'a crate::sense::Report>,
    learned: Learned,
}

impl Case<'_> {
    /// A report of a later start than any that is known: what was learned has been lost. Its
    /// number and its conversation are still the truth.
    fn follow_report(&mut self) {
        let Some(report) = self.report.filter(|report| report.start > self.learned.start) else {
            return;
        };
        self.learned.start = report.start;
        self.learned.begun = None;
        if self.learned.conversation.is_none() {
            self.learned.conversation.clone_from(&report.conversation);
        }
    }

    /// Goes to the conversation that the agent itself says it is, or was, in. What a dead process
    /// has left may be older than what is known (a power cut): then it is in the history.
    fn follow_conversation(&mut self) {
        let Some(own) = &self.seen.own.conversation else { return };
        if self.is_live() || !self.learned.history.contains(own) {
            self.learned.move_to(Some(own.clone()));
        }
    }

    fn is_live(&self) -> bool {
        self.pane.is_some_and(|pane| !pane.dead)
    }
}
