//! Agents that a person has started by hand in a conversation that a session would go on with. What
//! has a registry says it there; of the others it stands in their arguments (`-s ID`, the file of a
//! history), or they hold the file of it open. Only a process that runs the agent's own program
//! counts: an editor or a search may name the same words.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::{open_file, registry};
use crate::agents::{Agent, Places, own_files};
use crate::conversation::Conversation;
use crate::name::SessionName;

/// An interpreter and its option may come before the name of the program: `python3 -m aider`.
const PROGRAM_WITHIN: usize = 3;

/// A process of this user's.
#[derive(Debug)]
struct Process {
    pid: u32,
    words: Vec<String>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Processes(Vec<Process>);

impl Processes {
    /// As they are now. What cannot be read has ended, or is none of this user's.
    pub(super) fn read() -> Self {
        let own = rustix::process::geteuid().as_raw();
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let process = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            if entry.metadata().ok()?.uid() != own {
                return None;
            }
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let words = line.split(|byte| *byte == 0);
            let words = words.map(|word| String::from_utf8_lossy(word).into_owned());
            Some(Process { pid, words: words.collect() })
        };
        Self(entries.filter_map(process).collect())
    }

    /// One that is in the conversation of this session, and none of the session's own.
    pub(super) fn twin(
        &self,
        name: &SessionName,
        agent: &Agent,
        home: &Path,
        id: Option<&Conversation>,
        places: Places<'_>,
    ) -> Option<u32> {
        let program = Path::new(agent.start.first()?).file_name()?.to_str()?;
        let mut signs = own_files(agent, places);
        signs.extend(id.map(ToString::to_string));
        if signs.is_empty() {
            return None;
        }
        let runs = |process: &&Process| {
            let mut first = process.words.iter().take(PROGRAM_WITHIN);
            first.any(|word| word.rsplit('/').next() == Some(program))
        };
        let is_in = |process: &&Process| {
            let named = process.words.iter().any(|word| {
                let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
                signs.iter().any(|sign| sign == word || sign == value)
            });
            named || id.is_some_and(|id| open_file::ids(agent, home, process.pid).contains(id))
        };
        let is_other =
            |process: &&Process| registry::session_of(process.pid).as_ref() != Some(name);
        let twin = self.0.iter().filter(runs).filter(is_in).find(is_other)?;
        Some(twin.pid)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::agents::Folders;
    use crate::agents::tests::places_below;

    struct Twin(Child);

    impl Drop for Twin {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn shipped(name: &str) -> Agent {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        Folders(vec![folder.into()]).read_one(name).unwrap()
    }

    /// A program of this name that waits, with these words.
    fn start(folder: &Path, program: &str, words: &[&str]) -> Twin {
        let path = folder.join(program);
        fs::write(&path, "#!/bin/sh\necho; read -r _\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It is itself, and not this test's program any more.
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Twin(child)
    }

    #[test]
    fn a_twin_is_known_by_its_program_and_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let name = SessionName::parse("shop/fix").unwrap();
        let id = Conversation::parse("ses_twinA1").unwrap();
        let places = places_below(folder.path(), &name);
        let twin = |agent: &str, id: Option<&Conversation>| {
            Processes::read().twin(&name, &shipped(agent), folder.path(), id, places)
        };
        let opencode = start(folder.path(), "opencode", &["-s", "ses_twinA1"]);
        let _editor = start(folder.path(), "editor", &["ses_twinB2"]);
        assert_eq!(twin("opencode", Some(&id)), Some(opencode.0.id()));
        assert_eq!(twin("opencode", Conversation::parse("ses_twinB2").ok().as_ref()), None);
        assert_eq!(twin("codex", Some(&id)), None);
        drop(opencode);
        assert_eq!(twin("opencode", Some(&id)), None);
        let _by_word = start(folder.path(), "opencode", &["--session=ses_twinA1"]);
        assert!(twin("opencode", Some(&id)).is_some());

        // aider is the file of its history.
        assert_eq!(twin("aider", None), None);
        let history = folder.path().join("aider/shop+fix.md");
        let history = history.to_str().unwrap();
        let _other = start(folder.path(), "aider", &["--chat-history-file", "mine.md"]);
        assert_eq!(twin("aider", None), None);
        let aider = start(folder.path(), "aider", &["--chat-history-file", history]);
        assert_eq!(twin("aider", None), Some(aider.0.id()));
        assert_eq!(twin("shell", None), None);
    }
}
