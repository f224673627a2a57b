//! The holds that people and agents have placed. They are intent, not a mirror of the world, so
//! they are the one thing here that is stored: in /run, because they end with the boot.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use service::clock::Boottime;

use crate::sense::{Hold, Process};

/// One uid may have this many at a time: room for every agent of a person, none for a loop.
const PER_UID: usize = 32;
/// All uids together. Root may always place its own: a user with a range of subordinate uids
/// (subuid(5)) has enough of them to take these all.
const IN_ALL: usize = 256;
/// Characters of a reason that are kept.
const WHY_AT_MOST: usize = 200;

/// All holds in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    last_id: u64,
    list: Vec<Hold>,
}

/// What somebody asks for.
#[derive(Clone, Debug)]
pub struct Wish {
    /// Who asks.
    pub uid: u32,
    /// That uid's name.
    pub who: String,
    /// Why.
    pub why: String,
    /// For how long; None: as long as is given at most.
    pub span: Option<Duration>,
    /// The process it ends with.
    pub process: Option<Process>,
}

/// Why a hold was not placed, in words for the one who asked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The span is no span.
    #[error("a hold of {0} is not possible: ask for a time up to {1} (hold_at_most)")]
    Span(String, String),
    /// There are too many already.
    #[error("{0} holds are in force already: release some (guppy idle lists them)")]
    TooMany(usize),
}

impl Holds {
    /// Places a hold.
    ///
    /// # Errors
    /// A span of zero or above `at_most`, or too many holds.
    pub fn place(&mut self, wish: Wish, at_most: Duration, now: Boottime) -> Result<Hold, Denied> {
        let span = wish.span.unwrap_or(at_most);
        if span.is_zero() || span > at_most {
            let text = |span| humantime::format_duration(span).to_string();
            return Err(Denied::Span(text(span), text(at_most)));
        }
        let of_uid = self.list.iter().filter(|hold| hold.uid == wish.uid).count();
        if wish.uid != 0 && self.list.len() >= IN_ALL {
            return Err(Denied::TooMany(self.list.len()));
        }
        if of_uid >= PER_UID {
            return Err(Denied::TooMany(of_uid));
        }
        self.last_id += 1;
        let hold = Hold {
            id: self.last_id,
            uid: wish.uid,
            who: wish.who,
            why: plain(&wish.why),
            since: now,
            until: now + span,
            process: wish.process,
        };
        self.list.push(hold.clone());
        Ok(hold)
    }

    /// The hold with this id.
    pub fn get(&self, id: u64) -> Option<&Hold> {
        self.list.iter().find(|hold| hold.id == id)
    }

    /// Ends a hold.
    pub fn release(&mut self, id: u64) -> Option<Hold> {
        let index = self.list.iter().position(|hold| hold.id == id)?;
        Some(self.list.remove(index))
    }

    /// Ends those whose time is over or whose process has ended, and returns them.
    pub fn expire(
        &mut self,
        now: Boottime,
        at_most: Duration,
        lives: impl Fn(Process) -> bool,
    ) -> Vec<Hold> {
        let over = |hold: &mut Hold| {
            // No honest daemon of this boot wrote a moment of the future.
            hold.since = hold.since.min(now);
            // A limit that was lowered since holds for them too.
            hold.until <= now
                || now >= hold.since + at_most
                || hold.process.is_some_and(|process| !lives(process))
        };
        self.list.extract_if(.., over).collect()
    }

    /// Those in force.
    pub fn list(&self) -> &[Hold] {
        &self.list
    }
}

/// A reason goes to terminals and journals: no control characters, and not without end.
fn plain(why: &str) -> String {
    let plain: String = why
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char })
        .take(WHY_AT_MOST)
        .collect();
    let plain = plain.trim();
    if plain.is_empty() { "no reason given".to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn wish(uid: u32, span: Option<u64>, process: Option<Process>) -> Wish {
        let span = span.map(Duration::from_secs);
        Wish { uid, who: "alice".into(), why: "a\u{1b}[2Jb\n".into(), span, process }
    }

    fn at(seconds: u64) -> Boottime {
        Boottime::from_millis(seconds * 1000)
    }

    #[test]
    fn a_hold_lasts_as_long_as_asked_and_no_longer() {
        let mut holds = Holds::default();
        let hold = holds.place(wish(1000, Some(60), None), DAY, at(100)).unwrap();
        assert_eq!(hold.until, at(160));
        assert_eq!(hold.why, "a [2Jb");
        assert!(holds.expire(at(159), DAY, |_| true).is_empty());
        assert_eq!(holds.expire(at(160), DAY, |_| true), vec![hold]);
        assert!(holds.list().is_empty());
    }

    #[test]
    fn a_hold_ends_with_its_process() {
        let mut holds = Holds::default();
        let process = Process { pid: 7, start: 9 };
        holds.place(wish(1000, None, Some(process)), DAY, at(0)).unwrap();
        assert!(holds.expire(at(1), DAY, |asked| asked == process).is_empty());
        assert_eq!(holds.expire(at(1), DAY, |_| false).len(), 1);
    }

    #[test]
    fn neither_zero_nor_more_than_is_given_nor_too_many() {
        let mut holds = Holds::default();
        assert!(matches!(holds.place(wish(1, Some(0), None), DAY, at(0)), Err(Denied::Span(..))));
        let denied = holds.place(wish(1, Some(86_401), None), DAY, at(0));
        assert!(matches!(denied, Err(Denied::Span(..))));
        for _ in 0..PER_UID {
            holds.place(wish(1, None, None), DAY, at(0)).unwrap();
        }
        assert_eq!(holds.place(wish(1, None, None), DAY, at(0)), Err(Denied::TooMany(PER_UID)));
        assert!(holds.place(wish(2, None, None), DAY, at(0)).is_ok());
    }

    #[test]
    fn a_user_with_many_uids_does_not_keep_root_from_holding() {
        let mut holds = Holds::default();
        for uid in 100_000..100_256 {
            holds.place(wish(uid, None, None), DAY, at(0)).unwrap();
        }
        let denied = holds.place(wish(1000, None, None), DAY, at(0));
        assert_eq!(denied, Err(Denied::TooMany(IN_ALL)));
        for _ in 0..PER_UID {
            holds.place(wish(0, None, None), DAY, at(0)).unwrap();
        }
        assert_eq!(holds.place(wish(0, None, None), DAY, at(0)), Err(Denied::TooMany(PER_UID)));
    }

    #[test]
    fn ids_are_not_used_again() {
        let mut holds = Holds::default();
        let first = holds.place(wish(1, None, None), DAY, at(0)).unwrap();
        assert_eq!(holds.release(first.id).unwrap(), first);
        assert!(holds.release(first.id).is_none());
        assert_ne!(holds.place(wish(1, None, None), DAY, at(0)).unwrap().id, first.id);
    }

    #[test]
    fn a_lowered_limit_ends_older_holds() {
        let mut holds = Holds::default();
        holds.place(wish(1, None, None), DAY, at(0)).unwrap();
        assert_eq!(holds.expire(at(3600), Duration::from_secs(3600), |_| true).len(), 1);
    }
}
