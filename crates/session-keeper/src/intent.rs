//! Intent: one file a session, `~/.config/guppy/sessions.d/NAME.toml`. `guppy new` writes it, a
//! person may write it by hand, and nothing else is needed to bring a box back.
//!
//! A file with a mistake refuses its own session and no other.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use service::config::{self, Invalid, Paths, Validate};

use crate::config::Limits;
use crate::name::SessionName;
use crate::patience::{Patience, Work};

/// More files than this are not read: the folder is not what it should be.
pub const SESSIONS_AT_MOST: usize = 2000;

/// What begins a line that is sent may not have more bytes.
const LINE_AT_MOST: usize = 4000;

/// What a resumed agent does that was cut off in the middle of its turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnResume {
    /// It waits for a person, shown as `interrupted`.
    #[default]
    Wait,
    /// It is sent `continue_with`, once.
    Continue,
}

/// What happens while the worktree is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// The session waits, and says which command brings the worktree back.
    #[default]
    Block,
    /// It is made again from `repository` and `branch`.
    Recreate,
}

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Intent {
    /// The agent, a file in agents.d: `claude`. No default.
    pub agent: String,
    /// Where the agent works; an absolute path. No default.
    pub worktree: PathBuf,
    /// The git repository that the worktree belongs to; an absolute path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<PathBuf>,
    /// The git branch, where it is no longer the one in the session's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Words after the agent's own: `["--model", "opus"]`. No secrets: any process can read them.
    pub argv: Vec<String>,
    /// Files of `KEY=value` lines with mode 0600, for secrets; absolute paths.
    pub env_files: Vec<PathBuf>,
    /// Variables that are no secrets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Started by itself at boot. Without, a person starts it: `guppy start`.
    pub autostart: bool,
    /// What a resumed agent does that was cut off in the middle of its turn.
    pub on_resume: OnResume,
    /// The line that `on_resume = "continue"` sends.
    pub continue_with: String,
    /// What happens while the worktree is not there.
    pub on_missing: OnMissing,
    /// Sent once, when the agent of a new session is ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
    /// Caps, where they differ from the machine's.
    pub limits: Limits,
}

impl Default for Intent {
    fn default() -> Self {
        Self {
            agent: String::new(),
            worktree: PathBuf::new(),
            repository: None,
            branch: None,
            argv: Vec::new(),
            env_files: Vec::new(),
            env: BTreeMap::new(),
            autostart: true,
            on_resume: OnResume::Wait,
            continue_with: "continue".to_owned(),
            on_missing: OnMissing::Block,
            prompt: None,
            limits: Limits::default(),
        }
    }
}

impl Validate for Intent {
    fn validate(&self) -> Result<(), Invalid> {
        if !crate::agents::is_name(&self.agent) {
            let valid = "the name of an agent, for example \"claude\" (see: guppy agents)";
            return Err(Invalid::new("agent", format!("{:?}", self.agent), valid));
        }
        absolute("worktree", &self.worktree)?;
        self.repository.as_deref().map_or(Ok(()), |path| absolute("repository", path))?;
        self.env_files.iter().try_for_each(|path| absolute("env_files", path))?;
        if self.on_missing == OnMissing::Recreate && self.repository.is_none() {
            let valid = "\"block\", or name the repository too";
            return Err(Invalid::new("on_missing", "\"recreate\"", valid));
        }
        if let Some(word) = self.argv.iter().find(|word| word.contains('\0')) {
            return Err(Invalid::new("argv", format!("{word:?}"), "words without NUL"));
        }
        if let Some(name) = self.env.keys().find(|name| !is_variable(name)) {
            return Err(Invalid::new("env", name, "names of letters, digits and _"));
        }
        let line = &self.continue_with;
        if line.is_empty() || line.len() > LINE_AT_MOST || line.chars().any(char::is_control) {
            return Err(Invalid::new("continue_with", format!("{line:?}"), "one line of text"));
        }
        self.limits.validate()
    }
}

fn absolute(key: &str, path: &Path) -> Result<(), Invalid> {
    match path.is_absolute() && !path.as_os_str().as_bytes().contains(&0) {
        true => Ok(()),
        false => Err(Invalid::new(key, format!("{path:?}"), "an absolute path")),
    }
}

fn is_variable(name: &str) -> bool {
    let fit = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    !name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit()) && name.chars().all(fit)
}

/// A session as its file declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declared {
    /// What it should be.
    Valid(Arc<Intent>),
    /// Why it is refused, with file, line and remedy.
    Refused(String),
}

/// All files of the folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intents {
    /// By name.
    pub sessions: BTreeMap<SessionName, Declared>,
    /// Files that name no session, each with what is wrong.
    pub strays: Vec<String>,
}

/// Reads the folder. One that is not there declares nothing.
///
/// # Errors
/// The folder cannot be read, so that nothing is known: not the same as no sessions.
pub fn read(folder: &Path, patience: &Patience) -> Result<Intents, String> {
    let of = folder.to_owned();
    let Files { files, strays } = patience.one(folder, move || list(&of))??;
    let works = files.iter().map(|(_, path)| -> Work<Result<Intent, String>> {
        let file = path.clone();
        (path.clone(), Box::new(move || read_one(&file)))
    });
    let read = patience.each(works.collect());
    let declared = |read: Result<Result<Intent, String>, String>| match read.flatten() {
        Ok(intent) => Declared::Valid(Arc::new(intent)),
        Err(why) => Declared::Refused(why),
    };
    let names = files.into_iter().map(|(name, _)| name);
    Ok(Intents { sessions: names.zip(read.into_iter().map(declared)).collect(), strays })
}

/// What is in the folder.
#[derive(Default)]
struct Files {
    files: Vec<(SessionName, PathBuf)>,
    /// What is wrong with the names of others.
    strays: Vec<String>,
}

fn list(folder: &Path) -> Result<Files, String> {
    let unreadable = |error: io::Error| format!("{}: {error}", folder.display());
    let Files { mut files, mut strays } = Files::default();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Files { files, strays });
        }
        Err(error) => return Err(unreadable(error)),
    };
    for entry in entries {
        let path = entry.map_err(unreadable)?.path();
        let bytes = path.file_name().unwrap_or_default().as_bytes();
        // As in every folder of drop-ins: what editors leave behind does not count.
        let Some(stem) = bytes.strip_suffix(b".toml").filter(|stem| !stem.starts_with(b".")) else {
            continue;
        };
        if files.len() == SESSIONS_AT_MOST {
            return Err(format!(
                "{}: more than {SESSIONS_AT_MOST} sessions: none is read",
                folder.display()
            ));
        }
        match name_of(stem) {
            Ok(name) => files.push((name, path)),
            Err(why) => strays.push(format!("{}: {why}", path.display())),
        }
    }
    strays.sort();
    Ok(Files { files, strays })
}

fn name_of(stem: &[u8]) -> Result<SessionName, String> {
    let stem = std::str::from_utf8(stem)
        .map_err(|_| format!("{:?} names no session: it is not UTF-8", OsStr::from_bytes(stem)))?;
    SessionName::from_file_stem(stem).map_err(|error| error.to_string())
}

/// Reads one file.
///
/// # Errors
/// What is wrong with it: file, line, key and what would be valid.
pub fn read_one(file: &Path) -> Result<Intent, String> {
    let none = PathBuf::new();
    let paths = Paths { role: none.clone(), file: file.to_owned(), dropins: none };
    config::load(&paths).map_err(|error| error.to_string())
}

/// Where the file of a session is.
pub fn path_of(folder: &Path, name: &SessionName) -> PathBuf {
    folder.join(format!("{}.toml", name.file_stem()))
}

/// Writes a file for a new session, so that it outlives a power cut.
///
/// # Errors
/// Those of the file system, and `InvalidInput` where the intent is not valid.
pub fn write(folder: &Path, name: &SessionName, intent: &Intent) -> io::Result<()> {
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    intent.validate().map_err(|error| invalid(error.to_string()))?;
    let text = toml::to_string(intent).map_err(|error| invalid(error.to_string()))?;
    fs::create_dir_all(folder)?;
    // A first prompt is no secret, but nobody else's either.
    service::state::write_privately(&path_of(folder, name), text.as_bytes())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::name::tests::name;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("sessions.d");
        assert_eq!(read(&dir, &Patience::default()).unwrap(), Intents::default());
        let intent = Intent {
            agent: "claude".to_owned(),
            worktree: "/home/alice/größe".into(),
            argv: vec!["--model".to_owned(), "a \"b\"\n".to_owned()],
            env_files: vec!["/home/alice/.keys".into()],
            limits: Limits { memory_max: Some(crate::size::Bytes(4 << 30)), ..Limits::default() },
            prompt: Some("two\nlines".to_owned()),
            ..Intent::default()
        };
        write(&dir, &name("shop/v1.2"), &intent).unwrap();
        let read = read(&dir, &Patience::default()).unwrap();
        let valid = Declared::Valid(Arc::new(intent));
        assert_eq!(read.sessions.into_iter().collect::<Vec<_>>(), [(name("shop/v1.2"), valid)]);
    }

    #[test]
    fn a_mistake_refuses_its_own_session_and_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| fs::write(folder.path().join(file), text).unwrap();
        put("a+good.toml", "agent = \"shell\"\nworktree = \"/srv\"\n");
        put("a+typo.toml", "agent = \"shell\"\nworktreee = \"/srv\"\n");
        put("a+relative.toml", "agent = \"shell\"\nworktree = \"srv\"\n");
        put("a+none.toml", "worktree = \"/srv\"\n");
        put("a+recreate.toml", "agent='shell'\nworktree='/srv'\non_missing='recreate'\n");
        put("stray.toml", "");
        put(".hidden.toml", "");
        put("a+good.toml.dpkg-old", "");
        let intents = read(folder.path(), &Patience::default()).unwrap();
        let said = |session: &str| match intents.sessions.get(&name(session)).unwrap() {
            Declared::Valid(_) => String::new(),
            Declared::Refused(why) => why.clone(),
        };
        assert_eq!(said("a/good"), "");
        assert!(said("a/typo").contains("a+typo.toml:2:1: unknown key \"worktreee\""));
        assert!(said("a/relative").contains(":2:1: worktree = \"srv\" is not valid"));
        assert!(said("a/none").contains("guppy agents"), "{}", said("a/none"));
        assert!(said("a/recreate").contains("name the repository"));
        assert_eq!(intents.sessions.len(), 5);
        assert_eq!(intents.strays.len(), 1);
        assert!(intents.strays.concat().contains("PROJECT/BRANCH"), "{:?}", intents.strays);
    }

    #[test]
    fn a_folder_that_cannot_be_read_is_not_an_empty_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(read(file.path(), &Patience::default()).is_err());
    }
}
