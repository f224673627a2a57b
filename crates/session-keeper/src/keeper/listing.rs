//! What `guppy ls` shows, from what was seen and judged.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use service::clock::Boottime;

use super::Keeper;
use crate::api::{Listing, OtherLine, SessionLine};
use crate::decide::{self, Now, Session, Standing, Wanted};
use crate::name::SessionName;
use crate::sense::{AnyPane, Left, Panes, Reading, TmuxServer, View};

impl Keeper {
    /// The listing of the last look.
    pub fn listing(&self) -> Listing {
        let sessions = self.sessions();
        let Some(view) = &self.view else {
            // What is declared is known: an empty list would say that there is nothing.
            let now = self.clock.now();
            let unseen = |(name, session)| line(name, session, None, None, None, now);
            let server = "nobody has looked yet".to_owned();
            let sessions = sessions.iter().map(unseen).collect();
            return Listing { server, sessions, ..Listing::default() };
        };
        let mut listing = list(&sessions, view, &self.standings, self.clock.now());
        listing.problems = self.problems.clone();
        listing.problems.extend(self.config.error().map(str::to_owned));
        listing
    }

    /// A look of its own, by a program that is not the daemon: nothing is done.
    ///
    /// # Errors
    /// The folder of sessions cannot be read.
    pub async fn only_look(&mut self) -> Result<Listing, String> {
        self.read()?;
        let sessions = self.sessions();
        let sight = self.looker.look(&self.watched(&sessions), BTreeMap::new()).await;
        let boot = self.looker.boot.clone();
        let now = Now { boot: &boot, at: self.clock.now(), wall: Self::wall() };
        let decision = decide::decide(&sessions, &sight.evidence, self.config.config(), now);
        self.standings = decision.standings;
        self.view = Some(sight.view);
        Ok(self.listing())
    }
}

/// The lines.
pub fn list(
    sessions: &BTreeMap<SessionName, Session>,
    view: &View,
    standings: &BTreeMap<SessionName, Standing>,
    now: Boottime,
) -> Listing {
    let (server, others) = match &view.panes {
        Reading::Known(panes) => (server(panes), others(panes, sessions)),
        Reading::Unknown(why) => (format!("unknown: {why}"), Vec::new()),
    };
    let of_agents = match &view.panes {
        Reading::Known(panes) => panes.of_agents(),
        Reading::Unknown(_) => BTreeMap::new(),
    };
    let line = |(name, session): (&SessionName, &Session)| {
        let pane = of_agents.get(name).copied();
        line(name, session, view.left.get(name), pane, standings.get(name), now)
    };
    let sessions = sessions.iter().map(line).collect();
    Listing { server, sessions, others, problems: Vec::new() }
}

/// What an upgrade of tmux means for whoever looks at a session.
const REPLACED: &str = ", replaced on the disk since it started: it goes on with all sessions; \
     where plain tmux attach does not understand it, guppy attach does";

fn server(panes: &Panes) -> String {
    match &panes.server {
        TmuxServer::Absent => "no tmux server: systemctl status guppy-tmux@$USER".to_owned(),
        TmuxServer::Ours(server) => {
            let since = if panes.replaced { REPLACED } else { "" };
            format!("tmux {} (pid {}){since}", panes.version, server.pid)
        }
        TmuxServer::Ending => format!("tmux {}, whose unit is being stopped", panes.version),
        TmuxServer::Foreign(why) => format!("tmux {}: {why}", panes.version),
    }
}

fn others(panes: &Panes, sessions: &BTreeMap<SessionName, Session>) -> Vec<OtherLine> {
    let mut others: BTreeMap<&str, OtherLine> = BTreeMap::new();
    let of = |pane: &AnyPane| pane.of.as_ref().is_some_and(|name| sessions.contains_key(name));
    let kept: BTreeSet<&str> =
        panes.all.iter().filter(|pane| of(pane)).map(|pane| pane.session.as_str()).collect();
    for pane in &panes.all {
        if kept.contains(pane.session.as_str()) {
            continue;
        }
        let line = others.entry(&pane.session).or_insert_with(|| OtherLine {
            session: pane.session.clone(),
            panes: 0,
            attached: u64::from(pane.attached),
        });
        line.panes += 1;
    }
    others.into_values().collect()
}

fn line(
    name: &SessionName,
    session: &Session,
    left: Option<&Left>,
    pane: Option<&AnyPane>,
    standing: Option<&Standing>,
    now: Boottime,
) -> SessionLine {
    let unknown = Standing::unknown("it has not been looked at yet");
    let standing = standing.unwrap_or(&unknown);
    let (agent, worktree) = match &session.wanted {
        Wanted::Valid(intent, _) => (intent.agent.clone(), intent.worktree.display().to_string()),
        Wanted::Refused(_) => (String::new(), String::new()),
    };
    let learned = match &session.learned {
        Reading::Known(learned) => Rc::clone(learned),
        Reading::Unknown(_) => Rc::default(),
    };
    let lives = pane.is_some_and(|pane| !pane.pane.dead);
    SessionLine {
        name: name.to_string(),
        agent,
        state: standing.state.as_str().to_owned(),
        why: standing.why.clone(),
        until_seconds: standing.until.map(|until| now.until(until).as_secs()),
        worktree,
        conversation: learned.conversation.as_ref().map(ToString::to_string),
        history: learned.history.iter().map(ToString::to_string).collect(),
        pid: left.filter(|_| lives).and_then(|left| left.pid).map(u64::from),
        attached: pane.map_or(0, |pane| u64::from(pane.attached)),
        pane: pane.map(|pane| pane.pane.id.clone()),
        starts: learned.start,
        remarks: left.map(|left| left.remarks.clone()).unwrap_or_default(),
    }
}
