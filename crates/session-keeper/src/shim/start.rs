//! One start, from the launch file to the agent's exit status. Everything that can be refused
//! without touching anything comes first; what is left of the last agent is ended only when
//! nothing but the login shell stands between.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::child::Orders;
use super::environment::{self, Variables};
use super::lock::{Holder, Lock, make_folder};
use super::login::{self, Answer};
use super::server::Server;
use super::signals::Signals;
use super::terminal::Terminal;
use super::watch::{Ended, Watch};
use super::{REFUSED, Refusal, end, native, spawn};
use crate::cgroup::{Group, Tree};
use crate::conversation::Conversation;
use crate::launch::Launch;
use crate::name::SessionName;
use crate::paths::{Paths, is_plain_word};
use crate::process::Identity;
use crate::report::{Phase, Report};

/// How long a login shell may take; nvm and its kind take up to 2 s on a slow machine.
const LOGIN_WITHIN: Duration = Duration::from_secs(10);
/// Overrides it, in milliseconds.
const LOGIN_WITHIN_MS: &str = "GUPPY_LOGIN_DEADLINE_MS";
/// How long what is left of a killed agent may take to be gone.
const KILLED_WITHIN: Duration = Duration::from_secs(10);

/// Starts what the keeper wants in this pane, and stays until it has ended.
pub(super) fn run(name: &SessionName) -> ExitCode {
    let begun = Signals::block().map_err(|error| error.to_string()).and_then(|signals| {
        let paths = Paths::of_this_user().map_err(|error| error.to_string())?;
        let report = Report::new(name, 0).map_err(|error| error.to_string())?;
        Ok(Shim { name, paths, signals, report, agent: String::new(), untold: false })
    });
    match begun {
        Ok(mut shim) => match shim.start() {
            Ok(ended) => end::as_the_agent(&ended.status),
            Err(refusal) => shim.refuse(&refusal),
        },
        Err(why) => {
            say!("guppy: {why}");
            ExitCode::from(REFUSED)
        }
    }
}

/// One shim.
pub(super) struct Shim<'a> {
    pub(super) name: &'a SessionName,
    pub(super) paths: Paths,
    pub(super) signals: Signals,
    pub(super) report: Report,
    /// Which agent it is.
    pub(super) agent: String,
    /// The report is not on the disk (it is full, or read-only).
    pub(super) untold: bool,
}

/// What a start has taken, and gives back at its end.
pub(super) struct Held {
    pub(super) session: Lock,
    pub(super) conversation: Option<Lock>,
    pub(super) holder: Holder,
}

impl Shim<'_> {
    fn start(&mut self) -> Result<Ended, Refusal> {
        let launch = self.launch()?;
        let secrets = environment::secrets(&launch, &self.paths)?;
        let tree = Tree::of_this_pane().map_err(|error| Refusal(error.to_string()))?;
        let group = tree.agent(self.name);
        let mut held = self.lock(&launch)?;
        let kills_before = self.clear(&group, &launch)?;

        let mut variables = self.environment(&group)?;
        environment::add(&mut variables, &launch, secrets)?;
        let first = launch.argv.first().map_or("", String::as_str);
        let found = environment::program(first, &variables, &launch.cwd)?;
        let program = native::of(found, &launch.native);
        let server = Server::of_this_pane();
        let terminal = Terminal::of_stdin();
        let agent = self.spawn(&launch, &program, variables, &group)?;
        self.begun(agent, &mut held);

        let watch = Watch { tree: &tree, group: &group, terminal, server, agent, kills_before };
        watch.until_the_end(self, held)
    }

    /// Reads the launch, and refuses what can be known to fail.
    fn launch(&mut self) -> Result<Launch, Refusal> {
        let path = self.paths.launch(self.name);
        let refused = |why: String| Refusal(format!("{}: {why}", path.display()));
        let launch = Launch::read(&path)
            .map_err(|error| {
                refused(format!("{error}: write it again with guppy restart {}", self.name))
            })?
            .ok_or_else(|| {
                refused(format!("not there: start the session with guppy start {}", self.name))
            })?;
        self.report.start = launch.start;
        if launch.name != self.name.to_string() {
            return Err(refused(format!("it is for {}", launch.name)));
        }
        if launch.argv.is_empty() || launch.argv.iter().any(|word| word.contains('\0')) {
            return Err(refused("argv is no argument list".to_owned()));
        }
        // Both become names of files.
        if !is_plain_word(&launch.agent) {
            return Err(refused(format!("{:?} is no agent", launch.agent)));
        }
        if let Some(Err(error)) = launch.conversation.as_deref().map(Conversation::parse) {
            return Err(refused(error.to_string()));
        }
        // tmux would take another folder without a word.
        if !launch.cwd.is_absolute() || !launch.cwd.is_dir() {
            let cwd = launch.cwd.display();
            return Err(Refusal(format!(
                "the worktree {cwd} is not there: git worktree add {cwd}, or guppy rm {}",
                self.name
            )));
        }
        Ok(launch)
    }

    /// One shim for a session, one agent for a conversation.
    fn lock(&mut self, launch: &Launch) -> Result<Held, Refusal> {
        let holder = Holder {
            session: self.name.to_string(),
            boot_id: self.report.boot_id.clone(),
            shim: Identity { pid: self.report.shim_pid, start_time: self.report.shim_start_time },
            agent: None,
        };
        let what = format!("session {}", self.name);
        let session = Lock::take(&self.paths.session_lock(self.name), &what, &holder)?;
        let conversation = launch.conversation.as_ref().map(|id| {
            let path = self.paths.conversation_lock(&launch.agent, id);
            Lock::take(&path, &format!("conversation {id} of {}", launch.agent), &holder)
        });
        let conversation = conversation.transpose()?;
        self.agent.clone_from(&launch.agent);
        self.report.conversation = launch.conversation.clone();
        Ok(Held { session, conversation, holder })
    }

    /// Ends what is left of the last agent, and makes its group new. Returns how many processes
    /// OOM killers have ended in it before, as far as that is known.
    fn clear(&mut self, group: &Group, launch: &Launch) -> Result<Option<u64>, Refusal> {
        let failed = |what: &str, error: io::Error| Refusal(format!("{what}: {error}"));
        let left = group.pids().unwrap_or_default().len();
        group
            .kill(KILLED_WITHIN)
            .map_err(|error| failed("what is left of the last agent", error))?;
        if left > 0 {
            say!("guppy: ended {left} processes that the last agent had left");
        }
        let shown = group.path().display().to_string();
        self.report.limits_not_kept = group
            .create(&launch.limits)
            .map_err(|error| failed(&format!("cannot make {shown}"), error))?;
        for limit in &self.report.limits_not_kept {
            say!("guppy: a limit is not kept: {limit}");
        }
        self.report.cgroup = Some(shown);
        Ok(group.memory_events().ok().map(|events| events.oom_kill))
    }

    fn environment(&mut self, group: &Group) -> Result<Variables, Refusal> {
        let known = environment::known(&self.name.to_string(), std::env::vars_os());
        let given = std::env::var(LOGIN_WITHIN_MS).ok().and_then(|text| text.parse().ok());
        let within = given.map_or(LOGIN_WITHIN, Duration::from_millis);
        match login::ask(&known, group, &self.signals, within) {
            Answer::Environment(login) => Ok(environment::with_login(known, login)),
            Answer::None(why) => {
                say!("guppy: {why}: starting without what its files set");
                self.report.environment = Some(why);
                Ok(known)
            }
            Answer::Cancelled(event) => Err(self.cancelled(event)),
        }
    }

    fn cancelled(&mut self, event: super::signals::Event) -> Refusal {
        self.report.asked = true;
        Refusal(format!("{} came before the agent was started", event.signal))
    }

    fn spawn(
        &mut self,
        launch: &Launch,
        program: &Path,
        variables: Variables,
        group: &Group,
    ) -> Result<Identity, Refusal> {
        while let Ok(Some(event)) = self.signals.pending() {
            if login::ends_a_start(event.signal) {
                return Err(self.cancelled(event));
            }
        }
        let fifo = self.paths.fifo(self.name);
        let orders = Orders {
            parent: self.report.shim_pid,
            door: group.door().into(),
            news: fifo.clone().into(),
            program: program.into(),
            argv: launch.argv.iter().map(Into::into).collect(),
        };
        let mut command = orders.command("--agent");
        command.env_clear().envs(variables).current_dir(&launch.cwd);
        let shown = format!("{} in {}", program.display(), launch.cwd.display());
        spawn::agent(&mut command, &fifo, &shown)
    }

    /// Writes down who the agent is: for the keeper, and for the shim after a crash of this one.
    fn begun(&mut self, agent: Identity, held: &mut Held) {
        held.holder.agent = Some(agent);
        for lock in [Some(&held.session), held.conversation.as_ref()].into_iter().flatten() {
            if let Err(error) = lock.note(&held.holder) {
                say!("guppy: cannot write {}: {error}", lock.path().display());
            }
        }
        self.report.pid = Some(agent.pid);
        self.report.start_time = Some(agent.start_time);
        self.tell(Phase::Started);
    }

    /// Leaves the report on disk, and tells the keeper that it is there.
    pub(super) fn tell(&mut self, phase: Phase) {
        self.report.phase = phase;
        let path = self.paths.report(self.name);
        let before = self.untold;
        let written = make_folder(&path).and_then(|()| self.report.write(&path));
        self.untold = written.is_err();
        if let (Err(error), false) = (written, before) {
            say!("guppy: cannot write {}: {error}", path.display());
        }
        // A keeper that is away reads the file when it is back.
        let _ = self.report.hint(&self.paths.socket);
    }

    fn refuse(&mut self, refusal: &Refusal) -> ExitCode {
        // tmux scrolls the dead pane by the line in which it says so.
        say!("\nguppy: {} is not started: {refusal}", self.name);
        self.report.refused = Some(refusal.to_string());
        self.tell(Phase::Refused);
        ExitCode::from(REFUSED)
    }
}
