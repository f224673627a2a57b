//! All judgement: no I/O, no clock, no await.

pub mod budget;
pub mod deadline;
pub mod failure;
pub mod stop;

use crate::event::Doorbell;
use crate::outcome::RegionOutcome;

/// Whether a run of this doorbell tells anybody.
///
/// Whoever is told by each of 96 runs a day does not read the one that matters. So a run speaks if it
/// changed something, and what resists is repeated by the day's first run of the schedule.
#[must_use]
pub fn is_worth_a_message(from: Doorbell, regions: &[RegionOutcome]) -> bool {
    let first_of_day = matches!(from, Doorbell::Schedule { first_of_day: true });
    regions.iter().any(RegionOutcome::changed_something)
        || first_of_day && regions.iter().any(RegionOutcome::left_something)
}

#[cfg(test)]
mod tests {
    use super::is_worth_a_message;
    use crate::event::Doorbell;
    use crate::outcome::{Left, RegionOutcome, Stopped};

    #[test]
    fn a_run_speaks_of_a_change_and_once_a_day_of_what_resists() {
        let quiet = RegionOutcome::new("eu-west-1");
        let mut stopped = RegionOutcome::new("eu-west-1");
        stopped.stopped.push(Stopped { id: "i-1".into(), name: None, hibernated: false });
        let mut left = RegionOutcome::new("eu-west-1");
        left.left.push(Left { what: "i-2".into(), why: "protected".into() });
        let first = Doorbell::Schedule { first_of_day: true };
        let later = Doorbell::Schedule { first_of_day: false };
        for (from, outcome, speaks) in [
            (first, &quiet, false),
            (first, &stopped, true),
            (first, &left, true),
            (later, &left, false),
            (later, &stopped, true),
            (Doorbell::Budget, &left, false),
            (Doorbell::Budget, &stopped, true),
            (Doorbell::Hand, &quiet, false),
        ] {
            assert_eq!(is_worth_a_message(from, std::slice::from_ref(outcome)), speaks, "{from:?}");
        }
    }
}
