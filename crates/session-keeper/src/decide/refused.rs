//! A session whose file is refused: nothing is started. An agent that was started before the file
//! was spoiled goes on, unless a person has said that it should end: for that no file is needed.

use super::{Action, Round, Standing, State};
use crate::learned::{Learned, Stop};
use crate::name::SessionName;
use crate::sense::{Reading, Seen};

impl Round<'_> {
    pub(super) fn refused(
        &mut self,
        name: &SessionName,
        why: &str,
        learned: &Learned,
        seen: &Seen,
    ) -> Standing {
        let pane = match &seen.pane {
            Reading::Known(pane) => pane.as_ref(),
            Reading::Unknown(unknown) => return Standing::unknown(unknown),
        };
        let lives = pane.is_some_and(|pane| !pane.dead);
        let by_person = learned.stopped == Some(Stop::Person);
        match (lives, by_person) {
            (true, true) => {
                let asked = learned.ending.clone().unwrap_or_else(|| self.now.moment());
                let force = self.is_overdue(&asked);
                self.decision.actions.push(Action::End { name: name.clone(), force });
                Standing::of(State::Ending, "a person has asked for it")
            }
            (true, false) => {
                Standing::blocked(format!("{why}; its agent goes on (guppy stop {name})"))
            }
            (false, true) => Standing::stopped(format!("by a person; its file is refused: {why}")),
            (false, false) => Standing::blocked(why),
        }
    }
}
