//! The verbs for sessions where no keeper runs and no tmux server is: what they make and say then.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

struct User {
    folder: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        let user = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["tmux", "shop", ".config/guppy/agents.d", ".claude", "libexec"] {
            fs::create_dir_all(user.at(folder)).unwrap();
        }
        fs::write(user.at("libexec/guppy-session-shim"), "").unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../session-keeper/agents.d");
        for agent in ["claude.toml", "shell.toml"] {
            let to = user.at(".config/guppy/agents.d").join(agent);
            fs::copy(Path::new(shipped).join(agent), to).unwrap();
        }
        let git = |words: &[&str]| {
            let mut command = user.command("git");
            assert!(command.current_dir(user.at("shop")).args(words).status().unwrap().success());
        };
        git(&["init", "-q", "-b", "main", "."]);
        git(&[
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "commit",
            "-q",
            "--allow-empty",
            "-m",
            "x",
        ]);
        user
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join(path)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.at(""));
        command.env("GUPPY_SOCKET", self.at("none.sock")).env("TMUX_TMPDIR", self.at("tmux"));
        command.env("GUPPY_LIBEXEC", self.at("libexec"));
        command.env("USER", "root").current_dir(self.at("shop"));
        command
    }

    fn guppy(&self, words: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_guppy")).args(words).output().unwrap()
    }

    fn json(&self, words: &[&str]) -> Value {
        let output = self.guppy(&[&["--json"], words].concat());
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout);
    format!("{text}{}", String::from_utf8_lossy(&output.stderr))
}

#[test]
fn new_makes_the_worktree_and_the_file_and_may_be_said_again() {
    let user = User::new();
    let made = user.json(&["new", "shop/fix-login", "--", "--model", "opus"]);
    assert_eq!(made.get("new"), Some(&Value::Bool(true)));
    assert!(made.get("why").unwrap().as_str().unwrap().contains("when the keeper runs"));
    let worktree = user.at("shop+fix-login");
    assert_eq!(made.get("worktree").unwrap().as_str(), worktree.to_str());
    let file = fs::read_to_string(user.at(".config/guppy/sessions.d/shop+fix-login.toml")).unwrap();
    assert!(file.contains("argv = [\"--model\", \"opus\"]") && file.contains("agent = \"claude\""));

    let again = user.json(&["new", "shop/fix-login"]);
    assert_eq!(again.get("new"), Some(&Value::Bool(false)));
    assert_eq!(again.get("ignored"), Some(&Value::Bool(false)));
    let other = said(&user.guppy(&["new", "shop/fix-login", "--agent", "shell"]));
    assert!(other.contains("your options were not taken"), "{other}");
    assert_eq!(again.get("worktree").unwrap().as_str(), worktree.to_str());
}

#[test]
fn a_repository_without_commits_is_told_what_it_lacks() {
    let user = User::new();
    fs::create_dir(user.at("empty")).unwrap();
    let git = |words: &[&str]| {
        let mut command = user.command("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(words);
        assert!(command.current_dir(user.at("empty")).status().unwrap().success());
    };
    git(&["init", "-q", "-b", "main", "."]);
    let empty = user.at("empty");
    let new = ["new", "empty/fix", "--repository", empty.to_str().unwrap()];
    let output = user.guppy(&new);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let remedy = format!("git -C {} commit --allow-empty -m begin", empty.display());
    assert!(said(&output).contains(&remedy), "{output:?}");
    assert!(!user.at(".config/guppy/sessions.d/empty+fix.toml").exists());
    // As it says.
    git(&["commit", "-q", "--allow-empty", "-m", "begin"]);
    assert!(user.guppy(&new).status.success());
}

#[test]
fn ls_works_without_a_keeper_and_says_so() {
    let user = User::new();
    assert!(said(&user.guppy(&["ls"])).contains("no sessions yet: guppy new"));
    user.json(&["new", "shop/fix"]);
    fs::write(user.at("shop+fix/new.txt"), "x").unwrap();
    let text = said(&user.guppy(&["ls", "--git"]));
    assert!(
        text.contains("shop/fix  claude  due  fix, 1 changed  waits for the tmux server"),
        "{text}"
    );
    assert!(text.contains("nothing is started or resumed: the keeper cannot be reached"), "{text}");
    let listing = user.json(&["ls"]);
    assert_eq!(listing.pointer("/sessions/0/state").unwrap(), "due");
    assert_eq!(listing.get("git"), None);
}

#[test]
fn without_the_package_every_verb_names_it() {
    let user = User::new();
    fs::remove_file(user.at("libexec/guppy-session-shim")).unwrap();
    for words in [&["ls"][..], &["new", "shop/fix"], &["stop", "shop/fix"], &["agents"]] {
        let output = user.guppy(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(said(&output).contains("sudo apt install guppy-session-keeper"), "{words:?}");
    }
    assert!(!user.at("shop+fix").exists());
}

#[test]
fn what_cannot_be_done_without_a_keeper_fails_and_names_it() {
    let user = User::new();
    user.json(&["new", "shop/fix"]);
    for words in [&["stop", "shop/fix"][..], &["rm", "shop/fix"], &["send", "shop/fix", "x"]] {
        let output = user.guppy(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(said(&output).contains("systemctl status guppy-session-keeper@"), "{words:?}");
        assert!(said(&output).contains("systemctl enable --now guppy-session-keeper@"));
    }
    assert!(user.at("shop+fix").is_dir());
    assert!(user.guppy(&["rm", "shop/none"]).status.success());
    assert_eq!(user.guppy(&["new", "no-slash"]).status.code(), Some(2));
    let unknown = user.guppy(&["new", "shop/x", "--agent", "nobody"]);
    assert!(said(&unknown).contains("guppy agents"));
    assert!(!user.at("shop+x").exists());
}

#[test]
fn hooks_are_installed_with_consent_only() {
    let user = User::new();
    let settings = user.at(".claude/settings.json");
    fs::write(&settings, "{\"theme\": \"dark\"}").unwrap();
    assert!(said(&user.guppy(&["agents"])).contains("hooks missing: guppy agents setup"));
    assert!(said(&user.guppy(&["agents", "setup"])).contains("say it again with --yes"));
    assert_eq!(fs::read_to_string(&settings).unwrap(), "{\"theme\": \"dark\"}");
    assert!(user.guppy(&["agents", "setup", "--yes"]).status.success());
    assert!(fs::read_to_string(&settings).unwrap().contains("guppy-session-hook"));
    assert!(said(&user.guppy(&["agents"])).contains("hooks installed"));
    assert!(user.guppy(&["agents", "setup", "--remove", "--yes"]).status.success());
    let after: Value = serde_json::from_str(&fs::read_to_string(&settings).unwrap()).unwrap();
    assert_eq!(after, serde_json::json!({"theme": "dark"}));
}

#[test]
fn an_agent_that_was_installed_and_never_started_gets_its_hooks_too() {
    let user = User::new();
    fs::remove_dir(user.at(".claude")).unwrap();
    let setup = |path: &str| {
        let mut command = user.command(env!("CARGO_BIN_EXE_guppy"));
        command.env("PATH", path).args(["agents", "setup", "--yes"]).output().unwrap()
    };
    let none = setup("/nowhere");
    assert!(said(&none).contains("no agent that takes hooks is installed here"), "{none:?}");
    assert!(!user.at(".claude").exists());
    fs::create_dir(user.at("bin")).unwrap();
    fs::write(user.at("bin/claude"), "").unwrap();
    setup(user.at("bin").to_str().unwrap());
    let settings = user.at(".claude/settings.json");
    assert!(fs::read_to_string(&settings).unwrap().contains("guppy-session-hook"));
    // And so does one that is named.
    fs::remove_dir_all(user.at(".claude")).unwrap();
    assert!(user.guppy(&["agents", "setup", "claude", "--yes"]).status.success());
    assert!(settings.exists());
}

#[test]
fn a_prompt_that_is_too_long_is_refused_and_not_cut() {
    let user = User::new();
    let text = user.at("prompt");
    fs::write(&text, "x".repeat(256 * 1024 + 1)).unwrap();
    let mut command = user.command(env!("CARGO_BIN_EXE_guppy"));
    command.args(["send", "shop/fix", "-"]).stdin(fs::File::open(&text).unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(said(&output).contains("nothing of it was sent"));
}

#[test]
fn a_keeper_that_takes_its_time_is_waited_for() {
    let user = User::new();
    let listener = UnixListener::bind(user.at("none.sock")).unwrap();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| user.guppy(&["ls"]));
        let (mut stream, _) = listener.accept().unwrap();
        let mut question = Vec::new();
        BufReader::new(&stream).read_until(0, &mut question).unwrap();
        // Longer than any other agent of a box gets.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(6) {
            assert!(!asked.is_finished(), "it gave up after {:?}", begin.elapsed());
            std::thread::sleep(Duration::from_millis(50));
        }
        let answer = br#"{"parameters":{"server":"late","sessions":[],"others":[],"problems":[]}}"#;
        stream.write_all(&[answer, &b"\0"[..]].concat()).unwrap();
        let output = asked.join().unwrap();
        assert!(output.status.success(), "{output:?}");
    });
}
