//! What is being done for sessions beside the looks: an errand for each at a time. While one is under
//! way its session counts as what it will be, and a look that has seen anything of it amid the errand
//! does not judge it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tokio::sync::Mutex;

use super::Keeper;
use crate::decide::Session;
use crate::learned::Learned;
use crate::name::SessionName;
use crate::sense::Reading;

/// The errands.
#[derive(Debug, Default)]
pub(super) struct Errands {
    /// By session: what will be known of it, if the errand learns something.
    under_way: BTreeMap<SessionName, Option<Learned>>,
    /// Those among them that a look did not judge.
    passed_over: BTreeSet<SessionName>,
}

impl Keeper {
    /// The sessions for which something is being done now: a look that begins here will not judge them.
    pub(crate) fn pass_over(&mut self) -> BTreeSet<SessionName> {
        self.errands.passed_over = self.errands.under_way.keys().cloned().collect();
        self.errands.passed_over.clone()
    }

    /// Notes that something is being done for a session.
    pub(crate) fn set_out(&mut self, name: &SessionName, learns: Option<Learned>) {
        self.errands.under_way.insert(name.clone(), learns);
    }

    /// Notes that it is done. Whether a look has passed the session over: then it is due to be judged.
    pub(crate) fn come_back(&mut self, name: &SessionName) -> bool {
        self.errands.under_way.remove(name);
        self.errands.passed_over.remove(name)
    }

    /// The declared sessions as `decide` is to take them, without those that this look passes over.
    pub(crate) fn to_judge(
        &self,
        passed_over: &BTreeSet<SessionName>,
    ) -> BTreeMap<SessionName, Session> {
        let mut sessions = self.sessions();
        for (name, session) in &mut sessions {
            session.under_way = passed_over.contains(name);
            if let Some(Some(learned)) = self.errands.under_way.get(name) {
                session.learned = Reading::Known(Rc::new(learned.clone()));
            }
        }
        sessions
    }

    /// Held by whoever changes what is known of a session, until that is on the disk.
    pub(super) fn writing(&mut self, name: &SessionName) -> Rc<Mutex<()>> {
        // Whoever waits for one has it too.
        self.writing.retain(|_, lock| Rc::strong_count(lock) > 1);
        Rc::clone(self.writing.entry(name.clone()).or_default())
    }
}
