//! The files in which agents say what they do, one a process: `~/.claude/sessions/PID.json`. A file
//! stays behind when its process is killed, so it counts for a living one only while process and
//! start agree.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::{Activity, Holder, Reading};
use crate::agents::{Agent, Registry};
use crate::conversation::Conversation;
use crate::name::SessionName;
use crate::process::Identity;

/// No honest file is longer.
const FILE_AT_MOST: usize = 64 * 1024;
/// An agent has written its file within this, or never will.
const WRITTEN_WITHIN: Duration = Duration::from_secs(5);

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) process: Identity,
    pub(super) conversation: Option<Conversation>,
    pub(super) activity: Activity,
}

impl Entry {
    pub(super) fn lives(&self) -> bool {
        Identity::of(self.process.pid).is_ok_and(|now| now == self.process)
    }
}

/// The file of one process; None: there is none, or it says nothing of use.
pub(super) fn read(agent: &Agent, home: &Path, pid: u32) -> Option<Entry> {
    let rules = &agent.registry;
    let (folder, ending) = place(rules, home)?;
    let text = service::state::read(&folder.join(format!("{pid}{ending}")), FILE_AT_MOST);
    let value: Value = serde_json::from_str(&text.ok()??).ok()?;
    Some(entry(agent, pid, &value))
}

/// Everybody who is in a conversation of this agent.
pub(super) fn holders(name: &str, agent: &Agent, home: &Path) -> Reading<Vec<Holder>> {
    let Some((folder, ending)) = place(&agent.registry, home) else {
        return Reading::Known(Vec::new());
    };
    let unknown = |error: io::Error| Reading::Unknown(format!("{}: {error}", folder.display()));
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Reading::Known(Vec::new()),
        Err(error) => return unknown(error),
    };
    let mut holders = Vec::new();
    for entry in entries {
        let file = match entry {
            Ok(entry) => entry.file_name(),
            Err(error) => return unknown(error),
        };
        let pid = file.to_str().and_then(|file| file.strip_suffix(&ending)?.parse().ok());
        let Some(pid) = pid else { continue };
        let Some(entry) = read(agent, home, pid) else {
            let path = folder.join(&file);
            if is_being_written(&path) {
                return Reading::Unknown(format!("{}: it is being written", path.display()));
            }
            continue;
        };
        let Some(conversation) = entry.conversation.clone().filter(|_| entry.lives()) else {
            continue;
        };
        let pid = entry.process.pid;
        let agent = name.to_owned();
        holders.push(Holder { agent, conversation, pid, session: session_of(pid) });
    }
    Reading::Known(holders)
}

/// An agent writes its file in place: for a moment nobody can read it. What has been unreadable for
/// longer was cut off with its agent.
fn is_being_written(path: &Path) -> bool {
    let written = fs::metadata(path).and_then(|metadata| metadata.modified());
    written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age < WRITTEN_WITHIN))
}

/// The folder, and what follows the pid in the names of its files.
fn place(rules: &Registry, home: &Path) -> Option<(PathBuf, String)> {
    let (before, ending) = rules.file.split_once("{pid}")?;
    let folder = before.replace("{home}", home.to_str()?);
    Some((folder.into(), ending.to_owned()))
}

fn entry(agent: &Agent, pid: u32, value: &Value) -> Entry {
    let rules = &agent.registry;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| {
        let value = value.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let status = text(&rules.status);
    let among = |list: &[String]| list.iter().any(|known| known == status);
    let activity = if among(&rules.idle) {
        Activity::Idle
    } else if among(&rules.busy) {
        Activity::Working
    } else if among(&rules.waiting) {
        Activity::Waiting(text(&rules.waiting_for).to_owned())
    } else {
        Activity::Unknown
    };
    let shape = agent.conversation.shape;
    Entry {
        process: Identity { pid, start_time: number(&rules.started).unwrap_or(0) },
        conversation: Conversation::of_shape(shape, text(&rules.conversation)).ok(),
        activity,
    }
}

/// The session in whose cgroup a process is.
pub(super) fn session_of(pid: u32) -> Option<SessionName> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    let way = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let stem = way.split('/').find_map(|part| part.strip_prefix("agent-"))?;
    SessionName::from_file_stem(stem).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::agents::Folders;

    const ID: &str = "0190f3c2-7a11-4000-8000-00000000000a";

    #[test]
    fn a_file_counts_only_for_the_process_that_wrote_it() {
        let home = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        let claude = Folders(vec![shipped.into()]).read_one("claude").unwrap();
        let folder = home.path().join(".claude/sessions");
        let none = holders("claude", &claude, home.path());
        assert_eq!(none, Reading::Known(vec![]));
        fs::create_dir_all(&folder).unwrap();
        let own = Identity::of(std::process::id()).unwrap();
        let write = |pid: u32, start: u64, status: &str| {
            let text = format!(
                "{{\"pid\":{pid},\"sessionId\":\"{ID}\",\"procStart\":\"{start}\",\
                 \"status\":\"{status}\",\"waitingFor\":\"permission prompt\"}}"
            );
            fs::write(folder.join(format!("{pid}.json")), text).unwrap();
        };
        write(own.pid, own.start_time, "waiting");
        write(1, own.start_time + 1, "busy");
        fs::write(folder.join("7.json"), "{").unwrap();
        let unreadable = holders("claude", &claude, home.path());
        assert!(matches!(unreadable, Reading::Unknown(_)), "{unreadable:?}");
        let file = fs::File::options().write(true).open(folder.join("7.json")).unwrap();
        file.set_modified(std::time::SystemTime::now() - 2 * WRITTEN_WITHIN).unwrap();
        fs::write(folder.join("x.txt"), "").unwrap();
        let Reading::Known(holders) = holders("claude", &claude, home.path()) else { panic!() };
        let [holder] = holders.as_slice() else { panic!("{holders:?}") };
        assert_eq!((holder.pid, holder.conversation.as_str()), (own.pid, ID));

        let entry = read(&claude, home.path(), own.pid).unwrap();
        assert_eq!(entry.activity, Activity::Waiting("permission prompt".to_owned()));
        // What a dead one has left still says where it was.
        let left = read(&claude, home.path(), 1).unwrap();
        assert!(!left.lives() && left.conversation.is_some());
        assert_eq!(read(&claude, home.path(), 7), None);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
        let home = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        let claude = Folders(vec![shipped.into()]).read_one("claude").unwrap();
        fs::create_dir(home.path().join(".claude")).unwrap();
        fs::write(home.path().join(".claude/sessions"), "").unwrap();
        assert!(matches!(holders("claude", &claude, home.path()), Reading::Unknown(_)));
    }
}
