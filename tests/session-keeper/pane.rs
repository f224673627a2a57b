//! A tmux server of a test's own, on a host without a kernel of its own, and a person at it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::process::{PATIENCE, run};
use lab::{Namespace, ledger};

/// How long a program may take to draw what it is waited for.
pub(crate) const DRAWN: Duration = Duration::from_secs(300);

/// One program in one pane. The server ends with the value.
pub(crate) struct Pane<'a> {
    host: &'a Namespace,
    place: PathBuf,
    home: PathBuf,
    environment: Vec<(String, String)>,
}

impl<'a> Pane<'a> {
    /// A server on a host whose pane will run programs in `home/work`, with nothing of this
    /// machine's environment but what is given.
    pub(crate) fn new(
        host: &'a Namespace,
        home: &Path,
        environment: &[(&str, String)],
    ) -> Result<Self> {
        let (place, _) = ledger::place("gt")?;
        let environment =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        let pane = Self { host, place, home: home.to_owned(), environment };
        // A pane that outlives its program shows what it said last.
        pane.tmux(&["new-session", "-d", "-x", "110", "-y", "34", "-s", "pane", "sleep infinity"])?;
        pane.tmux(&["set-option", "-g", "remain-on-exit", "on"])?;
        Ok(pane)
    }

    fn command(&self) -> Command {
        let mut command = self.host.command("env");
        command.args([
            "-i",
            "PATH=/usr/local/bin:/usr/bin:/bin",
            "LANG=C.UTF-8",
            "SHELL=/bin/bash",
        ]);
        command.arg(format!("HOME={}", self.home.display()));
        command.arg("tmux").arg("-S").arg(self.place.join("socket")).args(["-f", "/dev/null"]);
        command.current_dir("/");
        command
    }

    fn tmux(&self, words: &[&str]) -> Result<String> {
        self.typed(words, b"")
    }

    fn typed(&self, words: &[&str], input: &[u8]) -> Result<String> {
        let mut command = self.command();
        command.args(words);
        run(command, input, PATIENCE)?.ok().with_context(|| format!("tmux {}", words.join(" ")))
    }

    /// Starts a program in the pane, in place of whatever was there.
    pub(crate) fn start(&self, argv: &[String]) -> Result<()> {
        self.start_in("work", argv)
    }

    /// The same in another folder of the home.
    pub(crate) fn start_in(&self, folder: &str, argv: &[String]) -> Result<()> {
        let work = self.home.join(folder);
        let mut words = vec!["respawn-pane".to_owned(), "-k".into(), "-t".into(), "pane".into()];
        words.extend(["-c".into(), work.display().to_string()]);
        for (name, value) in &self.environment {
            words.extend(["-e".into(), format!("{name}={value}")]);
        }
        words.extend(argv.iter().cloned());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        self.tmux(&words).map(drop)
    }

    /// What the pane shows.
    pub(crate) fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p", "-t", "pane"])
    }

    /// Waits until the pane shows what `look` looks for; fails with the screen.
    pub(crate) fn wait_screen(&self, what: &str, look: impl Fn(&str) -> bool) -> Result<()> {
        let shown = lab::wait::until_true(what, DRAWN, || Ok(look(&self.screen()?)));
        shown.with_context(|| format!("the pane shows:\n{}", self.screen().unwrap_or_default()))
    }

    /// Gives a prompt as a person pastes it: Enter only once the end of it is shown.
    pub(crate) fn ask(&self, prompt: &str) -> Result<()> {
        self.typed(&["load-buffer", "-b", "prompt", "-"], prompt.as_bytes())?;
        self.tmux(&["paste-buffer", "-p", "-d", "-b", "prompt", "-t", "pane"])?;
        let end = prompt.lines().last().unwrap_or_default();
        self.wait_screen("the prompt to be shown", |screen| screen.contains(end))?;
        self.tmux(&["send-keys", "-t", "pane", "Enter"]).map(drop)
    }

    /// Presses keys, in tmux's names for them.
    pub(crate) fn keys(&self, keys: &[&str]) -> Result<()> {
        self.tmux(&[&["send-keys", "-t", "pane"], keys].concat()).map(drop)
    }

    fn field(&self, format: &str) -> Result<String> {
        self.tmux(&["display-message", "-p", "-t", "pane", format])
    }

    /// The id of the program in the pane.
    pub(crate) fn pid(&self) -> Result<i32> {
        self.field("#{pane_pid}")?.parse().context("the pane's process id")
    }

    /// Waits for the program's end: its exit code, or 128 and its signal's number.
    pub(crate) fn wait_end(&self) -> Result<i32> {
        let ended = lab::wait::until("the program's end", DRAWN, || {
            let shown = self.field("#{pane_dead},#{pane_dead_status},#{pane_dead_signal}")?;
            let Some((status, signal)) =
                shown.strip_prefix("1,").and_then(|how| how.split_once(','))
            else {
                return Ok(None);
            };
            if status.is_empty() && signal.is_empty() {
                // Where the program had threads, tmux 3.3a may see its terminal close and not its
                // end (2 of 5 opencodes), until another child of tmux's ends too.
                self.tmux(&["run-shell", "true"])?;
            }
            Ok(status.parse().ok().or_else(|| Some(128 + signal.parse::<i32>().ok()?)))
        });
        ended.with_context(|| format!("the pane shows:\n{}", self.screen().unwrap_or_default()))
    }

    /// Kills the program as an out-of-memory killer would.
    pub(crate) fn kill(&self) -> Result<()> {
        lab::process::host("kill", &["-KILL", &self.pid()?.to_string()])?;
        let code = self.wait_end()?;
        ensure!(code == 128 + 9, "killed, and ended with {code}");
        Ok(())
    }
}

impl Drop for Pane<'_> {
    fn drop(&mut self) {
        // The server has left the process group of whoever started it.
        let _ = self.tmux(&["kill-server"]);
        ledger::leave(&self.place);
    }
}
