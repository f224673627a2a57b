//! Agents that a person has started by hand in a conversation that a session would go on with. What
//! has a registry says it there; of the others it stands in their arguments (`-s ID`, the file of a
//! history), or they hold the file of it open. Only a process that runs the agent's own program
//! counts: an editor or a search may name the same words.

//!
//! A command line may hang (see [`service::cmdline`]). Whose program is the agent's, or an interpreter
//! that may run it, could be a twin then; no other is.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use service::cmdline::Reader;

use super::{Twin, open_file, registry};
use crate::agents::{Agent, Places, own_files};
use crate::conversation::Conversation;
use crate::name::SessionName;
use crate::process::start_time;

/// An interpreter and its option may come before the name of the program: `python3 -m aider`.
const PROGRAM_WITHIN: usize = 3;
/// What runs agents that are scripts, by the beginning of its name: `python3.11`.
const INTERPRETERS: [&str; 4] = ["python", "node", "bun", "deno"];
/// A command line is read up to here, in bytes: what names a conversation stands before a long prompt.
pub(super) const LONGEST: usize = 32 * 1024;

/// A process of this user's.
#[derive(Debug)]
struct Process {
    pid: u32,
    /// Unknown: why, and the file name of its program.
    words: Result<Vec<String>, (String, String)>,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Processes(Vec<Process>);

impl Processes {
    /// As they are now below `proc`. What cannot be read has ended, or is none of this user's.
    pub(super) fn read(proc: &Path, reader: &mut Reader) -> io::Result<Self> {
        reader.begin();
        let folder: Arc<OwnedFd> = Arc::new(File::open(proc)?.into());
        let own = rustix::process::geteuid().as_raw();
        let mut process = |entry: fs::DirEntry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            if entry.metadata().ok()?.uid() != own {
                return None;
            }
            let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
            let line = reader.read(&folder, pid, start_time(&stat)?);
            let words = line.map(words).map_err(|why| (why.to_string(), program_of(&entry.path())));
            Some(Process { pid, words })
        };
        let entries = fs::read_dir(proc)?.flatten();
        Ok(Self(entries.filter_map(&mut process).collect()))
    }

    /// One that is in the conversation of this session, and none of the session's own.
    pub(super) fn twin(
        &self,
        name: &SessionName,
        agent: &Agent,
        home: &Path,
        id: Option<&Conversation>,
        places: Places<'_>,
    ) -> Twin {
        let first = agent.start.first().map(Path::new);
        let Some(program) = first.and_then(Path::file_name).and_then(|name| name.to_str()) else {
            return Twin::Nobody;
        };
        let mut signs = own_files(agent, places);
        signs.extend(id.map(ToString::to_string));
        if signs.is_empty() {
            return Twin::Nobody;
        }
        let is_in = |words: &[String], pid: u32| {
            let named = words.iter().any(|word| {
                let value = word.split_once('=').map_or(word.as_str(), |(_, value)| value);
                signs.iter().any(|sign| sign == word || sign == value)
            });
            named || id.is_some_and(|id| open_file::ids(agent, home, pid).contains(id))
        };
        let mut hidden = None;
        for Process { pid, words } in &self.0 {
            let may_be = match words {
                Ok(words) => runs(program, words) && is_in(words, *pid),
                Err((_, file)) => may_run(program, file),
            };
            if !may_be || registry::session_of(*pid).as_ref() == Some(name) {
                continue;
            }
            match words {
                Ok(_) => return Twin::Process(*pid),
                Err((why, _)) => hidden = Some(Twin::Hidden(why.clone())),
            }
        }
        hidden.unwrap_or(Twin::Nobody)
    }
}

fn words(line: &[u8]) -> Vec<String> {
    let words = line.split(|byte| *byte == 0);
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

/// The kernel tells it without a look at the process's memory.
fn program_of(process: &Path) -> String {
    let path: PathBuf = fs::read_link(process.join("exe")).unwrap_or_default();
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn runs(program: &str, words: &[String]) -> bool {
    let mut first = words.iter().take(PROGRAM_WITHIN);
    first.any(|word| word.rsplit('/').next() == Some(program))
}

/// Whether what runs from a file of this name may be that program. One without a name has ended, or is
/// hidden from this user.
fn may_run(program: &str, file: &str) -> bool {
    let file = file.strip_suffix(" (deleted)").unwrap_or(file);
    file == program || INTERPRETERS.iter().any(|interpreter| file.starts_with(interpreter))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::PermissionsExt;
    use std::process::{Child, Command, Stdio};

    use super::*;
    use crate::agents::Folders;
    use crate::agents::tests::places_below;

    struct Running(Child);

    impl Drop for Running {
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
    fn start(folder: &Path, program: &str, words: &[&str]) -> Running {
        let path = folder.join(program);
        fs::write(&path, "#!/bin/sh\necho; read -r _\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&path);
        command.args(words).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        // It is itself, and not this test's program any more.
        let mut line = [0];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut line).unwrap();
        Running(child)
    }

    #[test]
    fn a_twin_is_known_by_its_program_and_its_words() {
        let folder = tempfile::tempdir().unwrap();
        let name = SessionName::parse("shop/fix").unwrap();
        let id = Conversation::parse("ses_twinA1").unwrap();
        let places = places_below(folder.path(), &name);
        let twin = |agent: &str, id: Option<&Conversation>| {
            let mut reader = Reader::of(LONGEST);
            let all = Processes::read(Path::new("/proc"), &mut reader).unwrap();
            match all.twin(&name, &shipped(agent), folder.path(), id, places) {
                Twin::Process(pid) => Some(pid),
                Twin::Nobody => None,
                other => panic!("{other:?}"),
            }
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

    #[test]
    fn a_command_line_that_hangs_may_be_its_own_kinds_twin_and_no_other_kinds() {
        use rustix::fs::{CWD, FileType, Mode, mknodat};

        let folder = tempfile::tempdir().unwrap();
        let name = SessionName::parse("shop/fix").unwrap();
        let id = Conversation::parse("ses_twinA1").unwrap();
        let places = places_below(folder.path(), &name);
        // No process has these numbers. The opening of a FIFO without a writer hangs.
        let process = |pid: u32, exe: &str| {
            let process = folder.path().join(format!("proc/{pid}"));
            fs::create_dir_all(&process).unwrap();
            let stat = format!("{pid} (x) S{}", " 1".repeat(40));
            fs::write(process.join("stat"), stat).unwrap();
            std::os::unix::fs::symlink(exe, process.join("exe")).unwrap();
            process.join("cmdline")
        };
        let hangs = process(99_000_001, "/usr/bin/codex (deleted)");
        mknodat(CWD, &hangs, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let opencode = process(99_000_002, "/usr/bin/opencode");
        fs::write(&opencode, "opencode\0-s\0ses_twinA1\0").unwrap();
        let mut reader = Reader::within(LONGEST, std::time::Duration::from_millis(100));
        let mut twin = |agent: &str, id: &Conversation| {
            let all = Processes::read(&folder.path().join("proc"), &mut reader).unwrap();
            all.twin(&name, &shipped(agent), folder.path(), Some(id), places)
        };
        let other = Conversation::parse("ses_other").unwrap();
        assert_eq!(twin("opencode", &id), Twin::Process(99_000_002));
        assert_eq!(twin("opencode", &other), Twin::Nobody);
        let Twin::Hidden(why) = twin("codex", &id) else { panic!() };
        assert!(why.contains("process 99000001"), "{why}");
        // When it is let go, what it says counts.
        let writer = fs::OpenOptions::new().write(true).open(&hangs).unwrap();
        fs::remove_file(&hangs).unwrap();
        fs::write(&hangs, "codex\0resume\0ses_other\0").unwrap();
        drop(writer);
        let begin = std::time::Instant::now();
        while twin("codex", &id) != Twin::Nobody {
            assert!(begin.elapsed() < std::time::Duration::from_secs(60));
        }
        assert_eq!(twin("codex", &other), Twin::Process(99_000_001));

        let script = process(99_000_003, "/usr/bin/python3.11");
        mknodat(CWD, &script, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(matches!(twin("codex", &id), Twin::Hidden(_)), "it may be a script");
    }
}
