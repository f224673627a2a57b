//! What must be open before an agent starts, from the surest to the dearest question: what is shut
//! costs no start.

use std::time::Duration;

use super::{Action, Case, Round, Standing};
use crate::intent::OnMissing;
use crate::sense::{Reading, Starts, Twin};

/// The standing of a session that may not start, and what would open the gate.
type Shut = Box<(Standing, Option<Action>)>;

/// A keeper that has wanted no start for so long leaves its turns to the others; longer than any
/// tick is by default.
const BUSY: Duration = Duration::from_secs(60);

/// How soon to look whether what was killed has gone.
pub(super) const CLEARED: Duration = Duration::from_millis(100);

impl Round<'_> {
    pub(super) fn gates(&mut self, case: &Case<'_>) -> Result<(), Shut> {
        if case.seen.name_taken {
            let why = "a tmux session of its name was made by hand: rename that, or end it";
            return Err(Box::new((Standing::blocked(why), None)));
        }
        worktree(case)?;
        self.backoff(case)?;
        self.nobody_else(case)?;
        if let Reading::Unknown(why) = &case.seen.transcript {
            return Err(Box::new((Standing::unknown(why.clone()), None)));
        }
        self.provider(case)?;
        self.budget()?;
        self.leftovers(case)
    }

    fn backoff(&mut self, case: &Case<'_>) -> Result<(), Shut> {
        let Some(wait) = &case.learned.wait else { return Ok(()) };
        let until = wait.until.at;
        if wait.until.boot != self.now.boot || until <= self.now.at {
            return Ok(());
        }
        self.look_at(until);
        Err(Box::new((Standing::due(wait.why.clone()).until(until), None)))
    }

    /// One process a conversation.
    fn nobody_else(&mut self, case: &Case<'_>) -> Result<(), Shut> {
        match &case.seen.twin {
            Twin::Nobody => {}
            Twin::Process(pid) => return Err(Box::new((open_in(*pid), None))),
            Twin::Hidden(why) => return Err(Box::new((Standing::unknown(why.clone()), None))),
            // A person has said start since this look began.
            Twin::Unsought => {
                self.look_at(self.now.at);
                let why = "who is in its conversation was not looked for";
                return Err(Box::new((Standing::unknown(why), None)));
            }
        }
        let Some(id) = &case.learned.conversation else { return Ok(()) };
        let agent = &case.intent.agent;
        if let Some(other) = self.taken.get(&(agent.clone(), id.clone()))
            && other != case.name
        {
            let why = format!("its conversation {id} is that of session {other}");
            return Err(Box::new((Standing::blocked(why), None)));
        }
        let holders = match &self.evidence.holders {
            Reading::Known(holders) => holders,
            Reading::Unknown(_) if case.agent.registry.file.is_empty() => return Ok(()),
            Reading::Unknown(why) => return Err(Box::new((Standing::unknown(why.clone()), None))),
        };
        // One in the session's own cgroup is a leftover, which is killed before the start.
        let twin = holders.iter().find(|holder| {
            holder.agent == *agent
                && holder.conversation == *id
                && holder.session.as_ref() != Some(case.name)
        });
        match twin {
            Some(twin) => Err(Box::new((open_in(twin.pid), None))),
            None => Ok(()),
        }
    }

    fn provider(&mut self, case: &Case<'_>) -> Result<(), Shut> {
        let address = &case.agent.probe;
        if address.is_empty() {
            return Ok(());
        }
        let every = self.config.starts.probe_every;
        let last = self.evidence.probes.get(address);
        let (fresh, failed) = match last {
            Some(probe) => (self.now.at.since(probe.at) < every, probe.failed.as_deref()),
            None => (false, None),
        };
        if fresh && failed.is_none() {
            return Ok(());
        }
        let why = match failed {
            Some(failed) => format!(
                "waits for {address}: {failed} (is the provider elsewhere? probe = \"HOST:PORT\" in \
                 ~/.config/guppy/agents.d/{}.toml, \"\" for none)",
                case.intent.agent
            ),
            None => format!("waits for {address}"),
        };
        if let Some(probe) = last.filter(|_| fresh) {
            self.look_at(probe.at + every);
            return Err(Box::new((Standing::due(why), None)));
        }
        let first = self.probes.insert(address.clone());
        Err(Box::new((Standing::due(why), first.then(|| Action::Probe(address.clone())))))
    }

    /// What all keepers of the machine may start. Each takes the other users' word for what they have
    /// started, and its own share whatever they say: so nobody's claims stop anybody else's agents.
    fn budget(&mut self) -> Result<(), Shut> {
        self.decision.wants_start = true;
        let neighbours = match &self.evidence.neighbours {
            Reading::Known(neighbours) => neighbours,
            Reading::Unknown(why) => {
                return Err(Box::new((Standing::unknown(why.clone()), None)));
            }
        };
        let starts = &self.config.starts;
        let lately = |user: &Starts| {
            user.starts.iter().filter(|at| self.now.at.since(**at) < super::HOUR).count()
        };
        let theirs: usize = neighbours.iter().map(lately).sum();
        let users = 1 + neighbours.iter().filter(|user| lately(user) > 0).count();
        let all = usize::try_from(starts.per_hour).unwrap_or(usize::MAX);
        if self.starts + theirs >= all && self.starts >= (all / users).max(1) {
            let whose = match theirs {
                0 => String::new(),
                theirs => format!(" and {theirs} of other users"),
            };
            let why = format!("{} starts{whose} in the last hour (starts.per_hour)", self.starts);
            return Err(Box::new((Standing::due(why), None)));
        }
        // As many keepers as start agents take turns, each so much the more slowly.
        let busy = |user: &&Starts| self.now.at.since(user.wanted) < BUSY;
        let turns = 1 + u32::try_from(neighbours.iter().filter(busy).count()).unwrap_or(u32::MAX);
        let next = self.last_start.map(|last| last + starts.stagger.saturating_mul(turns));
        match next.filter(|next| *next > self.now.at) {
            Some(next) => {
                self.look_at(next);
                Err(Box::new((Standing::due("one after the other (starts.stagger)"), None)))
            }
            None => Ok(()),
        }
    }

    fn leftovers(&mut self, case: &Case<'_>) -> Result<(), Shut> {
        match &case.seen.populated {
            Reading::Known(false) => Ok(()),
            Reading::Known(true) => {
                self.look_at(self.now.at + CLEARED);
                let why = "what its last agent has left is being ended";
                Err(Box::new((Standing::due(why), Some(Action::Clear(case.name.clone())))))
            }
            Reading::Unknown(why) => Err(Box::new((Standing::unknown(why.clone()), None))),
        }
    }
}

fn open_in(pid: u32) -> Standing {
    Standing::due(format!(
        "its conversation is open in process {pid}: end that, and it goes on here"
    ))
}

fn worktree(case: &Case<'_>) -> Result<(), Shut> {
    let (intent, name) = (case.intent, case.name);
    if let (Reading::Known(false), Some(point)) = (&case.seen.worktree, &case.seen.unmounted) {
        // It is late, and not gone: another one beneath it would be hidden by the mount, and git
        // would have two.
        let why = format!(
            "{} is not there: waits for {} to be mounted",
            intent.worktree.display(),
            point.display()
        );
        return Err(Box::new((Standing::due(why), None)));
    }
    match &case.seen.worktree {
        Reading::Known(true) => Ok(()),
        Reading::Unknown(why) => Err(Box::new((Standing::unknown(why.clone()), None))),
        Reading::Known(false) if intent.on_missing == OnMissing::Recreate => {
            let action = Action::Recreate(name.clone());
            Err(Box::new((Standing::due("its worktree is being made again"), Some(action))))
        }
        Reading::Known(false) => {
            let branch = intent.branch.as_deref().unwrap_or(name.branch());
            let worktree = quoted(&intent.worktree.to_string_lossy());
            let mend = match &intent.repository {
                // By force: git still knows of the one that was deleted.
                Some(repository) => {
                    let repository = quoted(&repository.to_string_lossy());
                    format!("git -C {repository} worktree add -f {worktree} {}", quoted(branch))
                }
                None => format!("mkdir -p {worktree}"),
            };
            let why = format!("{} is not there: {mend}", intent.worktree.display());
            Err(Box::new((Standing::blocked(why), None)))
        }
    }
}

/// A word as a person may paste it into a shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@,".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}
