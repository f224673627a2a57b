//! How the last start came to its end, and what follows from it: the restart policy, by cause.

use std::time::Duration;

use super::{Case, Now};
use crate::agents::{Meaning, meaning, reset_of};
use crate::config::Crash;
use crate::learned::{Learned, MOMENTS_AT_MOST, Park, Stop, Wait};
use crate::sense::{Activity, Outcome, Pane, Reading, TmuxServer};
use crate::shim::REFUSED;

/// A start that left no trace is ordered again after this long.
const TRACELESS: Duration = Duration::from_secs(10);
/// A server that ends within this after a start may have ended of what the agent has printed: long
/// enough for one that takes its time to draw.
const SERVER_ENDED_WITHIN: Duration = Duration::from_secs(120);
/// An agent that does not find its conversation says so, and ends, well within this.
const NOT_FOUND_WITHIN: Duration = Duration::from_secs(60);
/// And has no more than this to say after it: lines.
const LAST_WORDS: usize = 5;
/// A conversation that is open elsewhere, and a full disk, are asked again after this long.
const BUSY: Duration = Duration::from_secs(30);

/// How a start ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It stays stopped.
    Stay(Stop),
    /// Nothing of its own doing: it is due again at once.
    Again,
    /// It never came about: it is due again shortly.
    Traceless,
    /// Its shim started nothing and could not report why.
    Unheard,
    /// Its conversation was not found.
    NotFound,
    /// Its conversation is open elsewhere.
    Busy(String),
    /// It would only fail again: until then, in seconds of the wall clock, or a person.
    Park(String, Option<u64>),
    /// It failed.
    Crash(String),
}

impl Case<'_> {
    /// Judges the end of the last start, once. False: it cannot be judged yet. `latest`: no other
    /// session was started later on that start's server.
    pub(super) fn judge(
        &mut self,
        server: &Reading<TmuxServer>,
        latest: bool,
        crash: &Crash,
        now: Now<'_>,
    ) -> bool {
        let number = self.learned.start;
        if number == self.learned.judged {
            return true;
        }
        let Reading::Known(TmuxServer::Ours(server)) = server else {
            // Without a server it is not known whether the pane went with it.
            return false;
        };
        let same_server = self.learned.begun.as_ref().is_some_and(|begun| begun.server == *server);
        let end = match self.end(same_server, now) {
            End::Again if latest && self.may_have_ended_the_server(now) => {
                let within = humantime::format_duration(SERVER_ENDED_WITHIN);
                End::Crash(format!("the tmux server ended within {within} of its start"))
            }
            end => end,
        };
        if self.learned.restart == Some(number) || self.learned.stopped == Some(Stop::Person) {
            // A person wanted it: how it ended says nothing.
        } else {
            self.apply(end, crash, now);
        }
        let learned = &mut self.learned;
        // What the agent has left on the disk knows it better, where no look came between the
        // beginning or the end of its turn and its own end. After a power cut it may be older.
        let this_boot = learned.begun.as_ref().is_some_and(|begun| begun.at.boot == now.boot);
        match self.seen.own.activity {
            Activity::Working => learned.working = true,
            Activity::Idle if this_boot => learned.working = false,
            _ => {}
        }
        // Whoever ends well has been told to, and not amid its turn: it may have ended that and
        // itself between two looks, and leaves nothing to say so.
        learned.working &= learned.stopped != Some(Stop::Exited);
        learned.judged = number;
        learned.ending = None;
        learned.restart = None;
        learned.interrupted |= std::mem::take(&mut learned.working);
        true
    }

    fn end(&self, same_server: bool, now: Now<'_>) -> End {
        let number = self.learned.start;
        let report = self.report.filter(|report| report.start == number);
        match report.map(|report| &report.outcome) {
            Some(Outcome::Refused(why)) => End::Park(why.clone(), None),
            Some(Outcome::Locked(why)) => End::Busy(why.clone()),
            Some(Outcome::Ended { code, signal, oom, stopping, pane_closed }) => {
                // The pane of a clean exit may be closed later: both stay stopped. And a server may
                // end later than a pane that it has closed.
                if *pane_closed || same_server && self.pane.is_none() {
                    return End::Stay(Stop::Removed);
                }
                if *stopping || !same_server && code.is_none() {
                    return End::Again;
                }
                self.exit(*code, *signal, *oom, now)
            }
            Some(Outcome::Started { .. }) => match (self.pane, same_server) {
                // A shim that could not report its end (a full disk) ended as its agent did.
                (Some(Pane { status: status @ Some(_), .. }), _) => {
                    self.exit(*status, None, false, now)
                }
                (Some(_), _) => End::Crash("its shim was killed".to_owned()),
                (None, true) => End::Stay(Stop::Removed),
                (None, false) => End::Again,
            },
            None => match self.pane {
                Some(pane) if pane.status == Some(i32::from(REFUSED)) => self.unheard(),
                Some(pane) => {
                    let with = pane.status.map_or(String::new(), |code| format!(" ({code})"));
                    End::Crash(format!("its shim ended without a word{with}"))
                }
                None if same_server => End::Traceless,
                None => End::Again,
            },
        }
    }

    /// Whether what it has printed, or its start itself, may have been the server's end. Else all
    /// agents would be started again and again, as fast as the server comes back.
    fn may_have_ended_the_server(&self, now: Now<'_>) -> bool {
        let report = self.report.filter(|report| report.start == self.learned.start);
        let by_systemd = report.is_some_and(|report| {
            matches!(report.outcome, Outcome::Ended { stopping: true, .. }) && !report.server_gone
        });
        let age = self.learned.begun.as_ref().and_then(|begun| begun.at.age(now.boot, now.at));
        !by_systemd && age.is_some_and(|age| age < SERVER_ENDED_WITHIN)
    }

    /// A shim that cannot read what it is to start knows no number of it: then it says so under 0.
    fn unheard(&self) -> End {
        match self.report.filter(|report| report.start == 0).map(|report| &report.outcome) {
            Some(Outcome::Refused(why)) => End::Park(why.clone(), None),
            _ => End::Unheard,
        }
    }

    fn exit(&self, code: Option<i32>, signal: Option<i32>, oom: bool, now: Now<'_>) -> End {
        let screen = &self.seen.screen;
        let last = || last_line(screen).map_or(String::new(), |line| format!(": {line}"));
        match meaning(&self.agent.exits, code, screen) {
            Meaning::Clean => End::Stay(Stop::Exited),
            Meaning::NotFound if self.can_have_missed(code, now) => End::NotFound,
            // Whoever has it open is seen before a start, as a rule. Who is not may have it open for
            // days: it is not asked again and again.
            Meaning::Busy => {
                End::Park(format!("its conversation is open elsewhere: end that{}", last()), None)
            }
            Meaning::Limit => match reset_of(screen) {
                // The keeper was away, or the box; or the words are those of an earlier limit. Where
                // it is not over, it says so again.
                Some(reset) if reset <= now.wall => {
                    End::Crash("the provider's usage limit, whose end has passed".to_owned())
                }
                reset => End::Park(format!("the provider's usage limit{}", last()), reset),
            },
            Meaning::Login => End::Park(format!("it is not logged in{}", last()), None),
            Meaning::NotFound | Meaning::Crash => End::Crash(match (code, signal) {
                _ if oom => "it was killed for want of memory".to_owned(),
                (Some(code), _) => format!("it exited with {code}{}", last()),
                (None, Some(signal)) => format!("it was ended by signal {signal}"),
                (None, None) => "it ended, nobody knows how".to_owned(),
            }),
        }
    }

    /// Whether it can be that the agent has not found its conversation. Those words may as well be a
    /// part of what it was talking of: to believe them wrongly would be to give the conversation up.
    fn can_have_missed(&self, code: Option<i32>, now: Now<'_>) -> bool {
        let Some(begun) = &self.learned.begun else { return false };
        let looked = begun.resumed || self.learned.fallback;
        let soon = begun.at.age(now.boot, now.at).is_some_and(|age| age < NOT_FOUND_WITHIN);
        let said: Vec<_> =
            self.seen.screen.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = said.get(said.len().saturating_sub(LAST_WORDS)..).unwrap_or_default();
        let last = meaning(&self.agent.exits, code, &last.join("\n"));
        looked && soon && last == Meaning::NotFound
    }

    fn apply(&mut self, end: End, crash: &Crash, now: Now<'_>) {
        let learned = &mut self.learned;
        learned.wait = None;
        match end {
            End::Stay(why) => learned.stopped = Some(why),
            End::Again => {}
            End::Traceless => wait(learned, TRACELESS, "its last start left no trace", now),
            End::Unheard => {
                let why = "its shim could not write why nothing was started: is the disk full?";
                wait(learned, BUSY, why, now);
            }
            End::Busy(why) => {
                wait(learned, BUSY, &format!("its conversation is open elsewhere: {why}"), now);
            }
            End::NotFound if learned.fallback => park(
                learned,
                "its conversation was not found, and a new one was not either".to_owned(),
                None,
            ),
            End::NotFound => {
                let lost = learned.conversation.as_ref().map(ToString::to_string);
                learned.note = Some(format!(
                    "conversation {} was not found: a new one was begun",
                    lost.as_deref().unwrap_or("of no known id")
                ));
                learned.fallback = true;
                learned.move_to(None);
            }
            End::Park(why, until) => park(learned, why, until),
            End::Crash(why) => crashed(learned, &why, crash, now),
        }
    }
}

fn wait(learned: &mut Learned, span: Duration, why: &str, now: Now<'_>) {
    let mut until = now.moment();
    until.at = until.at + span;
    learned.wait = Some(Wait { until, why: why.to_owned() });
}

fn park(learned: &mut Learned, why: String, until: Option<u64>) {
    learned.parked = Some(Park { why, until });
}

fn crashed(learned: &mut Learned, why: &str, crash: &Crash, now: Now<'_>) {
    learned.crashes.push(now.moment());
    let recent = |span: Duration, at: &crate::learned::Moment| {
        at.age(now.boot, now.at).is_some_and(|age| age < span)
    };
    learned.crashes.retain(|at| recent(crash.forget_after.max(crash.within), at));
    let surplus = learned.crashes.len().saturating_sub(MOMENTS_AT_MOST);
    learned.crashes.drain(..surplus);
    let soon = learned.crashes.iter().filter(|at| recent(crash.within, at)).count();
    let span = humantime::format_duration(crash.within);
    if soon >= usize::try_from(crash.park_at).unwrap_or(usize::MAX) {
        park(learned, format!("{soon} crashes within {span}; the last: {why}"), None);
        return;
    }
    let doublings = u32::try_from(learned.crashes.len().saturating_sub(1)).unwrap_or(u32::MAX);
    let factor = 2_u32.saturating_pow(doublings.min(20));
    let backoff = crash.backoff.saturating_mul(factor).min(crash.backoff_at_most);
    wait(learned, backoff, why, now);
}

/// The last line of a screen that says something, short.
fn last_line(screen: &str) -> Option<String> {
    const SHOWN: usize = 80;
    let line = screen.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|letter| !letter.is_control()).take(SHOWN).collect())
}
