//! What the loop and the Varlink service share: what is declared, what was learned, what was last
//! seen. Everything else is read anew in each look.

mod aside;
mod errands;
pub mod hear;
mod learn;
mod listing;
mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use service::clock::{Boottime, Clock};
use service::config::Live;
use tokio::sync::Mutex;
use tracing::{info, warn};

pub use learn::{forget, learn};
pub use listing::list;

use crate::act::Stamp;
use crate::agents::{Agent, Folders};
use crate::config::Config;
use crate::decide::{HOUR, Session, Standing, State, Wanted};
use crate::intent::{self, Declared, Intent, Intents};
use crate::learned::{self, Learned, Moment, Server};
use crate::name::SessionName;
use crate::paths::Paths;
use crate::patience::Work;
use crate::sense::{Heard, Looker, Probe, Reading, STARTS_AT_MOST, Starts, View, Watched};

/// After an action that failed, its session rests for this long.
const REST: Duration = Duration::from_secs(10);

/// An action that failed.
#[derive(Clone, Debug)]
struct Trouble {
    why: String,
    until: Boottime,
}

/// All that the daemon knows.
#[derive(Debug)]
pub struct Keeper {
    /// The time.
    pub clock: Clock,
    /// The machine's config in force.
    pub config: Live<Config>,
    /// The user's places and how to look at them.
    pub looker: Rc<Looker>,
    /// Where the shim and the hook are.
    pub libexec: PathBuf,
    folders: Folders,
    intents: Intents,
    agents: BTreeMap<String, Result<Arc<Agent>, String>>,
    learned: BTreeMap<SessionName, Reading<Rc<Learned>>>,
    writing: BTreeMap<SessionName, Rc<Mutex<()>>>,
    errands: errands::Errands,
    heard: BTreeMap<SessionName, Heard>,
    troubles: BTreeMap<SessionName, Trouble>,
    /// The last answers of addresses, and those that are being asked.
    pub probes: BTreeMap<String, Probe>,
    /// See `probes`.
    pub probing: BTreeSet<String>,
    /// Worktrees that are being made again.
    pub recreating: BTreeSet<SessionName>,
    /// Where each session stood at the last look.
    pub standings: BTreeMap<SessionName, Standing>,
    /// What its pane's options say.
    pub shown: BTreeMap<SessionName, (String, Standing)>,
    /// How transcripts were when they were last saved.
    pub saved: BTreeMap<PathBuf, Stamp>,
    /// Those that are being saved.
    pub saving: BTreeSet<PathBuf>,
    hooked: Option<Server>,
    /// The last look.
    pub view: Option<View>,
    problems: Vec<String>,
}

impl Keeper {
    /// A keeper that has not looked yet.
    pub fn new(clock: Clock, config: Live<Config>, looker: Looker, libexec: PathBuf) -> Self {
        let folders = Folders::of(&looker.paths.config);
        Self {
            clock,
            config,
            looker: Rc::new(looker),
            libexec,
            folders,
            intents: Intents::default(),
            agents: BTreeMap::new(),
            learned: BTreeMap::new(),
            writing: BTreeMap::new(),
            errands: errands::Errands::default(),
            heard: BTreeMap::new(),
            troubles: BTreeMap::new(),
            probes: BTreeMap::new(),
            probing: BTreeSet::new(),
            recreating: BTreeSet::new(),
            standings: BTreeMap::new(),
            shown: BTreeMap::new(),
            saved: BTreeMap::new(),
            saving: BTreeSet::new(),
            hooked: None,
            view: None,
            problems: Vec::new(),
        }
    }

    /// The user's places.
    pub fn paths(&self) -> &Paths {
        &self.looker.paths
    }

    /// This moment.
    pub fn moment(&self) -> Moment {
        Moment { boot: self.looker.boot.clone(), at: self.clock.now() }
    }

    /// Seconds since 1970.
    pub fn wall() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |span| span.as_secs())
    }

    /// Reads what is declared, and of new sessions what was learned.
    ///
    /// # Errors
    /// The folder cannot be read: nothing is known of any session.
    pub fn read(&mut self) -> Result<(), String> {
        let folder = self.paths().config.join("sessions.d");
        let looker = Rc::clone(&self.looker);
        let patience = &looker.patience;
        patience.begin();
        let intents = intent::read(&folder, patience)?;
        // What stays the same stays where it is: else each look would leave holes in the heap behind,
        // on pages that can never go back to the kernel.
        if intents != self.intents {
            self.intents = intents;
        }
        let mut agents = BTreeMap::new();
        for declared in self.intents.sessions.values() {
            let Declared::Valid(intent) = declared else { continue };
            let read = || {
                let (folders, name) = (self.folders.clone(), intent.agent.clone());
                let read =
                    patience.one(&self.folders.of_user(&name), move || folders.read_one(&name));
                read.flatten().map(Arc::new)
            };
            agents.entry(intent.agent.clone()).or_insert_with(read);
        }
        if agents != self.agents {
            self.agents = agents;
        }
        let mut problems = self.intents.strays.clone();
        // What could not be read before may be by now.
        let is_known =
            |name: &&SessionName| matches!(self.learned.get(name), Some(Reading::Known(_)));
        let new: Vec<_> = self.intents.sessions.keys().filter(|name| !is_known(name)).collect();
        let works = new.iter().map(|name| -> Work<_> {
            let path = learned::path_of(&looker.paths.state, &name.file_stem());
            let of = path.clone();
            (
                path,
                Box::new(move || {
                    learned::read(&of).map_err(|error| format!("{}: {error}", of.display()))
                }),
            )
        });
        for (name, read) in new.iter().zip(patience.each(works.collect())) {
            let reading = match read.flatten() {
                Ok(read) => {
                    if let Some(wrong) = read.wrong {
                        warn!(guppy_event = "state-lost", "{wrong}");
                        problems.push(wrong);
                    }
                    Reading::Known(Rc::new(read.learned))
                }
                Err(why) => Reading::Unknown(why),
            };
            self.learned.insert((*name).clone(), reading);
        }
        let declared = &self.intents.sessions;
        self.learned.retain(|name, _| declared.contains_key(name));
        self.heard.retain(|name, _| declared.contains_key(name));
        self.troubles.retain(|name, _| declared.contains_key(name));
        self.standings.retain(|name, _| declared.contains_key(name));
        self.problems = problems;
        Ok(())
    }

    /// The declared sessions, for `decide`.
    pub fn sessions(&self) -> BTreeMap<SessionName, Session> {
        let of = |(name, declared): (&SessionName, &Declared)| {
            let unknown = || Reading::Unknown("nothing was read of it yet".to_owned());
            let learned = self.learned.get(name).cloned().unwrap_or_else(unknown);
            let wanted = self.wanted_as(declared);
            (name.clone(), Session { wanted, learned, under_way: false })
        };
        self.intents.sessions.iter().map(of).collect()
    }

    /// What a declared session should be.
    pub fn wanted(&self, name: &SessionName) -> Option<Wanted> {
        self.intents.sessions.get(name).map(|declared| self.wanted_as(declared))
    }

    fn wanted_as(&self, declared: &Declared) -> Wanted {
        match declared {
            Declared::Refused(why) => Wanted::Refused(why.clone()),
            Declared::Valid(intent) => match self.agents.get(&intent.agent) {
                Some(Ok(agent)) => Wanted::Valid(Arc::clone(intent), Arc::clone(agent)),
                Some(Err(why)) => Wanted::Refused(why.clone()),
                None => Wanted::Refused(format!("agent {} was not read", intent.agent)),
            },
        }
    }

    /// Those that can be looked at. Of one whose file is refused there is no more to see than its
    /// pane: its agent may still run, and a person may still want its end.
    pub fn watched(
        &self,
        sessions: &BTreeMap<SessionName, Session>,
    ) -> BTreeMap<SessionName, Watched> {
        let of = |(name, session): (&SessionName, &Session)| {
            let Reading::Known(learned) = &session.learned else { return None };
            let (intent, agent) = match &session.wanted {
                Wanted::Valid(intent, agent) => (Arc::clone(intent), Arc::clone(agent)),
                Wanted::Refused(_) => <(Arc<Intent>, Arc<Agent>)>::default(),
            };
            let heard = self.heard.get(name).cloned();
            Some((name.clone(), Watched { intent, agent, learned: Rc::clone(learned), heard }))
        };
        sessions.iter().filter_map(of).collect()
    }

    /// What is known of a session, if it is declared and could be read.
    pub fn learned(&self, name: &SessionName) -> Option<&Learned> {
        match self.learned.get(name) {
            Some(Reading::Known(learned)) => Some(learned),
            Some(Reading::Unknown(_)) | None => None,
        }
    }

    /// What this keeper has started in the last hour, and that it is about to start more.
    pub fn own_starts(&self) -> Starts {
        let now = self.moment();
        let known = self.learned.values().filter_map(|learned| match learned {
            Reading::Known(learned) => Some(&learned.starts),
            Reading::Unknown(_) => None,
        });
        let lately = |at: &&Moment| at.age(&now.boot, now.at).is_some_and(|age| age < HOUR);
        let mut starts: Vec<_> = known.flatten().filter(lately).map(|moment| moment.at).collect();
        starts.sort_unstable();
        starts.drain(..starts.len().saturating_sub(STARTS_AT_MOST));
        Starts { boot: now.boot, wanted: now.at, starts }
    }

    /// What is known of all sessions.
    pub fn all_learned(&self) -> BTreeMap<SessionName, Reading<Rc<Learned>>> {
        self.learned.clone()
    }

    /// Whether just this is known of a session.
    pub fn knows(&self, name: &SessionName, learned: Option<&Reading<Rc<Learned>>>) -> bool {
        self.learned.get(name) == learned
    }

    /// Notes that an action of a session failed, and says so once.
    pub fn trouble(&mut self, name: &SessionName, why: String) {
        let until = self.clock.now() + REST;
        if self.troubles.get(name).is_none_or(|trouble| trouble.why != why) {
            warn!(guppy_event = "failed", "{name}: {why}");
        }
        self.troubles.insert(name.clone(), Trouble { why, until });
    }

    /// Why a session rests, if it does; and until when.
    pub fn resting(&mut self, name: &SessionName) -> Option<(String, Boottime)> {
        let now = self.clock.now();
        let trouble = self.troubles.get(name).filter(|trouble| trouble.until > now)?;
        Some((trouble.why.clone(), trouble.until))
    }

    /// Takes over where a session stands, and tells it if it has changed. What was learned with it is
    /// on the disk.
    pub fn stand(&mut self, name: SessionName, standing: Standing) {
        let before = self.standings.get(&name);
        let same =
            |before: &&Standing| before.state == standing.state && before.why == standing.why;
        // One that was stopped before this keeper began is no news.
        let old = before.is_none() && standing.state == State::Stopped;
        if before.filter(same).is_none() && !old {
            info!(
                guppy_event = "session",
                guppy_reason = standing.why.as_str(),
                "{name}: {standing}"
            );
        }
        if before != Some(&standing) {
            self.standings.insert(name, standing);
        }
    }

    /// Takes over what a look has seen.
    pub fn remember(&mut self, view: View) {
        if self.view.as_ref() != Some(&view) {
            self.view = Some(view);
        }
    }
}
