//! The agent's environment, in layers: what is known of the pane and the user; what a login shell
//! makes of it; the launch's variables; the files with secrets.
//!
//! Of the shim's own environment only a few names are taken: the rest is that of whoever made the
//! pane, an ssh session's or a keeper's, `PATH` included.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, accessat};

use super::{Refusal, env_file};
use crate::launch::Launch;
use crate::paths::Paths;

/// An environment. In order, so that two of them compare.
pub(super) type Variables = BTreeMap<OsString, OsString>;

/// Who the user is and what language they read, from systemd by way of the tmux server.
const OF_THE_USER: [&str; 6] = ["HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"];
/// The pane's: nothing that a shell's files say of these is truer.
const OF_THE_PANE: [&str; 6] =
    ["TMUX", "TMUX_PANE", "TERM", "TERM_PROGRAM", "TERM_PROGRAM_VERSION", "COLORTERM"];
/// A shell's own bookkeeping.
const OF_A_SHELL: [&str; 4] = ["_", "SHLVL", "PWD", "OLDPWD"];
/// For those who want to know in their shell's files, or a hook, which session this is.
const SESSION: &str = "GUPPY_SESSION";

/// What is known without asking anybody. `PATH` is what a login begins with, and where agents
/// install themselves (~/.local/bin).
pub(super) fn known(name: &str, own: impl Iterator<Item = (OsString, OsString)>) -> Variables {
    let mut known: Variables = own.filter(|(name, _)| is_known(name)).collect();
    let home = known.get(OsStr::new("HOME")).cloned().unwrap_or_default();
    let mut path = home;
    path.push("/.local/bin:/usr/local/bin:/usr/bin:/bin");
    known.insert("PATH".into(), path);
    known.insert(SESSION.into(), name.into());
    known
}

fn is_known(name: &OsStr) -> bool {
    let among = |list: &[&str]| list.iter().any(|entry| name == OsStr::new(entry));
    among(&OF_THE_USER) || is_of_the_pane(name) || name.as_bytes().starts_with(b"LC_")
}

fn is_of_the_pane(name: &OsStr) -> bool {
    OF_THE_PANE.iter().any(|entry| name == OsStr::new(entry))
        || name.as_bytes().starts_with(b"GUPPY_")
}

/// The login shell's environment over the known one.
pub(super) fn with_login(mut known: Variables, login: Variables) -> Variables {
    for (name, value) in login {
        let of_a_shell = OF_A_SHELL.iter().any(|entry| name == OsStr::new(entry));
        if !of_a_shell && !is_of_the_pane(&name) {
            known.insert(name, value);
        }
    }
    known
}

/// What the launch and its files say, over all else.
pub(super) fn add(
    variables: &mut Variables,
    launch: &Launch,
    secrets: Vec<(String, String)>,
) -> Result<(), Refusal> {
    for (name, value) in &launch.env {
        if !env_file::is_name(name) || value.contains('\0') {
            return Err(Refusal(format!(
                "env: {name:?} is no name of a variable, or its value no text"
            )));
        }
        variables.insert(name.into(), value.into());
    }
    variables.extend(secrets.into_iter().map(|(name, value)| (name.into(), value.into())));
    variables.insert("PWD".into(), launch.cwd.clone().into());
    Ok(())
}

/// Reads the launch's files.
pub(super) fn secrets(launch: &Launch, paths: &Paths) -> Result<Vec<(String, String)>, Refusal> {
    let mut secrets = Vec::new();
    for file in &launch.env_files {
        secrets.extend(env_file::read(&paths.config.join(file))?);
    }
    Ok(secrets)
}

/// The program of an argument list: a path, from the folder where it will run, or a name in
/// `PATH`.
pub(super) fn program(first: &str, variables: &Variables, cwd: &Path) -> Result<PathBuf, Refusal> {
    if first.contains('/') {
        let path = cwd.join(first);
        return if runs(&path) {
            Ok(path)
        } else {
            Err(Refusal(format!("{} is no program that you may run", path.display())))
        };
    }
    let path = variables.get(OsStr::new("PATH")).cloned().unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| cwd.join(folder).join(first))
        .find(|path| runs(path))
        .ok_or_else(|| {
            let path = path.to_string_lossy();
            Refusal(format!(
                "there is no {first} in PATH={path}: install it, or say where it is (start = [...] in \
                 ~/.config/guppy/agents.d)"
            ))
        })
}

/// Whether this user may run it.
pub(super) fn runs(path: &Path) -> bool {
    path.is_file() && accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn variables(list: &[(&str, &str)]) -> Variables {
        list.iter().map(|(name, value)| (OsString::from(name), OsString::from(value))).collect()
    }

    fn value<'a>(variables: &'a Variables, name: &str) -> Option<&'a str> {
        variables.get(OsStr::new(name)).and_then(|value| value.to_str())
    }

    #[test]
    fn of_the_panes_environment_only_what_is_known_is_taken() {
        let own = variables(&[
            ("HOME", "/home/alice"),
            ("PATH", "/home/alice/evil"),
            ("SSH_AUTH_SOCK", "/tmp/agent"),
            ("TMUX_PANE", "%3"),
            ("LC_TIME", "C"),
            ("GUPPY_SOCKET", "/tmp/s"),
        ]);
        let known = known("shop/fix", own.into_iter());
        assert_eq!(
            value(&known, "PATH"),
            Some("/home/alice/.local/bin:/usr/local/bin:/usr/bin:/bin")
        );
        assert_eq!(value(&known, "SSH_AUTH_SOCK"), None);
        assert_eq!(value(&known, "GUPPY_SESSION"), Some("shop/fix"));
        for name in ["HOME", "TMUX_PANE", "LC_TIME", "GUPPY_SOCKET"] {
            assert!(value(&known, name).is_some(), "{name}");
        }
    }

    #[test]
    fn the_login_shell_has_its_say_but_not_on_the_pane() {
        let known = variables(&[("PATH", "/bin"), ("TERM", "tmux-256color"), ("TMUX", "x")]);
        let login = variables(&[
            ("PATH", "/nvm"),
            ("TERM", "dumb"),
            ("TMUX", ""),
            ("SHLVL", "2"),
            ("_", "/usr/bin/env"),
        ]);
        let both = with_login(known, login);
        let expected = [("PATH", "/nvm"), ("TERM", "tmux-256color"), ("TMUX", "x")];
        assert_eq!(both, variables(&expected));
    }

    #[test]
    fn a_program_is_found_where_the_agent_would_find_it() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        std::fs::write(&tool, "").unwrap();
        let path = variables(&[("PATH", &format!("/nowhere:{}", folder.path().display()))]);
        // There, but not executable.
        let refused = program("tool", &path, Path::new("/")).unwrap_err();
        assert!(refused.0.contains("no tool in PATH"), "{refused}");
        assert!(program("./tool", &path, folder.path()).is_err());
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(program("tool", &path, Path::new("/")).unwrap(), tool);
        assert_eq!(program("./tool", &path, folder.path()).unwrap(), folder.path().join("./tool"));
        // A folder is no program.
        assert!(program("/usr", &path, Path::new("/")).is_err());
    }
}
