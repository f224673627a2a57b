//! What panes and `systemctl status` show of where sessions stand.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Keeper;
use crate::decide::{Standing, State};
use crate::learned::Server;
use crate::name::SessionName;
use crate::sense::Reading;

impl Keeper {
    /// Whether this server has our hooks.
    pub(crate) fn is_hooked_to(&self, server: &Server) -> bool {
        self.hooked.as_ref() == Some(server)
    }

    /// Notes that it has. A new one has none of the options that its predecessor's panes had, and
    /// gives their numbers to panes of its own.
    pub(crate) fn hook_to(&mut self, server: Server) {
        self.hooked = Some(server);
        self.shown.clear();
    }

    /// The pane of a session's agent, as of the last look.
    pub fn pane(&self, name: &SessionName) -> Option<String> {
        Some(self.view.as_ref()?.pane(name)?.id.clone())
    }

    /// The files that a session's turns are in.
    pub(crate) fn turn_files(&self, name: &SessionName) -> BTreeSet<PathBuf> {
        let pid = self.view.as_ref().and_then(|view| view.left.get(name)?.pid);
        let watched = self.watched(&self.sessions());
        let session = watched.get(name);
        session.map(|session| self.looker.turn_files(name, session, pid)).unwrap_or_default()
    }

    pub(crate) fn to_show(&self) -> Vec<(SessionName, String, Standing)> {
        let mut due = Vec::new();
        let Some(Reading::Known(panes)) = self.view.as_ref().map(|view| &view.panes) else {
            return due;
        };
        let panes = panes.of_agents();
        for (name, standing) in &self.standings {
            let Some(pane) = panes.get(name).map(|pane| &pane.pane.id) else { continue };
            let same = self.shown.get(name).is_some_and(|(on, shown)| {
                on == pane && shown.state == standing.state && shown.why == standing.why
            });
            if !same {
                due.push((name.clone(), pane.clone(), standing.clone()));
            }
        }
        due
    }

    /// One line for `systemctl status`.
    pub(crate) fn status(&self) -> String {
        let count = |wanted: &[State]| {
            self.standings.values().filter(|standing| wanted.contains(&standing.state)).count()
        };
        let all = self.standings.len();
        let runs = [
            State::Starting,
            State::Working,
            State::Waiting,
            State::Idle,
            State::Interrupted,
            State::Running,
        ];
        let held = [State::Unknown, State::Blocked, State::Parked];
        format!("{} of {all} sessions run, {} are held up", count(&runs), count(&held))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use service::clock::Clock;
    use service::config::Live;

    use super::*;
    use crate::paths::Paths;
    use crate::sense::{AnyPane, Looker, Pane, Panes, View};

    #[test]
    fn a_new_server_is_shown_everything_anew() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let paths = Paths { config: at("config"), state: at("state"), socket: at("socket") };
        let tree = Reading::Unknown("none".to_owned());
        let looker = Looker::of(paths, at("home"), "/bin/sh".into(), "boot".to_owned(), tree);
        let files = service::config::Paths { role: at("r"), file: at("f"), dropins: at("d") };
        let config = Live::start(files, None);
        let mut keeper = Keeper::new(Clock::Kernel, config, looker, at("libexec"));
        let name = SessionName::parse("a/b").unwrap();
        let pane = Pane { id: "%0".to_owned(), pid: 1, dead: false, status: None };
        let of = Some(name.clone());
        let pane = AnyPane { pane, of, session: "a/b".to_owned(), attached: 0 };
        let panes = Reading::Known(Panes { all: vec![pane], ..Panes::absent() });
        keeper.remember(View { panes, left: BTreeMap::new() });
        keeper.stand(name.clone(), Standing::unknown("it is a test"));
        let server = |pid| Server { pid, started: 1, boot: "boot".to_owned() };
        keeper.hook_to(server(1));
        let [(_, pane, standing)] = keeper.to_show().try_into().unwrap();
        keeper.shown.insert(name.clone(), (pane, standing));
        assert_eq!(keeper.to_show(), []);
        // Its pane has the same number in the next one.
        assert!(keeper.is_hooked_to(&server(1)) && !keeper.is_hooked_to(&server(2)));
        keeper.hook_to(server(2));
        let [(again, ..)] = keeper.to_show().try_into().unwrap();
        assert_eq!(again, name);
    }
}
