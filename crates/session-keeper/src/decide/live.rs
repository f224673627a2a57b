//! A session whose pane has a process: what it does, what it is sent, and its end if a person
//! wants it. Nothing here ends an agent that nobody asked to end.

use std::time::Duration;

use super::{Action, Case, Line, Round, Standing, State};
use crate::agents::IdSource;
use crate::intent::OnResume;
use crate::learned::{Moment, Stop};
use crate::sense::{Activity, Outcome, Reading};

/// An agent that was asked to end gets this long before it is killed.
const GRACE: Duration = Duration::from_secs(10);

type Step = (Standing, Vec<Action>);

impl Round<'_> {
    pub(super) fn live(&mut self, case: &mut Case<'_>) -> Step {
        case.respawned();
        let ended_by_person = case.learned.stopped == Some(Stop::Person)
            || case.learned.restart == Some(case.learned.start);
        if ended_by_person {
            return self.end(case);
        }
        self.forget(case);
        if case.seen.transcript == Reading::Known(Some(true)) {
            case.learned.transcribed = true;
        }
        let report = case.report.filter(|report| {
            report.start == case.learned.start && matches!(report.outcome, Outcome::Started { .. })
        });
        let Some(report) = report else {
            return (Standing::of(State::Starting, ""), Vec::new());
        };
        let mut actions = Vec::new();
        let id = &case.learned.conversation;
        if case.agent.conversation.id != IdSource::Session && report.conversation != *id {
            actions.extend(id.clone().map(|id| Action::Rotate(case.name.clone(), id)));
        }
        let (state, mut why) = case.activity();
        if let Some(conflict) = &report.conflict {
            why = format!("its conversation is locked by another: {conflict}");
        }
        actions.extend(case.line(state));
        let note = case.learned.note.clone().unwrap_or_default();
        (Standing::of(state, if why.is_empty() { note } else { why }), actions)
    }

    fn end(&mut self, case: &mut Case<'_>) -> Step {
        let asked = case.learned.ending.get_or_insert_with(|| self.now.moment()).clone();
        let force = self.is_overdue(&asked);
        let action = Action::End { name: case.name.clone(), force };
        (Standing::of(State::Ending, "a person has asked for it"), vec![action])
    }

    /// Whether an agent that was asked to end then has had its time. Else the next look is due when
    /// it has.
    pub(super) fn is_overdue(&mut self, asked: &Moment) -> bool {
        let age = asked.age(self.now.boot, self.now.at).unwrap_or(GRACE);
        if age < GRACE {
            self.look_at(asked.at + GRACE);
        }
        age >= GRACE
    }

    /// An agent that has lived long enough has had no crash before.
    fn forget(&self, case: &mut Case<'_>) {
        let begun = case.learned.begun.as_ref();
        let age = begun.and_then(|begun| begun.at.age(self.now.boot, self.now.at));
        if age.is_some_and(|age| age >= self.config.crash.forget_after) {
            case.learned.crashes.clear();
            case.learned.fallback = false;
        }
    }
}

impl Case<'_> {
    /// A person has started the shim again in its dead pane (`respawn-pane`): that counts as
    /// `guppy start`, and its end is judged anew.
    fn respawned(&mut self) {
        let learned = &mut self.learned;
        if learned.start > 0 && learned.judged == learned.start {
            learned.judged = learned.start - 1;
            learned.stopped = None;
            learned.parked = None;
            learned.wait = None;
        }
    }

    fn activity(&mut self) -> (State, String) {
        let learned = &mut self.learned;
        match &self.seen.own.activity {
            Activity::Unknown => (State::Running, String::new()),
            Activity::Starting => (State::Starting, String::new()),
            Activity::Working => {
                learned.working = true;
                learned.interrupted = false;
                (State::Working, String::new())
            }
            Activity::Waiting(what) => (State::Waiting, what.clone()),
            Activity::Idle => {
                // In a short turn nobody has seen its agent at work.
                let turned = self.seen.own.turned;
                if std::mem::take(&mut learned.working) || turned {
                    learned.continued = false;
                }
                learned.interrupted &= !turned;
                match learned.interrupted {
                    true => (State::Interrupted, "it was cut off in the middle of its turn".into()),
                    false => (State::Idle, String::new()),
                }
            }
        }
    }

    /// What to send now. That it was sent is remembered before it is: twice would be worse than
    /// never.
    fn line(&mut self, state: State) -> Option<Action> {
        let learned = &mut self.learned;
        let line = match state {
            State::Idle if self.intent.prompt.is_some() && !learned.prompted => {
                learned.prompted = true;
                Line::Prompt
            }
            State::Interrupted
                if self.intent.on_resume == OnResume::Continue && !learned.continued =>
            {
                learned.continued = true;
                Line::Continue
            }
            _ => return None,
        };
        Some(Action::Send(self.name.clone(), line))
    }
}

impl crate::learned::Learned {
    /// A line that was to be sent was not, and is due again.
    pub(crate) fn unsend(&mut self, line: Line) {
        match line {
            Line::Prompt => self.prompted = false,
            Line::Continue => self.continued = false,
        }
    }
}
