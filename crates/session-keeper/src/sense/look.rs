//! One look at everything: the server and its panes, and of each declared session its cgroup, its
//! report, its worktree, its transcript and what its agent says.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::files::{self, Ground, Lies, Said};
use super::panes::{self, AnyPane, Panes};
use super::twins::{self, Processes};
use super::{
    Activity, Evidence, Heard, Holder, Own, Pane, Reading, Seen, Twin, activity, neighbours,
    outcome, registry,
};
use service::cmdline::Reader;

use crate::act::Stamp;
use crate::agents::{Agent, IdSource, Places};
use crate::cgroup::Tree;
use crate::conversation::Conversation;
use crate::intent::Intent;
use crate::learned::Learned;
use crate::name::SessionName;
use crate::paths::Paths;
use crate::patience::{Patience, Work};
use crate::tmux::Tmux;

/// So much of a dead pane's screen is read.
const SCREEN_LINES: &str = "-40";

/// A session to look at.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What it should be.
    pub intent: Arc<Intent>,
    /// Its agent.
    pub agent: Arc<Agent>,
    /// What is known of it.
    pub learned: Rc<Learned>,
    /// What its hooks have said.
    pub heard: Option<Heard>,
}

/// Where to look.
#[derive(Debug)]
pub struct Looker {
    /// The user's places.
    pub paths: Paths,
    /// The user's home.
    pub home: PathBuf,
    /// The user's shell.
    pub shell: PathBuf,
    /// Which boot this is.
    pub boot: String,
    /// The way to tmux.
    pub tmux: Tmux,
    /// The tree of cgroups.
    pub tree: Reading<Tree>,
    /// For what may hang.
    pub(crate) patience: Patience,
    command_lines: RefCell<Reader>,
}

/// What one look has seen.
#[derive(Debug)]
pub struct Sight {
    /// For `decide`.
    pub evidence: Evidence,
    /// For people.
    pub view: View,
    /// The files that turns of each session are in.
    pub files: BTreeMap<SessionName, Vec<(PathBuf, Stamp)>>,
}

/// What is remembered of a look until the next one: no more than people ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// All panes.
    pub panes: Reading<Panes>,
    /// What the last shim of each session has reported.
    pub left: BTreeMap<SessionName, Left>,
}

/// A part of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The process of an agent that was started, and has not ended as far as that is known.
    pub pid: Option<u32>,
    /// What is not as it should be.
    pub remarks: Vec<String>,
}

impl View {
    /// The pane of a session's agent.
    pub fn pane(&self, name: &SessionName) -> Option<&Pane> {
        let Reading::Known(panes) = &self.panes else { return None };
        panes.of_agents().get(name).map(|pane| &pane.pane)
    }
}

impl Looker {
    /// For the user that this process runs as, who called it as `paths` says.
    ///
    /// # Errors
    /// The boot's id cannot be read, or there is no home.
    pub fn of_this_user(paths: Paths) -> Result<Self, String> {
        let variable = |name| std::env::var_os(name).map(PathBuf::from);
        let home = variable("HOME").filter(|home| home.is_absolute()).ok_or("HOME is not set")?;
        let shell = variable("SHELL").filter(|shell| shell.is_absolute());
        let boot = service::clock::boot_id().map_err(|error| format!("boot_id: {error}"))?;
        let shell = shell.unwrap_or_else(|| "/bin/sh".into());
        Ok(Self::of(paths, home, shell, boot, tree()))
    }

    /// For a user with this home, in this boot.
    pub(crate) fn of(
        paths: Paths,
        home: PathBuf,
        shell: PathBuf,
        boot: String,
        tree: Reading<Tree>,
    ) -> Self {
        let command_lines = RefCell::new(Reader::of(twins::LONGEST));
        let (tmux, patience) = (Tmux::default(), Patience::default());
        Self { paths, home, shell, boot, tmux, tree, patience, command_lines }
    }

    /// Looks. `probes` are the last answers of addresses.
    pub async fn look(
        &self,
        sessions: &BTreeMap<SessionName, Watched>,
        probes: BTreeMap<String, super::Probe>,
    ) -> Sight {
        let panes = panes::read(&self.tmux, &self.tree, &self.boot).await;
        let of_agents = match &panes {
            Reading::Known(panes) => panes.of_agents(),
            Reading::Unknown(_) => BTreeMap::new(),
        };
        let processes = OnceCell::new();
        let mut seen = BTreeMap::new();
        let mut left = BTreeMap::new();
        let listed: Vec<_> = sessions.iter().collect();
        let said = self.said(&listed);
        let lies = self.lies(&listed, &said);
        let mut files = BTreeMap::new();
        for (((name, session), said), mut lies) in listed.into_iter().zip(said).zip(lies) {
            let pane = match &panes {
                Reading::Known(_) => Reading::Known(of_agents.get(name).copied()),
                Reading::Unknown(why) => Reading::Unknown(why.clone()),
            };
            let taken = matches!(&panes, Reading::Known(panes) if panes.is_taken(name));
            if let Reading::Known(Some(report)) = &said.report {
                let mut remarks = report.limits_not_kept.clone();
                remarks.extend(report.environment.clone());
                left.insert(name.clone(), Left { pid: said.runs(), remarks });
            }
            files.insert(name.clone(), std::mem::take(&mut lies.files));
            let mut one = self.one(name, session, pane, said, lies, taken).await;
            if wants_start(session, &one) {
                let processes = processes.get_or_init(|| {
                    Processes::read(Path::new("/proc"), &mut self.command_lines.borrow_mut())
                });
                one.twin = match processes {
                    Ok(processes) => self.twin(name, session, processes),
                    Err(error) => Twin::Hidden(format!("/proc: {error}")),
                };
            }
            seen.insert(name.clone(), one);
        }
        let server = match &panes {
            Reading::Known(panes) => Reading::Known(panes.server.clone()),
            Reading::Unknown(why) => Reading::Unknown(why.clone()),
        };
        let holders = self.holders(sessions);
        let neighbours = neighbours::read(&self.paths.starts(), &self.boot);
        let evidence = Evidence { server, holders, probes, neighbours, sessions: seen };
        Sight { evidence, view: View { panes, left }, files }
    }

    async fn one(
        &self,
        name: &SessionName,
        session: &Watched,
        pane: Reading<Option<&AnyPane>>,
        Said { report, mut own }: Said,
        Lies { worktree, unmounted, transcript, .. }: Lies,
        name_taken: bool,
    ) -> Seen {
        let mut screen = String::new();
        let pane = match pane {
            Reading::Known(pane) => Reading::Known(pane.map(|pane| pane.pane.clone())),
            Reading::Unknown(why) => Reading::Unknown(why),
        };
        match &pane {
            Reading::Known(Some(pane)) if pane.dead => {
                let judged = session.learned.judged == session.learned.start;
                screen = if judged { String::new() } else { self.screen(&pane.id).await };
            }
            Reading::Known(Some(pane)) if activity::wants_screen(&session.agent, &own.activity) => {
                let shown = self.screen(&pane.id).await;
                own.activity = activity::by_screen(&session.agent, own.activity, &shown);
            }
            _ => {}
        }
        Seen {
            populated: self.populated(name),
            report: outcome::read_as(report, &session.agent),
            worktree,
            unmounted,
            twin: match session.agent.registry.file.is_empty() {
                true => Twin::Unsought,
                false => Twin::Nobody,
            },
            transcript,
            fresh: fresh(session, &pane),
            own: own_of(own, &session.agent),
            name_taken,
            screen,
            pane,
        }
    }

    fn twin(&self, name: &SessionName, session: &Watched, all: &Processes) -> Twin {
        let id = session.learned.conversation.as_ref();
        let places = self.places(name, &session.intent.worktree, id);
        all.twin(name, &session.agent, &self.home, id, places)
    }

    /// What the agent in a living pane does at this moment, for whoever is about to type into it.
    pub async fn activity(&self, name: &SessionName, session: &Watched, pane: &str) -> Activity {
        let Some(said) = self.said(&[(name, session)]).pop() else { return Activity::Unknown };
        if said.runs().is_none() {
            return Activity::Unknown;
        }
        let own = said.own;
        match activity::wants_screen(&session.agent, &own.activity) {
            true => activity::by_screen(&session.agent, own.activity, &self.screen(pane).await),
            false => own.activity,
        }
    }

    async fn screen(&self, pane: &str) -> String {
        // Joined: a message that a narrow terminal has wrapped is still that message.
        let capture = ["capture-pane", "-p", "-J", "-S", SCREEN_LINES, "-t", pane].map(OsStr::new);
        let text = self.tmux.run(&[&capture]).await.unwrap_or_default();
        // What tmux and the shim write into a dead pane is no word of the agent's.
        let others =
            |line: &&str| ["Pane is dead", "guppy: "].iter().any(|by| line.starts_with(by));
        let lines = text.lines().filter(|line| !others(line));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn populated(&self, name: &SessionName) -> Reading<bool> {
        match &self.tree {
            Reading::Known(tree) => match tree.agent(name).populated() {
                Ok(populated) => Reading::Known(populated),
                Err(error) => Reading::Unknown(format!("{}: {error}", name.cgroup())),
            },
            Reading::Unknown(why) => Reading::Unknown(why.clone()),
        }
    }

    /// What the placeholders of a session's words stand for.
    pub fn places<'a>(
        &'a self,
        name: &'a SessionName,
        worktree: &'a Path,
        conversation: Option<&'a Conversation>,
    ) -> Places<'a> {
        Places {
            name,
            conversation,
            home: &self.home,
            state: &self.paths.state,
            worktree,
            shell: &self.shell,
            pid: None,
        }
    }

    /// The files that a turn of a session is in, as far as its agent says. `pid`: its process.
    pub fn turn_files(
        &self,
        name: &SessionName,
        session: &Watched,
        pid: Option<u32>,
    ) -> BTreeSet<PathBuf> {
        let (ground, of) = (self.ground(), files::Of::new(name, session));
        let read = move || ground.turn_files(&of, pid, ground.transcript_path(&of));
        self.patience.one(&session.intent.worktree, read).unwrap_or_default()
    }

    /// Where the user's files are.
    pub(crate) fn ground(&self) -> Ground {
        let (home, shell) = (self.home.clone(), self.shell.clone());
        Ground { home, state: self.paths.state.clone(), shell }
    }

    fn said(&self, sessions: &[(&SessionName, &Watched)]) -> Vec<Said> {
        let works = sessions.iter().map(|(name, session)| -> Work<Said> {
            let path = self.paths.report(name);
            let (of, home) = (path.clone(), self.home.clone());
            let (agent, heard) = (Arc::clone(&session.agent), session.heard.clone());
            (path, Box::new(move || Said::read(&of, &agent, &home, heard.as_ref())))
        });
        let said = self.patience.each(works.collect()).into_iter();
        said.map(|said| said.unwrap_or_else(Said::unknown)).collect()
    }

    fn lies(&self, sessions: &[(&SessionName, &Watched)], said: &[Said]) -> Vec<Lies> {
        let ground = Arc::new(self.ground());
        let works = sessions.iter().zip(said).map(|((name, session), said)| -> Work<Lies> {
            let (ground, of, pid) =
                (Arc::clone(&ground), files::Of::new(name, session), said.runs());
            (session.intent.worktree.clone(), Box::new(move || ground.lies(&of, pid)))
        });
        let lies = self.patience.each(works.collect()).into_iter();
        lies.map(|lies| lies.unwrap_or_else(Lies::unknown)).collect()
    }

    fn holders(&self, sessions: &BTreeMap<SessionName, Watched>) -> Reading<Vec<Holder>> {
        let mut holders = Vec::new();
        let mut asked = BTreeSet::new();
        for session in sessions.values() {
            let name = &session.intent.agent;
            if !asked.insert(name.clone()) {
                continue;
            }
            let (of, agent, home) = (name.clone(), Arc::clone(&session.agent), self.home.clone());
            let rules = Path::new(&session.agent.registry.file);
            match self.patience.one(rules, move || registry::holders(&of, &agent, &home)) {
                Ok(Reading::Known(found)) => holders.extend(found),
                Ok(Reading::Unknown(why)) | Err(why) => return Reading::Unknown(why),
            }
        }
        Reading::Known(holders)
    }
}

/// The tree of the user's tmux unit, or the one that the environment names.
fn tree() -> Reading<Tree> {
    if let Some(given) = std::env::var_os(crate::paths::CGROUP) {
        return Reading::Known(Tree::of_unit(Path::new(&given)));
    }
    let user = match crate::paths::user_name() {
        Ok(user) => user,
        Err(error) => return Reading::Unknown(error.to_string()),
    };
    match Tree::of_user(&user) {
        Ok(tree) => Reading::Known(tree),
        Err(error) => Reading::Unknown(error.to_string()),
    }
}

/// An agent without ids is in no conversation that could be followed.
fn own_of(own: Own, agent: &Agent) -> Own {
    match agent.conversation.id {
        IdSource::Session => Own { conversation: None, ..own },
        IdSource::Given | IdSource::Learned => own,
    }
}

/// Whether it may be started by this look, in a conversation of which no registry tells.
fn wants_start(session: &Watched, seen: &Seen) -> bool {
    let learned = &session.learned;
    let lives = matches!(&seen.pane, Reading::Known(Some(pane)) if !pane.dead);
    let rests = learned.stopped.is_some() || learned.parked.is_some();
    !lives && !rests && session.agent.registry.file.is_empty()
}

/// A new id, for an agent that may begin a conversation now.
fn fresh(session: &Watched, pane: &Reading<Option<Pane>>) -> Option<Conversation> {
    let given = session.agent.conversation.id == IdSource::Given;
    let lives = matches!(pane, Reading::Known(Some(pane)) if !pane.dead);
    (given && !lives).then(|| Conversation::random().ok()).flatten()
}
