//! What was decided for one session, done beside the loop: a disk that hangs at what is written of
//! it, or a start that waits for its turn, holds up this session and no other.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::{Mutex, Notify};

use crate::decide::{Action, Standing};
use crate::keeper::{self, Keeper};
use crate::learned::Learned;
use crate::name::SessionName;
use crate::process::Identity;
use crate::sense::Reading;

/// One session's part of a decision.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) name: SessionName,
    /// What was known of it when it was judged.
    pub(super) known: Option<Reading<Rc<Learned>>>,
    /// What to do, in this order.
    pub(super) actions: Vec<Action>,
    /// Where it stands: shown when what was learned with it is on the disk.
    pub(super) standing: Standing,
}

/// What does it. Clones work together.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    pub(super) keeper: Rc<RefCell<Keeper>>,
    /// Rung when the loop should look.
    pub(super) wake: Rc<Notify>,
    news: Rc<Notify>,
    /// Shims that were asked to end their agents. Once each: to many programs a second SIGTERM says
    /// to drop everything.
    pub(super) asked: Rc<RefCell<BTreeMap<SessionName, Identity>>>,
    /// Held by who tells tmux to start: of a server that comes to hang only one start is not known to
    /// have come about.
    pub(super) starting: Rc<Mutex<()>>,
}

/// What came of an errand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// What was learned is on the disk; nothing else was done.
    Learned,
    /// What it has changed is there to be seen; or somebody has said something else since, and that is
    /// for the next look.
    LookAgain,
}

impl Hands {
    pub(super) fn new(keeper: Rc<RefCell<Keeper>>, wake: Rc<Notify>, news: Rc<Notify>) -> Self {
        Self { keeper, wake, news, asked: Rc::default(), starting: Rc::default() }
    }

    /// Sends somebody out; who comes back rings.
    pub(super) fn send_out(&self, errand: Errand) {
        let learns = errand.actions.iter().find_map(|action| match action {
            Action::Remember(_, learned) => Some(Learned::clone(learned)),
            _ => None,
        });
        self.keeper.borrow_mut().set_out(&errand.name, learns);
        let hands = self.clone();
        tokio::task::spawn_local(async move {
            let name = errand.name.clone();
            let done = hands.run(errand).await;
            let passed_over = hands.keeper.borrow_mut().come_back(&name);
            if let Err(why) = &done {
                hands.keeper.borrow_mut().trouble(&name, why.clone());
            }
            match done {
                Ok(Done::Learned) if !passed_over => hands.news.notify_one(),
                _ => hands.wake.notify_one(),
            }
        });
    }

    /// It is done only as long as nobody has changed what it was decided on: each action takes its
    /// time, and in it a person may have said something else.
    async fn run(&self, errand: Errand) -> Result<Done, String> {
        let Errand { name, mut known, actions, standing } = errand;
        let judged_on = known.clone();
        let mut standing = Some(standing);
        let mut done = Done::Learned;
        for action in actions {
            if let Action::Remember(_, learned) = action {
                if !self.remember(&name, *learned, &mut known).await? {
                    return Ok(Done::LookAgain);
                }
                continue;
            }
            if !self.keeper.borrow().knows(&name, known.as_ref()) {
                return Ok(Done::LookAgain);
            }
            self.stand(&name, standing.take());
            done = Done::LookAgain;
            match action {
                Action::Start(_, start) => {
                    if !self.start(&name, &start, known.as_ref()).await? {
                        self.take_back(&name, known, judged_on).await?;
                        return Ok(Done::LookAgain);
                    }
                }
                action => Box::pin(self.perform(action)).await?,
            }
        }
        if self.keeper.borrow().knows(&name, known.as_ref()) {
            self.stand(&name, standing);
        }
        Ok(done)
    }

    fn stand(&self, name: &SessionName, standing: Option<Standing>) {
        if let Some(standing) = standing {
            self.keeper.borrow_mut().stand(name.clone(), standing);
        }
    }

    /// Unless a person has said something since, or says it while an earlier word is being written:
    /// then what follows is not done either.
    async fn remember(
        &self,
        name: &SessionName,
        learned: Learned,
        known: &mut Option<Reading<Rc<Learned>>>,
    ) -> Result<bool, String> {
        let now = Some(Reading::Known(Rc::new(learned.clone())));
        let before = std::mem::replace(known, now);
        let of = name.clone();
        let change = move |keeper: &Keeper| keeper.knows(&of, before.as_ref()).then_some(learned);
        keeper::learn(&self.keeper, name, change).await
    }

    /// A start that nobody was told of does not count.
    async fn take_back(
        &self,
        name: &SessionName,
        known: Option<Reading<Rc<Learned>>>,
        judged_on: Option<Reading<Rc<Learned>>>,
    ) -> Result<(), String> {
        let Some(Reading::Known(before)) = judged_on else { return Ok(()) };
        let of = name.clone();
        let change = move |keeper: &Keeper| {
            keeper.knows(&of, known.as_ref()).then(|| Learned::clone(&before))
        };
        keeper::learn(&self.keeper, name, change).await.map(drop)
    }
}
