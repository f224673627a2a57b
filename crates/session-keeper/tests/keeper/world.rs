//! A user with a home, a tmux server in a cgroup tree of its own, and a keeper: the real programs,
//! without systemd. It needs root, for the tree.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use guppy_session_keeper::agents::Folders;
use guppy_session_keeper::agents::hooks::{self, Change};
use guppy_session_keeper::cgroup::Tree;
use guppy_session_keeper::intent::{self, Intent};
use guppy_session_keeper::name::SessionName;
use serde_json::{Value, json};

use crate::tracer::Tracer;

mod seen;

/// Nothing here takes so long on the busiest machine, unless it never comes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const SHIPPED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
const AGENT: &str = include_str!("claude.sh");
const SCRIPTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/agents/scripted");
const CONFIG: &str = "tick = \"2s\"\n[starts]\nstagger = \"0s\"\n\
    [crash]\nbackoff = \"1s\"\nbackoff_at_most = \"1s\"\n";

pub(crate) struct World {
    folder: tempfile::TempDir,
    tree: Tree,
    server: Option<Child>,
    pub(crate) keeper: Option<Child>,
}

impl World {
    /// With a server and a keeper that answers.
    pub(crate) fn started() -> Self {
        Self::configured(CONFIG)
    }

    /// The same with a config of its own.
    pub(crate) fn configured(config: &str) -> Self {
        let mut world = Self::new();
        fs::write(world.at("session-keeper.toml"), config).unwrap();
        world.start_server();
        world.start_keeper();
        world
    }

    /// The same after something was done to its folders.
    pub(crate) fn prepared<T>(prepare: impl FnOnce(&Self) -> T) -> (Self, T) {
        let mut world = Self::new();
        let made = prepare(&world);
        world.start_server();
        world.start_keeper();
        (world, made)
    }

    /// The same with the scripted agent in claude's clothes: dialogs, limits and hooks. It trusts
    /// no folder yet.
    pub(crate) fn scripted() -> Self {
        let mut world = Self::new();
        world.program("home/.local/bin/claude", &fs::read_to_string(SCRIPTED).unwrap());
        fs::write(world.at("config/agents.d/claude.toml"), shipped()).unwrap();
        let claude = Folders(vec![world.at("config/agents.d")]).read_one("claude").unwrap();
        let bin = Path::new(env!("CARGO_BIN_EXE_guppy-session-hook"));
        let settings = world.at("home/.claude/settings.json");
        fs::create_dir_all(settings.parent().unwrap()).unwrap();
        let install = hooks::plan(&claude, &settings, bin.to_str().unwrap(), Change::Install);
        install.unwrap().apply().unwrap();
        world.start_server();
        world.start_keeper();
        world
    }

    /// Lets the scripted agent work without a question.
    pub(crate) fn trust(&self) {
        let home = self.at("home").canonicalize().unwrap();
        let trusted =
            json!({"projects": {home.to_str().unwrap(): {"hasTrustDialogAccepted": true}}});
        fs::write(self.at("home/.claude.json"), trusted.to_string()).unwrap();
    }

    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Tree::of_user("x").unwrap();
        let mount = mount.path().ancestors().nth(2).unwrap();
        let name = format!("guppy-keeper-test-{}", folder.path().file_name().unwrap().display());
        let root = mount.join(name);
        fs::create_dir(&root).unwrap();
        let world = Self { tree: Tree::of_unit(&root), folder, server: None, keeper: None };
        for made in
            ["tmux", "home/.local/bin", "home/src", "config/agents.d", "config/sessions.d", "state"]
        {
            fs::create_dir_all(world.at(made)).unwrap();
        }
        world.program("home/.local/bin/claude", AGENT);
        // /etc/profile sets a PATH of its own.
        fs::write(world.at("home/.profile"), "PATH=$HOME/.local/bin:$PATH\n").unwrap();
        let plain = shipped().replace("clear = [\"C-u\"]\nbrackets = true\n", "");
        fs::write(world.at("config/agents.d/claude.toml"), plain).unwrap();
        fs::copy(Path::new(SHIPPED).join("shell.toml"), world.at("config/agents.d/shell.toml"))
            .unwrap();
        fs::write(world.at("session-keeper.toml"), CONFIG).unwrap();
        world
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Puts a program into a world. Not written by this process: while it has the file open
    /// for writing, a fork of another test's may have it too, and nobody may execute it (ETXTBSY).
    pub(crate) fn program(&self, to: &str, text: &str) {
        let draft = self.at("draft");
        fs::write(&draft, text).unwrap();
        let mut install = Command::new("install");
        install.args(["-D", "-m", "755"]).arg(&draft).arg(self.at(to));
        assert!(install.status().unwrap().success());
    }

    /// The way to tmux of keepers that start from now on, with something before each call. `$*` are
    /// its words.
    pub(crate) fn in_the_way(&self, script: &str) {
        let then = "PATH=/usr/local/bin:/usr/bin:/bin exec tmux \"$@\"";
        self.program("bin/tmux", &format!("#!/bin/sh\n{script}\n{then}\n"));
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir("/").stdin(Stdio::null());
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("LANG", "C.UTF-8");
        command.env("HOME", self.at("home")).env("SHELL", "/bin/bash").env("USER", "root");
        command.env("TMUX_TMPDIR", self.at("tmux"));
        command.env("GUPPY_CONFIG_DIR", self.at("config")).env("GUPPY_STATE_DIR", self.at("state"));
        command.env("GUPPY_SOCKET", self.at("keeper.sock")).env("GUPPY_CGROUP", self.tree.path());
        let bin = Path::new(env!("CARGO_BIN_EXE_guppy-session-keeper"));
        command.env("GUPPY_LIBEXEC", bin.parent().unwrap());
        command
    }

    pub(crate) fn start_server(&mut self) {
        let mut command = self.command("sh");
        let enter = format!("echo 0 >{}/cgroup.procs && exec \"$@\"", self.tree.path().display());
        command.args(["-c", &enter, "sh", env!("CARGO_BIN_EXE_guppy-tmux-server")]);
        let log = fs::File::create(self.at("server.log")).unwrap();
        self.server = Some(command.stderr(log).stdout(Stdio::null()).spawn().unwrap());
        until("the server to answer", || {
            self.tmux(&["display-message", "-p", "x"]).status.success()
        });
    }

    /// The server's process.
    pub(crate) fn server(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    /// The server ends, as `how` says: a signal's name.
    pub(crate) fn end_server(&mut self, how: &str) {
        let mut server = self.server.take().unwrap();
        let pid = server.id().to_string();
        assert!(Command::new("kill").args(["-s", how, &pid]).status().unwrap().success());
        server.wait().unwrap();
    }

    /// Waits until something has ended the server.
    pub(crate) fn until_server_ends(&mut self) {
        let mut server = self.server.take().unwrap();
        until("the server's end", || server.try_wait().unwrap().is_some());
    }

    pub(crate) fn start_keeper(&mut self) {
        self.start_keeper_with(|_| {});
    }

    /// The same of one that is started in another way.
    pub(crate) fn start_keeper_with(&mut self, change: impl FnOnce(&mut Command)) {
        let log = fs::File::options().create(true).append(true).open(self.at("keeper.log"));
        let mut command = self.command(env!("CARGO_BIN_EXE_guppy-session-keeper"));
        command.arg("--socket").arg(self.at("keeper.sock"));
        command.arg("--config").arg(self.at("session-keeper.toml"));
        // See `in_the_way`.
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.at("bin").display());
        command.env("PATH", path);
        change(&mut command);
        self.keeper = Some(command.stderr(log.unwrap()).spawn().unwrap());
        until("the keeper to answer", || self.call("List", json!({})).is_ok());
    }

    /// One more keeper of the same user; what it says before it ends, if it ends.
    pub(crate) fn second_keeper(&self) -> Option<String> {
        let log = self.at("second.log");
        let mut command = self.command(env!("CARGO_BIN_EXE_guppy-session-keeper"));
        command.arg("--socket").arg(self.at("second.sock"));
        command.arg("--config").arg(self.at("session-keeper.toml"));
        let mut second = command.stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
        let begin = Instant::now();
        // Or it serves.
        while second.try_wait().unwrap().is_none() && begin.elapsed() < PATIENCE {
            if UnixStream::connect(self.at("second.sock")).is_ok()
                && fs::read_to_string(&log).unwrap().contains("keeping the sessions")
            {
                second.kill().unwrap();
                second.wait().unwrap();
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(fs::read_to_string(&log).unwrap())
    }

    pub(crate) fn kill_keeper(&mut self) {
        let mut keeper = self.keeper.take().unwrap();
        keeper.kill().unwrap();
        keeper.wait().unwrap();
    }

    /// The same for one that is traced: its tracer waits for it.
    pub(crate) fn kill_keeper_of(&mut self, tracer: Tracer) {
        let mut keeper = self.keeper.take().unwrap();
        // Not once it has been waited for: its number may be another's.
        if !tracer.has_ended() {
            keeper.kill().unwrap();
        }
        tracer.until_the_end();
        // Its tracer has taken its status.
        let _ = keeper.wait();
    }

    /// Everything ends at once, as at a power cut.
    pub(crate) fn kill_everything(&self) {
        let keeper = self.keeper.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args(["-KILL", &keeper]).status().unwrap().success());
        fs::write(self.tree.path().join("cgroup.kill"), "1").unwrap();
    }

    /// Takes what [`Self::kill_everything`] has killed for gone.
    pub(crate) fn forget_processes(&mut self) {
        for mut child in self.keeper.take().into_iter().chain(self.server.take()) {
            child.wait().unwrap();
        }
        until("an empty tree", || self.is_empty());
    }

    fn is_empty(&self) -> bool {
        let events = fs::read_to_string(self.tree.path().join("cgroup.events"));
        events.is_ok_and(|events| events.contains("populated 0"))
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> Output {
        self.command("tmux").arg("-N").args(words).output().unwrap()
    }

    /// Declares a session and has the keeper look.
    pub(crate) fn declare(&self, name: &str, change: impl FnOnce(&mut Intent)) {
        self.declare_quietly(name, change);
        let _ = self.call("Look", json!({}));
    }

    /// Declares a session; nobody is told.
    pub(crate) fn declare_quietly(&self, name: &str, change: impl FnOnce(&mut Intent)) {
        self.try_declare(name, change).unwrap();
    }

    /// The same on a disk that may go.
    pub(crate) fn try_declare(
        &self,
        name: &str,
        change: impl FnOnce(&mut Intent),
    ) -> std::io::Result<()> {
        let mut intent = Intent {
            agent: "claude".to_owned(),
            worktree: self.at("home/src"),
            ..Intent::default()
        };
        change(&mut intent);
        let name = SessionName::parse(name).unwrap();
        intent::write(&self.at("config/sessions.d"), &name, &intent)
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.at("keeper.log")).unwrap_or_default()
    }

    pub(crate) fn home_command(&self, program: &str) -> Command {
        let mut command = self.command(self.at(program));
        command.current_dir(self.at("home/src"));
        command
    }
}

pub(crate) fn text<'a>(session: &'a Value, key: &str) -> &'a str {
    session.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn number(session: &Value, key: &str) -> u64 {
    session.get(key).and_then(Value::as_u64).unwrap_or_default()
}

/// Whether there is such a process, and it has not ended.
pub(crate) fn is_alive(pid: u64) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'),
        Err(_) => false,
    }
}

/// claude's file without the address that must answer before a start.
fn shipped() -> String {
    let shipped = fs::read_to_string(Path::new(SHIPPED).join("claude.toml")).unwrap();
    shipped.replace("probe = \"api.anthropic.com:443\"\n", "")
}

pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(begin.elapsed() < PATIENCE, "waited for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for mut child in self.keeper.take().into_iter().chain(self.server.take()) {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::write(self.tree.path().join("cgroup.kill"), "1");
        let begin = Instant::now();
        while !self.is_empty() && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(20));
        }
        for entry in fs::read_dir(self.tree.path()).into_iter().flatten().flatten() {
            let _ = fs::remove_dir(entry.path());
        }
        let _ = fs::remove_dir(self.tree.path());
        // Agents look themselves whether they are alone.
        let doubled = fs::read_to_string(self.at("home/doubled")).unwrap_or_default();
        assert!(doubled.is_empty() || std::thread::panicking(), "two in one: {doubled}");
    }
}
