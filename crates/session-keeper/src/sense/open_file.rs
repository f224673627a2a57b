//! The conversation of an agent that says it in no registry and in no hook, or whose hooks nobody
//! has installed: it holds the file of its conversation open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::agents::Agent;
use crate::conversation::{Conversation, Shape};

/// How long a UUID is.
const UUID: usize = 36;

/// The one conversation that the agent of this process is in; None: it is not known, or there are
/// two.
pub(super) fn conversation(agent: &Agent, home: &Path, pid: u32) -> Option<Conversation> {
    let mut found = ids(agent, home, pid);
    match found.len() {
        1 => found.pop_first(),
        _ => None,
    }
}

/// All whose files the agent of this process holds open.
pub(super) fn ids(agent: &Agent, home: &Path, pid: u32) -> BTreeSet<Conversation> {
    files(agent, home, pid).into_values().collect()
}

/// Those files. npm's agents are the child of a launcher; what they start themselves is not looked
/// at.
pub(super) fn files(agent: &Agent, home: &Path, pid: u32) -> BTreeMap<PathBuf, Conversation> {
    let rules = &agent.conversation;
    if rules.open_file.is_empty() {
        return BTreeMap::new();
    }
    // As the kernel shows it: without symbolic links.
    let folder = rules.open_file.replace("{home}", &home.to_string_lossy());
    let Ok(folder) = fs::canonicalize(folder) else { return BTreeMap::new() };
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    let children = children.unwrap_or_default();
    let pids = children.split_whitespace().filter_map(|child| child.parse().ok());
    let mut found = BTreeMap::new();
    for pid in std::iter::once(pid).chain(pids) {
        let Ok(files) = fs::read_dir(format!("/proc/{pid}/fd")) else { continue };
        let open = files.filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        let below = open.filter(|path| path.starts_with(&folder));
        let id = |path: &Path| id_of(path, &rules.open_file_ends, rules.shape);
        found.extend(below.filter_map(|path| Some((path.clone(), id(&path)?))));
    }
    found
}

/// The id at the end of a file's name.
fn id_of(path: &Path, ends: &str, shape: Shape) -> Option<Conversation> {
    let stem = path.file_name()?.to_str()?.strip_suffix(ends)?;
    let id = match shape {
        Shape::Uuid => stem.get(stem.len().checked_sub(UUID)?..)?,
        Shape::Word => stem.rsplit(|letter: char| !letter.is_ascii_alphanumeric()).next()?,
    };
    Conversation::of_shape(shape, id).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::agents::Folders;

    const ONE: &str = "0190f3c2-7a11-4000-8000-00000000000a";
    const OTHER: &str = "0190f3c2-7a11-4000-8000-00000000000b";

    #[test]
    fn the_file_that_codex_holds_open_tells_its_conversation() {
        let home = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        let codex = Folders(vec![shipped.into()]).read_one("codex").unwrap();
        let day = home.path().join(".codex/sessions/2026/11/21");
        fs::create_dir_all(&day).unwrap();
        let rollout = |id: &str| day.join(format!("rollout-2026-11-21T12-00-00-{id}.jsonl"));
        for id in [ONE, OTHER] {
            File::create(rollout(id)).unwrap();
        }
        let of = |pid| conversation(&codex, home.path(), pid).map(String::from);
        // As npm's does: the agent is the child of a launcher.
        let mut launcher = Command::new("sh");
        launcher.args(["-c", "sh -c 'exec 9<\"$0\"; echo; read -r _' \"$0\"; exit"]);
        launcher.arg(rollout(ONE)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut launcher = launcher.spawn().unwrap();
        let mut line = [0];
        launcher.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
        assert_eq!(of(launcher.id()).as_deref(), Some(ONE));
        drop(launcher.stdin.take());
        launcher.wait().unwrap();
        assert_eq!(of(launcher.id()), None);

        let one = File::open(rollout(ONE)).unwrap();
        assert_eq!(of(std::process::id()).as_deref(), Some(ONE));
        // Which of two it is in, nobody knows.
        let other = File::open(rollout(OTHER)).unwrap();
        assert_eq!(of(std::process::id()), None);
        drop(one);
        assert_eq!(of(std::process::id()).as_deref(), Some(OTHER));
        drop(other);
    }
}
