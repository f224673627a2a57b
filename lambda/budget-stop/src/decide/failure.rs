//! What a call that failed means, and whether it is worth another try.

use std::fmt;
use std::time::Duration;

/// Kinds of failure that differ in what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Too many calls: the same again, later.
    Throttled,
    /// AWS answered that it is broken, or with what cannot be read.
    Broken,
    /// No answer.
    Silent,
    /// A final answer: the same call gets it again.
    Refused,
    /// This run has no time left.
    OutOfTime,
}

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What follows from it.
    pub kind: Kind,
    /// AWS's code, e.g. `IncorrectInstanceState`; empty where there is none.
    pub code: String,
    /// AWS's text, for people.
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code.as_str(), self.message.as_str()) {
            ("", message) => f.write_str(message),
            (code, "") => f.write_str(code),
            (code, message) => write!(f, "{code}: {message}"),
        }
    }
}

/// What AWS's services answer to too many calls.
/// <https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html>,
/// <https://docs.aws.amazon.com/ec2/latest/devguide/errors-overview.html>
const THROTTLED: [&str; 9] = [
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "RequestThrottled",
    "RequestThrottledException",
    "TooManyRequestsException",
    "SlowDown",
    "EC2ThrottledException",
];

/// What they answer when the fault is theirs, or passes. An Auto Scaling group that is being changed
/// answers ResourceContention.
/// <https://docs.aws.amazon.com/autoscaling/ec2/APIReference/API_SuspendProcesses.html>
const BROKEN: [&str; 8] = [
    "InternalError",
    "InternalFailure",
    "InternalErrorException",
    "InternalServiceException",
    "Unavailable",
    "ServiceUnavailable",
    "RequestTimeout",
    "ResourceContention",
];

impl Failure {
    /// An answer of AWS with its code and HTTP status.
    #[must_use]
    pub fn answered(code: Option<&str>, message: Option<&str>, status: u16) -> Self {
        let code = code.unwrap_or_default();
        let kind = if THROTTLED.contains(&code) || status == 429 {
            Kind::Throttled
        } else if BROKEN.contains(&code) || status >= 500 || code.is_empty() {
            Kind::Broken
        } else {
            Kind::Refused
        };
        let message = match message {
            Some(message) => message.to_owned(),
            None if code.is_empty() => format!("an answer that cannot be read (HTTP {status})"),
            None => String::new(),
        };
        Self { kind, code: code.to_owned(), message }
    }

    /// No answer, or one that broke off; `what` says which.
    #[must_use]
    pub fn unanswered(kind: Kind, what: impl Into<String>) -> Self {
        Self { kind, code: String::new(), message: what.into() }
    }

    /// Whether AWS may have done what was asked all the same.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        matches!(self.kind, Kind::Broken | Kind::Silent | Kind::OutOfTime)
    }
}

/// The longest pause before the next try after `tries` that failed so; nothing if that was the last.
///
/// The pause itself is a random part of it, so that regions and concurrent runs do not come back
/// together ("full jitter").
/// <https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/>
#[must_use]
pub fn pause_at_most(kind: Kind, tries: u32) -> Option<Duration> {
    let most_tries = match kind {
        Kind::Throttled => 10,
        Kind::Broken => 5,
        Kind::Silent => 3,
        Kind::Refused | Kind::OutOfTime => return None,
    };
    let doubled = Duration::from_millis(250) * 2u32.saturating_pow(tries.saturating_sub(1));
    (tries < most_tries).then(|| doubled.min(Duration::from_secs(8)))
}

#[cfg(test)]
mod tests {
    use super::{Failure, Kind, pause_at_most};

    #[test]
    fn each_answer_is_of_one_kind() {
        for (code, status, kind) in [
            (Some("RequestLimitExceeded"), 503, Kind::Throttled),
            (Some("ThrottlingException"), 400, Kind::Throttled),
            (None, 429, Kind::Throttled),
            (Some("InternalError"), 500, Kind::Broken),
            (Some("Strange"), 502, Kind::Broken),
            (None, 200, Kind::Broken),
            (Some("AuthFailure"), 401, Kind::Refused),
            (Some("IncorrectInstanceState"), 400, Kind::Refused),
        ] {
            assert_eq!(Failure::answered(code, None, status).kind, kind, "{code:?} {status}");
        }
    }

    #[test]
    fn tries_end_and_pauses_do_not_grow_for_ever() {
        for kind in [Kind::Throttled, Kind::Broken, Kind::Silent, Kind::Refused, Kind::OutOfTime] {
            let pauses: Vec<_> = (1..100).map_while(|tries| pause_at_most(kind, tries)).collect();
            assert!(pauses.len() < 10, "{kind:?}");
            assert!(pauses.iter().all(|pause| pause.as_secs() <= 8), "{kind:?}");
        }
        assert_eq!(pause_at_most(Kind::Refused, 1), None);
    }
}
