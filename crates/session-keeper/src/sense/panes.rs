//! The tmux server and all its panes, in one call.

use std::collections::BTreeMap;
use std::ffi::OsStr;

use super::{Pane, Reading, TmuxServer};
use crate::cgroup::Tree;
use crate::learned::Server;
use crate::name::SessionName;
use crate::process::Identity;
use crate::tmux::{Tmux, TmuxError, is_replaced};

/// The server: its process and its version.
const SERVER: &str = "server:#{pid}:#{version}";
/// A pane. `:` stands in no name of a session: tmux replaces it there.
const PANE: &str = "pane:#{pane_id}:#{pane_pid}:#{pane_dead}:#{pane_dead_status}:#{session_attached}:#{@guppy_name}:#{session_name}";

/// A pane of any session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyPane {
    /// The pane.
    pub pane: Pane,
    /// The session that it is the agent's pane of, as the option says that the keeper sets.
    pub of: Option<SessionName>,
    /// The name of its tmux session.
    pub session: String,
    /// Clients that look at it.
    pub attached: u32,
}

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panes {
    /// Who it is.
    pub server: TmuxServer,
    /// Its version, `3.5a`.
    pub version: String,
    /// An upgrade has replaced its program since it started.
    pub replaced: bool,
    /// All panes.
    pub all: Vec<AnyPane>,
}

impl Panes {
    /// Without a server there are none.
    pub const fn absent() -> Self {
        Self {
            server: TmuxServer::Absent,
            version: String::new(),
            replaced: false,
            all: Vec::new(),
        }
    }

    /// The panes of agents, by session. Of two with the same option the one that lives counts.
    pub fn of_agents(&self) -> BTreeMap<SessionName, &AnyPane> {
        let mut panes: BTreeMap<SessionName, &AnyPane> = BTreeMap::new();
        for pane in &self.all {
            let Some(name) = &pane.of else { continue };
            let better = panes.get(name).is_none_or(|other| other.pane.dead);
            if better {
                panes.insert(name.clone(), pane);
            }
        }
        panes
    }

    /// Whether a tmux session of this name has no agent's pane: somebody else made it.
    pub fn is_taken(&self, name: &SessionName) -> bool {
        let session = name.tmux();
        self.all.iter().any(|pane| pane.session == session)
            && !self.all.iter().any(|pane| pane.of.as_ref() == Some(name))
    }
}

/// Asks.
pub(super) async fn read(tmux: &Tmux, tree: &Reading<Tree>, boot: &str) -> Reading<Panes> {
    let words = |words: [&'static str; 3]| words.map(OsStr::new);
    let asked = words(["display-message", "-p", SERVER]);
    let listed = ["list-panes", "-a", "-F", PANE].map(OsStr::new);
    let mut said = tmux.run_anew(&[&asked, &listed]).await;
    // A client that was installed since the server's start may not understand it.
    if matches!(said, Err(TmuxError::Refused(_) | TmuxError::Unknown(_)))
        && let Some(pid) = own_server(tree)
        && tmux.follow(pid).await
    {
        said = tmux.run_anew(&[&asked, &listed]).await;
    }
    match said {
        Ok(text) => match parse(&text) {
            Some((pid, version, all)) => {
                tmux.follow(pid).await;
                let (server, replaced) = (server(pid, tree, boot), is_replaced(pid));
                Reading::Known(Panes { server, version, replaced, all })
            }
            None => Reading::Unknown("tmux gave no answer that this keeper understands".into()),
        },
        Err(TmuxError::Absent) => Reading::Known(Panes::absent()),
        Err(error) => Reading::Unknown(error.to_string()),
    }
}

/// The server of the tree, by the name that tmux gives itself.
fn own_server(tree: &Reading<Tree>) -> Option<u32> {
    let Reading::Known(tree) = tree else { return None };
    let procs = std::fs::read_to_string(tree.path().join("server/cgroup.procs")).ok()?;
    procs.lines().filter_map(|line| line.parse().ok()).find(|pid: &u32| {
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| name.starts_with("tmux: server"))
    })
}

/// Whether the server is in the tree that its user may divide: else agents can have no cgroups.
fn server(pid: u32, tree: &Reading<Tree>, boot: &str) -> TmuxServer {
    let foreign = |why: &str| {
        TmuxServer::Foreign(format!(
            "the tmux server on your socket (pid {pid}) {why}: when you can spare what runs in it, \
             end it (tmux kill-server), and the service takes its place"
        ))
    };
    let tree = match tree {
        Reading::Known(tree) => tree,
        Reading::Unknown(why) => return foreign(&format!("has no known cgroup ({why})")),
    };
    let procs = std::fs::read_to_string(tree.path().join("server/cgroup.procs"));
    let among = procs.unwrap_or_default().lines().any(|line| line.parse() == Ok(pid));
    match Identity::of(pid) {
        Ok(_) if among && tree.is_stopping() => TmuxServer::Ending,
        Ok(identity) if among => {
            TmuxServer::Ours(Server { pid, started: identity.start_time, boot: boot.to_owned() })
        }
        _ => foreign("was started by hand, not by its service"),
    }
}

type Parsed = (u32, String, Vec<AnyPane>);

fn parse(text: &str) -> Option<Parsed> {
    let mut lines = text.lines();
    let (pid, version) = lines.next()?.strip_prefix("server:")?.split_once(':')?;
    let panes = lines.map(pane).collect::<Option<Vec<_>>>()?;
    Some((pid.parse().ok()?, version.to_owned(), panes))
}

fn pane(line: &str) -> Option<AnyPane> {
    let mut fields = line.strip_prefix("pane:")?.splitn(7, ':');
    let mut next = || fields.next();
    let (id, pid, dead, status) = (next()?, next()?, next()?, next()?);
    let (attached, of, session) = (next()?, next()?, next()?);
    Some(AnyPane {
        pane: Pane {
            id: id.to_owned(),
            pid: pid.parse().ok()?,
            dead: dead == "1",
            status: status.parse().ok(),
        },
        of: SessionName::from_tmux(of).ok(),
        session: session.to_owned(),
        attached: attached.parse().unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn panes_are_read_and_the_living_one_counts() {
        let text = "server:7:3.3a\n\
                    pane:%0:70:1:1:0:shop/fix:shop/fix\n\
                    pane:%1:71:0::2:shop/fix:shop/fix\n\
                    pane:%2:72:1::0::my own: no\n";
        let (pid, version, all) = parse(text).unwrap();
        assert_eq!((pid, version.as_str(), all.len()), (7, "3.3a", 3));
        let panes = Panes { version, all, ..Panes::absent() };
        let name = SessionName::parse("shop/fix").unwrap();
        let of_agents = panes.of_agents();
        let own = of_agents.get(&name).unwrap();
        assert_eq!((own.pane.id.as_str(), own.pane.dead, own.attached), ("%1", false, 2));
        assert_eq!(panes.all.first().unwrap().pane.status, Some(1));
        assert!(!panes.is_taken(&name));
        let by_hand =
            Panes { all: vec![pane("pane:%9:79:0::0::shop/fix").unwrap()], ..Panes::absent() };
        assert!(by_hand.is_taken(&name));
    }

    #[test]
    fn an_answer_of_another_kind_is_no_empty_one() {
        for text in ["", "x", "server:7", "server:x:3.3a\n", "server:7:3.3a\npane:%0:x:0:::a:b\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
        assert_eq!(parse("server:7:3.3a\n").unwrap().2, []);
    }
}
