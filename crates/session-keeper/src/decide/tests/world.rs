//! The world: one tmux server, panes with shims in them, agents with conversations. It does what
//! the real ones were measured to do; what the keeper knows of it is read anew each time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use service::clock::Boottime;

use super::super::*;
use crate::agents::Folders;
use crate::learned::Stop;
use crate::sense::{Activity, Outcome, Probe, Report, Starts, Twin};

const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");

/// An agent's process.
#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) conversation: Conversation,
    /// The cgroup it is in; None: started by hand.
    pub(super) session: Option<SessionName>,
    /// Its shim lives and holds the lock on this conversation.
    pub(super) locked: Option<Conversation>,
    pub(super) activity: Activity,
    /// Its hooks have told of a turn.
    pub(super) turned: bool,
}

/// One session of the world.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// What is on the disk.
    pub(super) learned: Learned,
    pub(super) pane: Option<(u32, Option<i32>)>,
    /// The pane's process, while it lives.
    pub(super) process: Option<u32>,
    pub(super) report: Option<Report>,
    pub(super) screen: String,
    pub(super) worktree: bool,
    /// A declared mount point above it is not mounted.
    pub(super) unmounted: Option<std::path::PathBuf>,
    /// A process in its conversation that no registry tells of.
    pub(super) twin: Option<Twin>,
    /// Its agent ends at once with this.
    pub(super) fails: Option<(i32, &'static str)>,
    /// What the agent last was in.
    pub(super) truth: Option<Conversation>,
    pub(super) sent: Vec<Line>,
    pub(super) number_of_starts: usize,
}

pub(super) struct World {
    pub(super) now: Boottime,
    pub(super) boot: u32,
    pub(super) server: Option<u32>,
    /// systemd is stopping the server's unit.
    pub(super) stopping: bool,
    pub(super) online: bool,
    /// Nothing can be read.
    pub(super) blind: bool,
    /// Why the files of all sessions are refused, if they are.
    pub(super) refused: Option<String>,
    /// Shims take locks, and end what is left in their cgroup.
    pub(super) locks: bool,
    pub(super) config: Config,
    pub(super) agent: Arc<Agent>,
    pub(super) intents: BTreeMap<SessionName, Arc<Intent>>,
    pub(super) places: BTreeMap<SessionName, Place>,
    pub(super) processes: BTreeMap<u32, Process>,
    pub(super) transcripts: BTreeSet<Conversation>,
    pub(super) probes: BTreeMap<String, Probe>,
    /// What other users' keepers say.
    pub(super) neighbours: Vec<Starts>,
    pub(super) standings: BTreeMap<SessionName, Standing>,
    /// Sessions for which something is being done beside the looks.
    pub(super) under_way: BTreeSet<SessionName>,
    /// All starts of agents, with their moments.
    pub(super) starts: Vec<(SessionName, Boottime)>,
    /// What must never be.
    pub(super) wrongs: Vec<String>,
    pub(super) next: u32,
}

pub(super) fn name(text: &str) -> SessionName {
    SessionName::parse(text).unwrap()
}

pub(super) fn id(number: u32) -> Conversation {
    Conversation::parse(&format!("00000000-0000-4000-8000-{number:012x}")).unwrap()
}

impl World {
    /// Sessions `a/0`, `a/1`, … of this agent; nothing runs yet.
    pub(super) fn new(agent: &str, sessions: usize) -> Self {
        let agent_data = Folders(vec![SHIPPED.into()]).read_one(agent).unwrap();
        let intent = Intent {
            agent: agent.to_owned(),
            worktree: "/home/alice/shop".into(),
            ..Intent::default()
        };
        let names: Vec<_> = (0..sessions).map(|at| name(&format!("a/{at}"))).collect();
        let place = Place { worktree: true, ..Place::default() };
        Self {
            now: Boottime::from_millis(1_000_000),
            boot: 1,
            server: Some(1),
            stopping: false,
            online: true,
            blind: false,
            refused: None,
            locks: true,
            config: Config::default(),
            agent: agent_data.into(),
            intents: names.iter().map(|name| (name.clone(), intent.clone().into())).collect(),
            places: names.iter().map(|name| (name.clone(), place.clone())).collect(),
            processes: BTreeMap::new(),
            transcripts: BTreeSet::new(),
            probes: BTreeMap::new(),
            neighbours: Vec::new(),
            standings: BTreeMap::new(),
            under_way: BTreeSet::new(),
            starts: Vec::new(),
            wrongs: Vec::new(),
            next: 1,
        }
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn place(&mut self, session: &str) -> &mut Place {
        self.places.get_mut(&name(session)).unwrap()
    }

    /// A person writes another intent.
    pub(super) fn intend(&mut self, change: impl FnOnce(&mut Intent)) {
        change(Arc::make_mut(self.intents.get_mut(&name("a/0")).unwrap()));
    }

    pub(super) fn state(&self, session: &str) -> State {
        self.standings.get(&name(session)).unwrap().state
    }

    pub(super) fn why(&self, session: &str) -> &str {
        &self.standings.get(&name(session)).unwrap().why
    }

    /// The running agent of a session.
    pub(super) fn process(&mut self, session: &str) -> Option<&mut Process> {
        let pid = self.place(session).process?;
        self.processes.get_mut(&pid)
    }

    pub(super) fn now(&self) -> (String, u64) {
        (format!("boot-{}", self.boot), 1_800_000_000 + self.now.as_millis() / 1000)
    }

    pub(super) fn act(&mut self, action: Action) {
        match action {
            Action::Remember(name, learned) => {
                self.places.get_mut(&name).unwrap().learned = *learned;
            }
            Action::Start(name, start) => self.start(&name, &start),
            Action::Clear(name) => {
                if self.places.get(&name).unwrap().process.is_some() {
                    self.wrongs.push(format!("{name}: a living agent was cleared away"));
                }
                self.processes.retain(|_, process| process.session.as_ref() != Some(&name));
            }
            Action::End { name, .. } => {
                let stopped = &self.places.get(&name).unwrap().learned;
                if stopped.stopped != Some(Stop::Person) && stopped.restart.is_none() {
                    self.wrongs.push(format!("{name}: ended though nobody asked"));
                }
                self.agent_ends(&name, None, false);
            }
            Action::Rotate(name, id) => {
                let pid = self.places.get(&name).unwrap().process;
                if let Some(process) = pid.and_then(|pid| self.processes.get_mut(&pid)) {
                    process.locked = Some(id.clone());
                    let report = self.places.get_mut(&name).unwrap().report.as_mut();
                    report.unwrap().conversation = Some(id);
                }
            }
            Action::Send(name, line) => self.places.get_mut(&name).unwrap().sent.push(line),
            Action::Recreate(name) => self.places.get_mut(&name).unwrap().worktree = true,
            Action::Probe(address) => {
                let failed = (!self.online).then(|| "timed out".to_owned());
                self.probes.insert(address, Probe { at: self.now, failed });
            }
        }
    }

    fn start(&mut self, name: &SessionName, start: &Start) {
        if self.server.is_none() || self.places.get(name).unwrap().process.is_some() {
            return;
        }
        let pane = self.number();
        let held = |process: &Process| {
            process.locked.is_some() && process.locked == start.conversation && self.locks
        };
        let locked = self.processes.values().any(held);
        if self.places.get(name).unwrap().learned.start != start.number {
            self.wrongs.push(format!("{name}: started before it was remembered"));
        }
        if !locked && self.locks {
            // The shim ends what is left before anything else.
            self.processes.retain(|_, process| process.session.as_ref() != Some(name));
        }
        let place = self.places.get_mut(name).unwrap();
        place.pane = Some((pane, None));
        place.screen.clear();
        let mut report = Report {
            start: start.number,
            outcome: Outcome::Locked("another shim".to_owned()),
            conversation: start.conversation.clone(),
            conflict: None,
            server_gone: false,
        };
        if locked {
            place.report = Some(report);
            return;
        }
        place.number_of_starts += 1;
        self.starts.push((name.clone(), self.now));
        let known = start.conversation.as_ref().is_some_and(|id| self.transcripts.contains(id));
        let failure = match (start.resume, known, place.fails) {
            (_, _, Some(failure)) => Some(failure),
            (true, false, _) if start.conversation.is_some() => {
                Some((1, "No conversation found with session ID"))
            }
            (false, true, _) => Some((1, "Session ID is already in use")),
            _ => None,
        };
        if failure.is_some() && place.fails.is_none() {
            self.wrongs.push(format!("{name}: {failure:?}: {start:?}"));
        }
        if let Some((code, screen)) = failure {
            screen.clone_into(&mut place.screen);
            place.pane = Some((pane, Some(code)));
            report.outcome = ended(Some(code));
            place.report = Some(report);
            return;
        }
        let conversation = start.conversation.clone().unwrap_or_else(|| id(pane));
        if self.processes.values().any(|process| process.conversation == conversation) {
            self.wrongs.push(format!("{name}: a second process in {conversation}"));
        }
        if start.resume && place.truth.as_ref() != Some(&conversation) {
            self.wrongs.push(format!("{name}: resumed {conversation}, not {:?}", place.truth));
        }
        report.outcome = Outcome::Started { pid: pane };
        place.report = Some(report);
        place.truth = Some(conversation.clone());
        place.process = Some(pane);
        let process = Process {
            locked: Some(conversation.clone()),
            conversation,
            session: Some(name.clone()),
            activity: Activity::Idle,
            turned: false,
        };
        self.processes.insert(pane, process);
    }

    /// The agent of a session ends; the shim reports it unless it is killed too.
    pub(super) fn agent_ends(&mut self, name: &SessionName, code: Option<i32>, stopping: bool) {
        let place = self.places.get_mut(name).unwrap();
        let Some(pid) = place.process.take() else { return };
        self.processes.remove(&pid);
        let mut outcome = ended(code);
        if let Outcome::Ended { stopping: said, .. } = &mut outcome {
            *said = stopping;
        }
        place.pane = place.pane.map(|(pane, _)| (pane, code));
        if let Some(report) = &mut place.report {
            report.outcome = outcome;
        }
    }

    /// The server ends, and all panes with it. Agents that ignore the hangup live on in their
    /// cgroups without their shims.
    pub(super) fn server_ends(&mut self, reported: bool, stubborn: bool) {
        self.server = None;
        for place in self.places.values_mut() {
            place.pane = None;
            let Some(pid) = place.process.take() else { continue };
            if let Some(process) = self.processes.get_mut(&pid) {
                process.locked = None;
            }
            if !stubborn {
                self.processes.remove(&pid);
            }
            if let Some(report) = place.report.as_mut().filter(|_| reported) {
                report.outcome = ended(None);
                report.server_gone = true;
                if let Outcome::Ended { stopping, .. } = &mut report.outcome {
                    *stopping = true;
                }
            }
        }
    }

    pub(super) fn server_starts(&mut self) {
        self.stopping = false;
        self.server = Some(self.number());
    }

    /// The machine loses power and comes back: nobody could report anything.
    pub(super) fn power_cut(&mut self) {
        self.server_ends(false, false);
        self.processes.clear();
        self.probes.clear();
        self.boot += 1;
        self.now = Boottime::from_millis(20_000);
        self.starts.clear();
        self.server_starts();
    }

    pub(super) fn moment(&self) -> Moment {
        Moment { boot: self.now().0, at: self.now }
    }

    pub(super) fn starts_of(&self, session: &str) -> usize {
        self.places.get(&name(session)).unwrap().number_of_starts
    }

    /// A person resumes the conversation of a session by hand, elsewhere.
    pub(super) fn start_twin(&mut self, session: &str) -> u32 {
        let pid = self.number();
        let conversation = self.place(session).truth.clone().unwrap();
        let activity = Activity::Idle;
        let by_hand =
            Process { conversation, session: None, locked: None, activity, turned: false };
        self.processes.insert(pid, by_hand);
        pid
    }

    /// A turn of the agent's: it is in the transcript.
    pub(super) fn turn(&mut self, session: &str) {
        if let Some(process) = self.process(session) {
            process.activity = Activity::Idle;
            process.turned = true;
            let id = process.conversation.clone();
            self.transcripts.insert(id);
        }
    }

    /// `/clear`: another conversation, of which the agent's registry tells.
    pub(super) fn clear(&mut self, session: &str) {
        let new = id(self.number());
        if let Some(process) = self.process(session) {
            process.conversation = new.clone();
            self.place(session).truth = Some(new);
        }
    }
}

pub(super) fn ended(code: Option<i32>) -> Outcome {
    let signal = code.is_none().then_some(9);
    Outcome::Ended { code, signal, oom: false, stopping: false, pane_closed: false }
}
