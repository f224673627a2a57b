//! Puts our hook into an agent's own settings, and takes it out again. Nothing else in the file is
//! touched, its order included; a file that cannot be read as what it should be is left alone. An
//! agent that takes plugins and no commands gets a file of its own instead, which is ours whole.
//!
//! The settings are their user's, and outlive the package: what is put there must do no harm where
//! the hook's program is gone.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Agent;

/// No honest file is longer.
const AT_MOST: usize = 4 << 20;

/// What is to become of the hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It should be there.
    Install,
    /// It should not.
    Remove,
}

/// What an edit would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The file, where it really is: settings are often symbolic links.
    pub file: PathBuf,
    /// The events that the hook is added to or taken from; empty: it is already so.
    pub events: Vec<String>,
    /// What is to stand there; None: no file.
    text: Option<String>,
}

/// What a shell runs: nothing, and well, where the package is not installed any more.
fn guarded(program: &str) -> String {
    format!("test ! -x {program} || exec {program}")
}

/// Where an agent's settings are; None: it has none.
pub fn file_of(agent: &Agent, home: &Path) -> Option<PathBuf> {
    let file = &agent.hooks.file;
    (!file.is_empty()).then(|| file.replace("{home}", &home.to_string_lossy()).into())
}

/// What would change.
///
/// # Errors
/// What is wrong with the file.
pub fn plan(agent: &Agent, file: &Path, command: &str, change: Change) -> Result<Edit, String> {
    let wrong = |why: String| format!("{}: {why}; nothing was changed", file.display());
    let file = match fs::canonicalize(file) {
        Ok(real) => real,
        Err(error) if error.kind() == io::ErrorKind::NotFound => file.to_owned(),
        Err(error) => return Err(wrong(error.to_string())),
    };
    let text = service::state::read(&file, AT_MOST).map_err(|error| wrong(error.to_string()))?;
    if !agent.hooks.plugin.is_empty() {
        return plugin(agent, file.clone(), text, command, change).map_err(wrong);
    }
    let mut settings: Value = match text.as_deref().map(str::trim) {
        None | Some("") => json!({}),
        Some(text) => serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?,
    };
    let root = settings.as_object_mut().ok_or_else(|| wrong("it is no JSON object".into()))?;
    let hooks = root.entry("hooks").or_insert_with(|| json!({}));
    let hooks = hooks.as_object_mut().ok_or_else(|| wrong("\"hooks\" is no object".into()))?;
    let mut events = Vec::new();
    for event in &agent.hooks.events {
        let changed = match change {
            Change::Install => install(hooks, event, command),
            Change::Remove => remove(hooks, event, command),
        };
        if changed.map_err(wrong)? {
            events.push(event.clone());
        }
    }
    if hooks.is_empty() {
        // As in a Map with an order: the others stay where they are.
        root.shift_remove("hooks");
    }
    let text = serde_json::to_string_pretty(&settings).map_err(|error| wrong(error.to_string()))?;
    Ok(Edit { file, events, text: Some(text + "\n") })
}

/// A file that is ours whole is known by its first line; another's of that name is left alone.
fn plugin(
    agent: &Agent,
    file: PathBuf,
    there: Option<String>,
    command: &str,
    change: Change,
) -> Result<Edit, String> {
    let quoted = serde_json::to_string(command).map_err(|error| error.to_string())?;
    let whole = agent.hooks.plugin.replace("{hook}", &quoted);
    let first = |text: &str| text.lines().next().map(str::to_owned);
    if there.as_deref().is_some_and(|there| first(there) != first(&whole)) {
        return Err("it is another's".to_owned());
    }
    let wanted = (change == Change::Install).then_some(whole);
    let events = match there == wanted {
        true => Vec::new(),
        false => agent.hooks.events.clone(),
    };
    Ok(Edit { file, events, text: wanted })
}

fn entries<'a>(
    hooks: &'a mut Map<String, Value>,
    event: &str,
) -> Result<&'a mut Vec<Value>, String> {
    let list = hooks.entry(event).or_insert_with(|| json!([]));
    list.as_array_mut().ok_or_else(|| format!("\"hooks\".\"{event}\" is no array"))
}

/// As it is installed now, or as it was before it was guarded.
fn is_ours(hook: &Value, program: &str) -> bool {
    let command = hook.get("command").and_then(Value::as_str);
    command.is_some_and(|command| command == program || command == guarded(program))
}

fn install(hooks: &mut Map<String, Value>, event: &str, command: &str) -> Result<bool, String> {
    let wanted = Value::String(guarded(command));
    let entries = entries(hooks, event)?;
    let lists = entries.iter_mut().filter_map(|entry| entry.get_mut("hooks")?.as_array_mut());
    let ours = lists.flatten().filter(|hook| is_ours(hook, command));
    let commands: Vec<_> = ours.filter_map(|hook| hook.get_mut("command")).collect();
    if commands.is_empty() {
        entries.push(json!({"hooks": [{"type": "command", "command": wanted}]}));
        return Ok(true);
    }
    let mut changed = false;
    for command in commands {
        changed |= *command != wanted;
        command.clone_from(&wanted);
    }
    Ok(changed)
}

fn remove(hooks: &mut Map<String, Value>, event: &str, command: &str) -> Result<bool, String> {
    if !hooks.contains_key(event) {
        return Ok(false);
    }
    let list = entries(hooks, event)?;
    let mut removed = false;
    list.retain_mut(|entry| {
        let Some(hooks) = entry.get_mut("hooks").and_then(Value::as_array_mut) else {
            return true;
        };
        let before = hooks.len();
        hooks.retain(|hook| !is_ours(hook, command));
        let ours = hooks.len() < before;
        removed |= ours;
        !(ours && hooks.is_empty())
    });
    if removed && list.is_empty() {
        hooks.shift_remove(event);
    }
    Ok(removed)
}

impl Edit {
    /// Does it: the file is replaced whole, with the mode that it had (0600 for a new one), or
    /// removed.
    ///
    /// # Errors
    /// Those of the file system; the file is then as it was.
    pub fn apply(&self) -> Result<(), String> {
        let wrong = |error: io::Error| format!("{}: {error}", self.file.display());
        let Some(text) = &self.text else {
            return fs::remove_file(&self.file).map_err(wrong);
        };
        let mode = fs::metadata(&self.file).map_or(0o600, |there| there.permissions().mode());
        self.file.parent().map_or(Ok(()), fs::create_dir_all).map_err(wrong)?;
        // Settings may hold keys: at no moment may others read what they could not before.
        service::state::write_privately(&self.file, text.as_bytes()).map_err(wrong)?;
        fs::set_permissions(&self.file, fs::Permissions::from_mode(mode)).map_err(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::agents::Folders;

    const HOOK: &str = "/usr/libexec/guppy/guppy-session-hook";

    fn claude() -> Agent {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        Folders(vec![folder.into()]).read_one("claude").unwrap()
    }

    fn change(file: &Path, change: Change) -> usize {
        let edit = plan(&claude(), file, HOOK, change).unwrap();
        edit.apply().unwrap();
        edit.events.len()
    }

    #[test]
    fn what_was_there_is_there_again_after_a_removal() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("real.json"), folder.path().join("link.json"));
        let own = json!({
            "zeta": 1,
            "hooks": {"Stop": [{"matcher": "x", "hooks": [{"type": "command", "command": "mine"}]}]},
            "alpha": {"b": 1, "a": 2}
        });
        let before = serde_json::to_string_pretty(&own).unwrap() + "\n";
        fs::write(&file, &before).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(change(&link, Change::Install), claude().hooks.events.len());
        assert_eq!(change(&link, Change::Install), 0);
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches(&guarded(HOOK)).count(), claude().hooks.events.len());
        assert!(text.contains("\"mine\"") && text.find("zeta") < text.find("alpha"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o640);
        assert!(change(&link, Change::Remove) > 0);
        assert_eq!(fs::read_to_string(&file).unwrap(), before);
        assert_eq!(change(&link, Change::Remove), 0);
    }

    #[test]
    fn a_hook_whose_program_is_gone_is_none_and_an_older_one_becomes_so() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("guppy-session-hook");
        let run = || {
            let shell = guarded(program.to_str().unwrap());
            let output = std::process::Command::new("sh").args(["-c", &shell]).output().unwrap();
            (output.status.code(), output.stdout, output.stderr)
        };
        assert_eq!(run(), (Some(0), vec![], vec![]));
        fs::write(&program, "#!/bin/sh\necho told; exit 3\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(run(), (Some(3), b"told\n".to_vec(), vec![]));

        let file = folder.path().join("settings.json");
        let old = json!({"hooks": {"Stop": [{"hooks": [{"type": "command", "command": HOOK}]}]}});
        fs::write(&file, old.to_string()).unwrap();
        assert_eq!(change(&file, Change::Install), claude().hooks.events.len());
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches(&guarded(HOOK)).count(), claude().hooks.events.len(), "{text}");
        fs::write(&file, old.to_string()).unwrap();
        assert_eq!(change(&file, Change::Remove), 1);
        assert_eq!(fs::read_to_string(&file).unwrap(), "{}\n");
    }

    #[test]
    fn a_plugin_is_a_file_of_its_own_and_anothers_of_that_name_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        let agent = Folders(vec![shipped.into()]).read_one("opencode").unwrap();
        let file = file_of(&agent, folder.path()).unwrap();
        let change = |change| {
            let edit = plan(&agent, &file, HOOK, change)?;
            if !edit.events.is_empty() {
                edit.apply()?;
            }
            Ok::<_, String>(edit.events.len())
        };
        assert_eq!(change(Change::Remove), Ok(0));
        assert_eq!(change(Change::Install), Ok(agent.hooks.events.len()));
        assert!(fs::read_to_string(&file).unwrap().contains(&format!("{HOOK:?}")));
        assert_eq!(change(Change::Install), Ok(0));
        // An earlier version's.
        let first = agent.hooks.plugin.lines().next().unwrap();
        fs::write(&file, format!("{first}\nold")).unwrap();
        assert_eq!(change(Change::Install), Ok(agent.hooks.events.len()));
        assert_eq!(change(Change::Remove), Ok(agent.hooks.events.len()));
        assert!(!file.exists());
        fs::write(&file, "mine").unwrap();
        for wanted in [Change::Install, Change::Remove] {
            assert!(change(wanted).unwrap_err().contains("it is another's"));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }

    #[test]
    fn a_file_that_is_not_what_it_should_be_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("settings.json");
        for text in ["{", "[]", "{\"hooks\": 1}", "{\"hooks\": {\"Stop\": {}}}"] {
            fs::write(&file, text).unwrap();
            let said = plan(&claude(), &file, HOOK, Change::Install).unwrap_err();
            assert!(said.contains("nothing was changed"), "{said}");
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        let new = folder.path().join("new/settings.json");
        change(&new, Change::Install);
        assert_eq!(fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o600);
        change(&new, Change::Remove);
        assert_eq!(fs::read_to_string(&new).unwrap(), "{}\n");
    }
}
