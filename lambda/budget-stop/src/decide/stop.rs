//! Which instances are stopped in one call, and what follows when AWS refuses it.
//!
//! StopInstances is all or nothing: one id that cannot be stopped keeps every other in its call
//! running. So a call that was refused is halved until the bad one is alone, and named.
//! <https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_StopInstances.html>

use std::collections::VecDeque;

use super::failure::{Failure, Kind};

/// Instances in one call. AWS names no limit; its bucket for StopInstances holds 1,000 of them.
/// A hundred are isolated in seven halvings.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/ec2-api-throttling.html>
const BATCH: usize = 100;

/// So often the same call is tried before the fault is looked for in one of its instances.
const TRIES_TOGETHER: u32 = 3;

/// An instance that carries the tag and is not stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// Its id.
    pub id: String,
    /// Its tag `Name`.
    pub name: Option<String>,
    /// Whether it is still starting.
    pub pending: bool,
    /// Whether it is a Spot instance. Only those of a persistent request can be stopped.
    pub spot: bool,
    /// Whether its root is an instance store, which cannot be stopped.
    pub instance_store: bool,
    /// Whether it was launched so that it can be hibernated.
    pub hibernates: bool,
    /// The Auto Scaling group it belongs to.
    pub group: Option<String>,
}

/// One call of StopInstances.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attempt {
    /// The instances.
    pub ids: Vec<String>,
    /// Whether they are to hibernate.
    pub hibernate: bool,
    /// Whether DisableApiStop was lifted for it.
    pub lifted: bool,
    /// How often it failed so far.
    pub tries: u32,
    /// Whether an earlier try may have stopped them without saying so.
    pub may_have_happened: bool,
}

/// What kind of run it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Nothing is changed.
    pub drill: bool,
    /// DisableApiStop is lifted.
    pub override_stop_protection: bool,
}

/// What follows a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Try these, after the others.
    Try(Vec<Attempt>),
    /// Lift DisableApiStop from the one instance, then try this.
    Lift(Attempt),
    /// Look what state it is in now, a little later.
    LookAgain,
    /// It is no more.
    Gone,
    /// It, or they, cannot be stopped, for this reason.
    Leave(String),
    /// Nothing more can be done in this region, for this reason.
    GiveUp(String),
}

/// Divides instances into calls. Those that AWS may refuse do not share one with those it takes.
#[must_use]
pub fn batches(instances: &[&Instance]) -> VecDeque<Attempt> {
    let mut calls = VecDeque::new();
    for (doubtful, hibernate) in [(false, false), (false, true), (true, false), (true, true)] {
        let alike: Vec<&&Instance> = instances
            .iter()
            .filter(|one| (one.pending || one.spot || one.instance_store) == doubtful)
            .filter(|one| one.hibernates == hibernate)
            .collect();
        calls.extend(alike.chunks(BATCH).map(|some| Attempt {
            ids: some.iter().map(|one| one.id.clone()).collect(),
            hibernate,
            ..Attempt::default()
        }));
    }
    calls
}

/// What follows when `attempt` failed. `instance` is the one it was for, if it was for one.
#[must_use]
pub fn after(attempt: Attempt, failure: &Failure, rules: Rules, instance: &Instance) -> Next {
    let attempt = Attempt {
        tries: attempt.tries + 1,
        may_have_happened: attempt.may_have_happened || failure.may_have_happened(),
        ..attempt
    };
    let together = attempt.ids.len() > 1;
    match failure.kind {
        Kind::OutOfTime => Next::GiveUp(unanswered(&attempt, failure)),
        Kind::Refused if is_of_the_region(failure) => Next::GiveUp(failure.to_string()),
        Kind::Refused if together => Next::Try(halves(attempt)),
        Kind::Refused => after_refusal(attempt, failure, rules, instance),
        Kind::Throttled | Kind::Broken if together && attempt.tries >= TRIES_TOGETHER => {
            Next::Try(halves(attempt))
        }
        kind if super::failure::pause_at_most(kind, attempt.tries).is_some() => {
            Next::Try(vec![attempt])
        }
        // Its halves would hang as it did.
        Kind::Silent => Next::GiveUp(unanswered(&attempt, failure)),
        Kind::Throttled | Kind::Broken => Next::Leave(unanswered(&attempt, failure)),
    }
}

/// Why it was left; who reads that it runs on is told if it may not.
fn unanswered(attempt: &Attempt, failure: &Failure) -> String {
    match attempt.may_have_happened {
        true => format!("{failure}; AWS may have stopped it all the same"),
        false => failure.to_string(),
    }
}

/// Whether AWS refuses whoever asks in this region, whatever is asked. A region that is not enabled
/// answers AuthFailure or OptInRequired.
/// <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>
fn is_of_the_region(failure: &Failure) -> bool {
    matches!(
        failure.code.as_str(),
        "AuthFailure" | "OptInRequired" | "Blocked" | "PendingVerification" | "RequestExpired"
    )
}

fn halves(attempt: Attempt) -> Vec<Attempt> {
    let (left, right) = attempt.ids.split_at(attempt.ids.len() / 2);
    // With one try behind them, so that halves of what was throttled do not come at once.
    let half = |ids: &[String]| Attempt { ids: ids.to_vec(), tries: 1, ..attempt.clone() };
    vec![half(left), half(right)]
}

/// The final answers for one instance.
fn after_refusal(attempt: Attempt, failure: &Failure, rules: Rules, instance: &Instance) -> Next {
    match failure.code.as_str() {
        "InvalidInstanceID.NotFound" | "InvalidInstanceID.Malformed" => Next::Gone,
        // It is starting, or ending: the two cannot be told apart by the answer.
        "IncorrectInstanceState" | "IncorrectState" if rules.drill => {
            Next::Leave(format!("cannot be stopped right now, a run would wait for it ({failure})"))
        }
        "IncorrectInstanceState" | "IncorrectState" => Next::LookAgain,
        // Too young, an agent that does not answer, a wrong kind of root: a stop is what counts.
        // https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/troubleshoot-instance-hibernate.html
        _ if attempt.hibernate => {
            Next::Try(vec![Attempt { hibernate: false, tries: 0, ..attempt }])
        }
        "OperationNotPermitted" if rules.override_stop_protection && rules.drill => Next::Leave(
            "is protected against stopping (DisableApiStop); a run would lift that".into(),
        ),
        "OperationNotPermitted" if rules.override_stop_protection && !attempt.lifted => {
            Next::Lift(Attempt { lifted: true, tries: 0, ..attempt })
        }
        "OperationNotPermitted" if !attempt.lifted => Next::Leave(
            "is protected against stopping (DisableApiStop), and OverrideStopProtection is off"
                .into(),
        ),
        "UnsupportedOperation" if instance.spot => Next::Leave(
            "is a Spot instance of a one-time request, which can only be terminated".into(),
        ),
        "UnsupportedOperation" if instance.instance_store => {
            Next::Leave("has an instance store as its root, and can only be terminated".into())
        }
        _ => Next::Leave(failure.to_string()),
    }
}

#[cfg(test)]
mod tests;
