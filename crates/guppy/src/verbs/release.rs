//! `guppy release ID`: ends a hold.

use std::path::Path;

use idle_stopper::api::{HoldLine, IdleStopper};
use serde::Serialize;

use crate::agent::IDLE_STOPPER;
use crate::report::{Failure, Report};
use crate::span;
use crate::table::printable;

#[derive(Serialize)]
struct Released {
    /// The hold that was ended; null where none had this id.
    released: Option<HoldLine>,
}

/// Runs the verb. A hold that is not in force is already released.
///
/// # Errors
/// The agent cannot be asked, or refuses: the hold is another user's.
pub async fn run(socket: Option<&Path>, id: u64) -> Result<Report, Failure> {
    use idle_stopper::api::Error::NoSuchHold;

    let released = IDLE_STOPPER
        .ask(socket, async |mut agent| {
            Ok(match agent.release(id).await? {
                Ok(hold) => Ok(Some(hold)),
                Err(NoSuchHold { .. }) => Ok(None),
                Err(no) => Err(no),
            })
        })
        .await?;
    Report::new(text(id, released.as_ref()), &Released { released })
}

fn text(id: u64, released: Option<&HoldLine>) -> String {
    match released {
        Some(hold) => format!(
            "released hold {id} of {}: {} (it had {} left)\n",
            printable(&hold.who),
            printable(&hold.why),
            span::text(hold.left_seconds)
        ),
        None => format!("hold {id} is not in force: nothing to release (see: guppy idle)\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_it_ended() {
        let hold = HoldLine {
            id: 7,
            who: "alice".to_owned(),
            why: "demo".to_owned(),
            since_seconds: 60,
            left_seconds: 7200,
            pid: None,
        };
        assert_eq!(
            text(7, Some(&hold)),
            "released hold 7 of alice: demo (it had 2 h 00 min left)\n"
        );
        assert_eq!(text(8, None), "hold 8 is not in force: nothing to release (see: guppy idle)\n");
    }
}
