//! What is read of one session from its user's files: what its shim and its agent have left, and what
//! lies in its worktree or is named after that. Each of these may hang, so whoever asks does it by
//! [`Patience`](crate::patience::Patience).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Heard, Own, Reading, Watched, activity, mounts, open_file};
use crate::act::{Stamp, stamp};
use crate::agents::{Agent, Places, fill};
use crate::conversation::Conversation;
use crate::name::SessionName;
use crate::report::{Phase, Report};

/// Where the user's files are.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    pub(super) home: PathBuf,
    pub(super) state: PathBuf,
    pub(super) shell: PathBuf,
}

/// The session that they are read of.
pub(super) struct Of {
    name: SessionName,
    agent: Arc<Agent>,
    worktree: PathBuf,
    conversation: Option<Conversation>,
}

impl Of {
    pub(super) fn new(name: &SessionName, session: &Watched) -> Self {
        Self {
            name: name.clone(),
            agent: Arc::clone(&session.agent),
            worktree: session.intent.worktree.clone(),
            conversation: session.learned.conversation.clone(),
        }
    }
}

/// What its shim and its agent say.
pub(super) struct Said {
    pub(super) report: Reading<Option<Report>>,
    pub(super) own: Own,
}

impl Said {
    pub(super) fn read(path: &Path, agent: &Agent, home: &Path, heard: Option<&Heard>) -> Self {
        let report = report(path);
        let raw = match &report {
            Reading::Known(report) => report.as_ref(),
            Reading::Unknown(_) => None,
        };
        let own = activity::own(agent, home, raw, heard);
        Self { report, own }
    }

    pub(super) fn unknown(why: String) -> Self {
        Self { report: Reading::Unknown(why), own: Own::default() }
    }

    /// The process of the agent that was started, and has not ended as far as that is known.
    pub(super) fn runs(&self) -> Option<u32> {
        match &self.report {
            Reading::Known(Some(report)) if report.phase == Phase::Started => report.pid,
            _ => None,
        }
    }
}

/// What lies in its worktree, or is named after that.
pub(super) struct Lies {
    pub(super) worktree: Reading<bool>,
    pub(super) unmounted: Option<PathBuf>,
    pub(super) transcript: Reading<Option<bool>>,
    /// What a turn of it is in.
    pub(super) files: Vec<(PathBuf, Stamp)>,
}

impl Lies {
    pub(super) fn unknown(why: String) -> Self {
        let transcript = Reading::Unknown(why.clone());
        Self { worktree: Reading::Unknown(why), unmounted: None, transcript, files: Vec::new() }
    }
}

impl Ground {
    /// `pid`: the process of its agent.
    pub(super) fn lies(&self, of: &Of, pid: Option<u32>) -> Lies {
        let worktree = is_folder(&of.worktree);
        let missing = worktree == Reading::Known(false);
        let transcript = self.transcript_path(of);
        let is_written = self.is_written(of, transcript.as_deref());
        let files = self.turn_files(of, pid, transcript).into_iter();
        Lies {
            worktree,
            unmounted: missing.then(|| mounts::missing_above(&of.worktree)).flatten(),
            transcript: is_written,
            files: files.filter_map(|file| stamp(&file).map(|now| (file, now))).collect(),
        }
    }

    /// Where the transcript of a conversation is, if its agent says.
    pub(crate) fn transcript_of(
        &self,
        name: &SessionName,
        agent: &Agent,
        worktree: &Path,
        id: &Conversation,
    ) -> Option<PathBuf> {
        let pattern = &agent.conversation.transcript;
        if pattern.is_empty() {
            return None;
        }
        // An agent sees its folder without symbolic links (getcwd(3)).
        let worktree = std::fs::canonicalize(worktree).unwrap_or_else(|_| worktree.to_owned());
        Some(fill(pattern, self.places(name, &worktree, Some(id))).into())
    }

    pub(super) fn transcript_path(&self, of: &Of) -> Option<PathBuf> {
        self.transcript_of(&of.name, &of.agent, &of.worktree, of.conversation.as_ref()?)
    }

    /// The files that a turn is in, as far as the agent says. `pid`: its process.
    pub(super) fn turn_files(
        &self,
        of: &Of,
        pid: Option<u32>,
        transcript: Option<PathBuf>,
    ) -> BTreeSet<PathBuf> {
        let places = self.places(&of.name, &of.worktree, of.conversation.as_ref());
        let named = of.agent.conversation.turns.iter().map(|file| fill(file, places).into());
        let open = pid.map(|pid| open_file::files(&of.agent, &self.home, pid)).unwrap_or_default();
        transcript.into_iter().chain(named).chain(open.into_keys()).collect()
    }

    fn is_written(&self, of: &Of, transcript: Option<&Path>) -> Reading<Option<bool>> {
        if of.agent.conversation.transcript.is_empty() {
            return Reading::Known(None);
        }
        let Some(path) = transcript else { return Reading::Known(Some(false)) };
        match is_there(path) {
            Ok(there) => Reading::Known(Some(there)),
            Err(error) => Reading::Unknown(format!("{}: {error}", path.display())),
        }
    }

    fn places<'a>(
        &'a self,
        name: &'a SessionName,
        worktree: &'a Path,
        conversation: Option<&'a Conversation>,
    ) -> Places<'a> {
        let Self { home, state, shell } = self;
        Places { name, conversation, home, state, worktree, shell, pid: None }
    }
}

fn report(path: &Path) -> Reading<Option<Report>> {
    match Report::read(path) {
        Ok(report) => Reading::Known(report),
        // Its shim may be a later version's, and the agent alive: that is for a person to say.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            let path = path.display();
            Reading::Unknown(format!("{path}: {error}: remove it, and the session goes on"))
        }
        Err(error) => Reading::Unknown(format!("{}: {error}", path.display())),
    }
}

fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if is_missing(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_folder(path: &Path) -> Reading<bool> {
    match std::fs::metadata(path) {
        Ok(metadata) => Reading::Known(metadata.is_dir()),
        Err(error) if is_missing(&error) => Reading::Known(false),
        Err(error) => Reading::Unknown(format!("{}: {error}", path.display())),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
