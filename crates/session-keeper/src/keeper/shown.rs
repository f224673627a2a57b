//! What panes and `systemctl status` show of where sessions stand.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::Keeper;
use crate::decide::{Standing, State};
use crate::name::SessionName;
use crate::report::Phase;
use crate::sense::Reading;

impl Keeper {
    /// The pane of a session's agent, as of the last look.
    pub fn pane(&self, name: &SessionName) -> Option<String> {
        let seen = self.view.as_ref()?.evidence.sessions.get(name)?;
        match &seen.pane {
            Reading::Known(Some(pane)) => Some(pane.id.clone()),
            Reading::Known(None) | Reading::Unknown(_) => None,
        }
    }

    /// The files that a session's turns are in.
    pub(crate) fn turn_files(&self, name: &SessionName) -> BTreeSet<PathBuf> {
        let view = self.view.as_ref();
        let report = view.and_then(|view| view.reports.get(name));
        let pid = report.filter(|report| report.phase == Phase::Started).and_then(|it| it.pid);
        let watched = self.watched(&self.sessions());
        let session = watched.get(name);
        session.map(|session| self.looker.turn_files(name, session, pid)).unwrap_or_default()
    }

    pub(crate) fn to_show(&self) -> Vec<(SessionName, String, Standing)> {
        let mut due = Vec::new();
        for (name, standing) in &self.standings {
            let Some(pane) = self.pane(name) else { continue };
            let same = self.shown.get(name).is_some_and(|(on, shown)| {
                *on == pane && shown.state == standing.state && shown.why == standing.why
            });
            if !same {
                due.push((name.clone(), pane, standing.clone()));
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
