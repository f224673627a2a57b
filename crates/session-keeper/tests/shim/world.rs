//! A tmux unit without systemd: a delegated control group, a user of no name in it, and a real
//! tmux server that was started by the program that the unit starts. All of it ends with the value.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use guppy_session_keeper::cgroup::{Group, Tree};
use guppy_session_keeper::launch::{Launch, Limits};
use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;
use guppy_session_keeper::report::{Phase, Report};

/// Of no user and no group on any Debian.
const UID: u32 = 61_234;

/// What the tmux server has, and its panes inherit: where the kernel lets root lower it, which in
/// most containers it does not (CAP_SYS_RESOURCE).
const SERVER_OOM_SCORE: i32 = -100;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) tree: Tree,
    pub(crate) paths: Paths,
    pub(crate) server: Option<Child>,
    /// Variables of the server, which its panes inherit.
    pub(crate) variables: Vec<(String, String)>,
}

impl World {
    /// A user with a home, and no server yet.
    pub(crate) fn new() -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests make control groups and act as another user: run them as root"
        );
        let folder = tempfile::Builder::new().prefix("guppy-shim.").tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for below in ["bin", "home", "home/work", "config", "state", "tmux", "tmp"] {
            let below = folder.path().join(below);
            fs::create_dir(&below).unwrap();
            chown(&below, Some(UID), Some(UID)).unwrap();
        }
        // Where the user can reach them, whatever folder they were built in.
        for (program, from) in [
            ("guppy-session-shim", env!("CARGO_BIN_EXE_guppy-session-shim")),
            ("guppy-tmux-server", env!("CARGO_BIN_EXE_guppy-tmux-server")),
        ] {
            copy(Path::new(from), &folder.path().join("bin").join(program));
        }
        let tree = delegate(folder.path());
        let paths = Paths {
            config: folder.path().join("config"),
            state: folder.path().join("state"),
            socket: folder.path().join("keeper.sock"),
        };
        let world = Self { folder, tree, paths, server: None, variables: Vec::new() };
        // As Debian's, whose .profile reads .bashrc, which looks whether it is interactive.
        world.home_file(".profile", "[ -z \"$BASH_VERSION\" ] || . ~/.bashrc\n");
        world.home_file(".bashrc", "case $- in *i*) ;; *) return ;; esac\n");
        world
    }

    /// The same with a tmux server that answers.
    pub(crate) fn started() -> Self {
        let mut world = Self::new();
        world.start_server();
        world
    }

    pub(crate) fn start_server(&mut self) {
        self.spawn_server();
        self.until_server();
    }

    /// Starts the program that the unit starts, as systemd would: in the tree's root, as the user.
    pub(crate) fn spawn_server(&mut self) {
        let enter = format!(
            "echo 0 >{}/cgroup.procs && {{ echo {SERVER_OOM_SCORE} >/proc/self/oom_score_adj || :; }} && exec \"$@\"",
            self.tree.path().display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh", "setpriv"]).args(self.become_user());
        command.arg(self.program("guppy-tmux-server"));
        self.set_environment(&mut command);
        let log = fs::File::create(self.folder.path().join("server.log")).unwrap();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.server = Some(command.spawn().unwrap());
    }

    pub(crate) fn until_server(&self) {
        let mut said = None;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let output = self.tmux(&["set-option", "-g", "remain-on-exit", "on"]);
            if output.status.success() {
                return;
            }
            said = Some(output);
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("no tmux server: {said:?}, {}", self.server_says());
    }

    pub(crate) fn server_says(&self) -> String {
        fs::read_to_string(self.folder.path().join("server.log")).unwrap()
    }

    pub(crate) fn server_pid(&self) -> u32 {
        self.server.as_ref().unwrap().id()
    }

    fn become_user(&self) -> Vec<String> {
        let id = UID.to_string();
        ["--reuid", &id, "--regid", &id, "--clear-groups", "--"].map(str::to_owned).into()
    }

    fn set_environment(&self, command: &mut Command) {
        let at = |name: &str| self.folder.path().join(name);
        command.env_clear().current_dir("/");
        command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("HOME", at("home")).env("SHELL", "/bin/bash").env("USER", "nobody-here");
        command.env("TMUX_TMPDIR", at("tmux")).env("LANG", "C.UTF-8");
        command.env("GUPPY_CONFIG_DIR", &self.paths.config);
        command.env("GUPPY_STATE_DIR", &self.paths.state).env("GUPPY_SOCKET", &self.paths.socket);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
    }

    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.folder.path().join("bin").join(name)
    }

    /// Runs a program as the user, outside of the tree, as from ssh.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.args(self.become_user()).args(words);
        self.set_environment(&mut command);
        command.stdin(Stdio::null()).output().unwrap()
    }

    pub(crate) fn tmux(&self, words: &[&str]) -> Output {
        self.run(&[&["tmux", "-N"], words].concat())
    }

    /// A client that stays.
    pub(crate) fn client(&self, words: &[&str]) -> Child {
        let mut command = Command::new("setpriv");
        command.args(self.become_user()).args(["tmux", "-N"]).args(words);
        self.set_environment(&mut command);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    }

    /// One line of a pane's format.
    pub(crate) fn pane(&self, session: &str, format: &str) -> String {
        let target = format!("={session}:");
        let said = self.tmux(&["display-message", "-p", "-t", &target, format]);
        String::from_utf8(said.stdout).unwrap().trim_end().to_owned()
    }

    /// Waits until a dead pane's format reads so. tmux may have lost the SIGCHLD: libutempter, which
    /// it calls when a terminal closes, takes all of that moment for its own. The end of any job of
    /// the server's makes it look again, and that is what the keeper does.
    pub(crate) fn until_dead(&self, session: &str, format: &str, wanted: &str) {
        until(&format!("{session}: {format} to be {wanted}"), || {
            self.tmux(&["run-shell", "-b", "true"]);
            self.pane(session, format) == wanted
        });
    }

    /// What stands in a pane.
    pub(crate) fn screen(&self, session: &str) -> String {
        let said = self.tmux(&["capture-pane", "-p", "-J", "-t", &format!("={session}:")]);
        String::from_utf8(said.stdout).unwrap()
    }

    pub(crate) fn home_file(&self, name: &str, text: &str) -> PathBuf {
        self.file(&self.folder.path().join("home").join(name), text, 0o644)
    }

    /// A file of the user's.
    pub(crate) fn file(&self, path: &Path, text: &str, mode: u32) -> PathBuf {
        let draft = path.with_extension("draft");
        fs::write(&draft, text).unwrap();
        copy(&draft, path);
        fs::remove_file(&draft).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        chown(path, Some(UID), Some(UID)).unwrap();
        path.to_owned()
    }

    /// An agent: a shell script.
    pub(crate) fn agent(&self, name: &str, script: &str) -> String {
        let path = self.folder.path().join("home").join(name);
        self.file(&path, &format!("#!/bin/bash\n{script}\n"), 0o755).display().to_string()
    }

    /// A launch in the home's worktree, of an agent without a conversation.
    pub(crate) fn launch(&self, name: &str, argv: &[&str]) -> Launch {
        Launch {
            native: Vec::new(),
            version: guppy_session_keeper::launch::VERSION,
            name: name.to_owned(),
            agent: "fake".to_owned(),
            conversation: None,
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            cwd: self.folder.path().join("home/work"),
            env_files: Vec::new(),
            env: Default::default(),
            limits: Limits::default(),
            start: 1,
        }
    }

    /// What the keeper does: writes the launch, and opens a pane.
    pub(crate) fn start(&self, launch: &Launch) {
        let name = SessionName::parse(&launch.name).unwrap();
        self.write(launch);
        let shim = self.program("guppy-session-shim").display().to_string();
        let stem = name.file_stem();
        let said = self.tmux(&["new-session", "-d", "-s", &name.tmux(), &shim, &stem]);
        assert!(said.status.success(), "{said:?}");
    }

    /// The same in the pane that is there.
    pub(crate) fn restart(&self, launch: &Launch) {
        let name = SessionName::parse(&launch.name).unwrap();
        self.write(launch);
        let shim = self.program("guppy-session-shim").display().to_string();
        let target = format!("={}:", name.tmux());
        let said = self.tmux(&["respawn-pane", "-k", "-t", &target, &shim, &name.file_stem()]);
        assert!(said.status.success(), "{said:?}");
    }

    pub(crate) fn write(&self, launch: &Launch) {
        let name = SessionName::parse(&launch.name).unwrap();
        let path = self.paths.launch(&name);
        let folder = path.parent().unwrap();
        fs::create_dir_all(folder).unwrap();
        chown(folder, Some(UID), Some(UID)).unwrap();
        launch.write(&path).unwrap();
        chown(&path, Some(UID), Some(UID)).unwrap();
    }

    pub(crate) fn report(&self, name: &str) -> Option<Report> {
        Report::read(&self.paths.report(&SessionName::parse(name).unwrap())).unwrap()
    }

    /// Waits for a report of this start and phase.
    pub(crate) fn until_report(&self, name: &str, start: u64, phase: Phase) -> Report {
        let mut last = None;
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            last = self.report(name);
            if let Some(report) = last.as_ref().filter(|it| it.start == start && it.phase == phase)
            {
                return report.clone();
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let session = SessionName::parse(name).unwrap().tmux();
        panic!("no {phase:?} of start {start}: {last:#?}\n{}", self.screen(&session));
    }

    pub(crate) fn group(&self, name: &str) -> Group {
        self.tree.agent(&SessionName::parse(name).unwrap())
    }

    /// Waits for what an agent writes into a file of its home; the whole line.
    pub(crate) fn until_line(&self, file: &str) -> String {
        let path = self.folder.path().join("home").join(file);
        let mut line = String::new();
        until(&format!("a line in {file}"), || {
            line = fs::read_to_string(&path).unwrap_or_default();
            line.ends_with('\n')
        });
        line.trim_end().to_owned()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // One that a test started by hand is outside of the tree.
        let _ = self.tmux(&["kill-server"]);
        // Everything of a test is in its tree: so nothing outlives it.
        let left = Tree::of_unit(self.tree.path()).path().join("cgroup.kill");
        fs::write(left, "1").unwrap();
        if let Some(mut server) = self.server.take() {
            server.wait().unwrap();
        }
        until("the tree to be empty", || {
            let events = fs::read_to_string(self.tree.path().join("cgroup.events")).unwrap();
            events.contains("populated 0")
        });
        remove(self.tree.path());
    }
}

fn remove(group: &Path) {
    for entry in fs::read_dir(group).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            remove(&entry.path());
        }
    }
    fs::remove_dir(group).unwrap();
}

/// Makes a control group below the mount's root and hands it to the user, as systemd delegates:
/// the folder and the files that divide it, not its limits.
fn delegate(folder: &Path) -> Tree {
    let somewhere = Tree::of_user("x").unwrap();
    let mount = somewhere.path().ancestors().nth(2).unwrap();
    let root = mount.join(folder.file_name().unwrap());
    fs::create_dir(&root).unwrap();
    // The controllers that this machine has for version 2; perhaps none.
    for controller in ["memory", "pids"] {
        let _ = fs::write(mount.join("cgroup.subtree_control"), format!("+{controller}"));
    }
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        chown(root.join(file), Some(UID), Some(UID)).unwrap();
    }
    Tree::of_unit(&root)
}

/// By a process of its own: while this one has a file open for writing, a fork of another test's
/// may have it too, and nobody may execute it then (ETXTBSY).
fn copy(from: &Path, to: &Path) {
    assert!(
        Command::new("cp").args(["--", from.to_str().unwrap()]).arg(to).status().unwrap().success()
    );
}

/// Waits until it is so.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A field of /proc/PID/status, or of stat by its number (proc(5)).
pub(crate) fn stat(pid: u32, field: usize) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let (_, rest) = stat.rsplit_once(')').unwrap();
    rest.split_whitespace().nth(field - 3).unwrap().to_owned()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(')').unwrap().1.trim_start().starts_with('Z'),
        Err(_) => false,
    }
}

pub(crate) fn signal(pid: u32, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// What a process has in this file of /proc.
pub(crate) fn proc_file(pid: u32, name: &str) -> String {
    let bytes = fs::read(format!("/proc/{pid}/{name}")).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
