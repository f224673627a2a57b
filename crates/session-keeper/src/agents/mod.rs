//! Agents are data: one file each in `agents.d`. `/usr/share/guppy/agents.d` has what is shipped,
//! `/etc/guppy/agents.d` and then `~/.config/guppy/agents.d` set what they say and leave the rest.
//! Adding an agent is a file, not code.

mod argv;
mod exit;
pub mod hooks;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use service::config::{self, Invalid, Validate};

pub use argv::{Places, fill, own_files, words};
pub use exit::{Exit, Meaning, meaning, reset_of};

use crate::conversation::Shape;

/// Where an agent's id comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IdSource {
    /// The keeper makes it and passes it to the first start.
    Given,
    /// The agent makes it; a hook or a file that it holds open says it.
    Learned,
    /// It has none: each session has a history of its own, or there is nothing to go on with.
    #[default]
    Session,
}

/// How an agent is known to be ready for text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Its registry says so.
    Registry,
    /// Its hooks do.
    Hooks,
    /// The last line of its screen does.
    Screen,
    /// As soon as it runs.
    #[default]
    Always,
}

/// One file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// One line for people.
    pub about: String,
    /// The command for a new conversation. `{argv}` stands for the words of the session's file.
    pub start: Vec<String>,
    /// The command that goes on with a conversation; empty: the same as `start`.
    pub resume: Vec<String>,
    /// Where below `node_modules` the program itself is that npm's launcher would start: `{arch}` is
    /// Node's name of this machine's kind (x64, arm64), `{machine}` the kernel's (x86_64, aarch64).
    pub native: Vec<String>,
    /// Variables that are no secrets.
    pub env: BTreeMap<String, String>,
    /// `host:port` that must accept a connection before a start; empty: none is asked.
    pub probe: String,
    /// Its conversations.
    pub conversation: ConversationRules,
    /// The file in which a running agent says what it does.
    pub registry: Registry,
    /// How it takes text.
    pub input: Input,
    /// What its end means; the first rule that fits holds.
    pub exits: Vec<Exit>,
    /// Questions that it asks before it does anything.
    pub dialogs: Vec<Dialog>,
    /// The hooks that `guppy agents setup` installs.
    pub hooks: Hooks,
}

/// `[conversation]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConversationRules {
    /// Where the id comes from.
    pub id: IdSource,
    /// What it looks like.
    pub shape: Shape,
    /// The file of the conversation, of lines: only if it is there, `resume` finds it. Empty: not
    /// known.
    pub transcript: String,
    /// More files that a turn is in when it has ended, beside the transcript and the one that is held
    /// open: a database, a history. They are saved to the disk after each.
    pub turns: Vec<String>,
    /// A running agent holds a file below this folder open whose name ends with the id and
    /// `open_file_ends`. Empty: not known.
    pub open_file: String,
    /// See `open_file`.
    pub open_file_ends: String,
}

/// `[registry]`: a JSON object, and the names of what stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// With `{pid}`; empty: there is none.
    pub file: String,
    /// The id of the conversation.
    pub conversation: String,
    /// When the process started: field 22 of /proc/PID/stat.
    pub started: String,
    /// What it does.
    pub status: String,
    /// Values of `status` for an agent that waits for text.
    pub idle: Vec<String>,
    /// For one that works.
    pub busy: Vec<String>,
    /// For one that waits for a person.
    pub waiting: Vec<String>,
    /// For what it waits.
    pub waiting_for: String,
}

/// `[input]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Input {
    /// How it is known to be ready.
    pub ready: Ready,
    /// With `ready = "screen"`: what the last line of its screen begins with.
    pub screen: Vec<String>,
    /// With `ready = "hooks"`: what its screen shows when it takes text. Read only as long as no hook
    /// has spoken since its start: some agents say nothing before their first turn.
    pub shown: Vec<String>,
    /// See `shown`: what it shows while it works.
    pub busy: Vec<String>,
    /// Keys that clear its input line, as tmux names them.
    pub clear: Vec<String>,
    /// It takes a pasted text between brackets (`ESC [ 200 ~`), newlines included, as one.
    pub brackets: bool,
    /// What it shows in the place of a long text, beginning with this. Empty: it shows the text.
    pub pasted: String,
}

/// `[[dialogs]]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Dialog {
    /// What stands on the screen.
    pub text: String,
    /// What that means, after "the agent".
    pub says: String,
}

/// `[hooks]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hooks {
    /// The agent's settings, JSON, or the file of `plugin`; empty: it has none.
    pub file: String,
    /// The events to be told of.
    pub events: Vec<String>,
    /// For an agent that takes plugins and no commands: the whole text of one, whose first line says
    /// whose it is. `{hook}` stands for the path of our hook's program, quoted as in JSON.
    pub plugin: String,
}

impl Agent {
    /// `native`, on this machine.
    pub fn native(&self) -> Vec<String> {
        let machine = std::env::consts::ARCH;
        let arch = match machine {
            "x86_64" => "x64",
            "aarch64" => "arm64",
            other => other,
        };
        let fill = |place: &String| place.replace("{arch}", arch).replace("{machine}", machine);
        self.native.iter().map(fill).collect()
    }

    /// The command that goes on with a conversation.
    pub fn resume(&self) -> &[String] {
        if self.resume.is_empty() { &self.start } else { &self.resume }
    }
}

impl Validate for Agent {
    fn validate(&self) -> Result<(), Invalid> {
        if self.start.is_empty() {
            return Err(Invalid::new("start", "[]", "the command as an array of words"));
        }
        for (key, command) in [("start", &self.start), ("resume", &self.resume)] {
            for word in command {
                argv::check(word).map_err(|valid| Invalid::new(key, word, &valid))?;
            }
        }
        let rules = &self.conversation;
        for (key, pattern) in [
            ("conversation.transcript", &rules.transcript),
            ("conversation.open_file", &rules.open_file),
            ("registry.file", &self.registry.file),
            ("hooks.file", &self.hooks.file),
        ] {
            argv::check(pattern).map_err(|valid| Invalid::new(key, pattern, &valid))?;
        }
        for file in &rules.turns {
            argv::check(file).map_err(|valid| Invalid::new("conversation.turns", file, &valid))?;
        }
        let names_it = |command: &[String]| command.iter().any(|w| w.contains("{conversation}"));
        if rules.id == IdSource::Given && !names_it(&self.start) {
            return Err(Invalid::new(
                "conversation.id",
                "\"given\"",
                "\"learned\", or have {conversation} in start",
            ));
        }
        if rules.id != IdSource::Session && !names_it(self.resume()) {
            let valid = "a command with {conversation} in it";
            return Err(Invalid::new("resume", format!("{:?}", self.resume), valid));
        }
        if self.input.ready == Ready::Registry && self.registry.file.is_empty() {
            let valid = "\"hooks\", \"screen\" or \"always\", or fill [registry]";
            return Err(Invalid::new("input.ready", "\"registry\"", valid));
        }
        if !self.probe.is_empty() && !is_address(&self.probe) {
            let valid = "\"host:port\", or \"\" for none";
            return Err(Invalid::new("probe", format!("{:?}", self.probe), valid));
        }
        Ok(())
    }
}

fn is_address(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
    })
}

/// Whether an agent may be called so: a file's name and a part of a path.
pub fn is_name(text: &str) -> bool {
    let fit = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.len() <= 64 && text.chars().all(fit)
}

/// The folders, the later ones over the earlier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folders(pub Vec<PathBuf>);

impl Folders {
    /// `/usr/share/guppy/agents.d`, `/etc/guppy/agents.d` and `agents.d` in the user's own folder.
    pub fn of(config_dir: &Path) -> Self {
        Self(vec![
            "/usr/share/guppy/agents.d".into(),
            "/etc/guppy/agents.d".into(),
            config_dir.join("agents.d"),
        ])
    }

    /// The file of an agent in the last of them, which may be anywhere.
    pub fn of_user(&self, name: &str) -> PathBuf {
        self.0.last().map(|folder| folder.join(format!("{name}.toml"))).unwrap_or_default()
    }

    /// Every agent that any of them names; what is wrong with one is told in its place.
    ///
    /// # Errors
    /// A folder that is there cannot be read.
    pub fn read(&self) -> Result<BTreeMap<String, Result<Agent, String>>, String> {
        let mut names = BTreeSet::new();
        for folder in &self.0 {
            let wrong = |error: io::Error| format!("{}: {error}", folder.display());
            let entries = match fs::read_dir(folder) {
                Ok(entries) => entries,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(wrong(error)),
            };
            for entry in entries {
                let file = entry.map_err(wrong)?.file_name();
                let name = file.to_str().and_then(|file| file.strip_suffix(".toml"));
                names.extend(name.filter(|name| is_name(name)).map(str::to_owned));
            }
        }
        Ok(names.into_iter().map(|name| (name.clone(), self.read_one(&name))).collect())
    }

    /// One agent.
    ///
    /// # Errors
    /// What is wrong with its files, or that there are none.
    pub fn read_one(&self, name: &str) -> Result<Agent, String> {
        let files: Vec<PathBuf> =
            self.0.iter().map(|folder| folder.join(format!("{name}.toml"))).collect();
        if !is_name(name) || files.iter().all(|file| fs::symlink_metadata(file).is_err()) {
            return Err(format!("there is no agent {name:?} (see: guppy agents)"));
        }
        config::load_files(&files).map_err(|error| error.to_string())
    }
}
