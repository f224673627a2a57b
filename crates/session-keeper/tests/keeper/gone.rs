//! A file system whose server is gone: whatever asks for something on it waits for ever. The session
//! that needs it is held up, and no other.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::world::{World, number, text, until};

/// A FUSE file system that answers nothing (fuse(4)): its server has not read the first request.
struct Gone {
    server: Child,
    at: PathBuf,
}

impl Gone {
    fn new(at: PathBuf) -> Self {
        fs::create_dir_all(&at).unwrap();
        let options = "fd=3,rootmode=40000,user_id=0,group_id=0";
        let script = format!(
            "exec 3<>/dev/fuse && mount -i -t fuse -o {options} gone \"$0\" && echo && exec sleep inf"
        );
        let mut server = Command::new("sh");
        let mut server =
            server.args(["-c", &script]).arg(&at).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "\n", "it is not mounted");
        Self { server, at }
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        // What waits for it is told that nobody will answer.
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}

#[test]
fn what_hangs_holds_up_its_own_session_and_no_other() {
    let world = World::started();
    world.told("b/fine", "kelp");
    let gone = Gone::new(world.at("gone"));
    world.declare("a/worktree", |intent| intent.worktree = gone.at.join("src"));
    symlink(gone.at.join("x"), world.at("config/sessions.d/a+intent.toml")).unwrap();
    symlink(gone.at.join("x"), world.at("config/agents.d/far.toml")).unwrap();
    world.declare("a/agent", |intent| intent.agent = "far".to_owned());
    fs::create_dir_all(world.at("state/reports")).unwrap();
    symlink(gone.at.join("x"), world.at("state/reports/a+report.json")).unwrap();
    world.declare("a/report", |_| {});
    // Nothing that it needs.
    fs::create_dir_all(world.at("state/hooks")).unwrap();
    symlink(gone.at.join("x"), world.at("state/hooks/b+fine.json")).unwrap();
    for name in ["a/worktree", "a/intent", "a/agent", "a/report"] {
        until(&format!("the reason of {name}"), || {
            text(&world.session(name), "why").ends_with("its file system does not answer")
        });
    }

    world.say("b/fine", "exit 3");
    until("its next start", || number(&world.session("b/fine"), "starts") == 2);
    world.until_state("b/fine", "idle");
    world.told("b/new", "reef");
    world.call("Stop", json!({"name": "b/new"})).unwrap();
    world.until_state("b/new", "stopped");
    for name in ["a/worktree", "a/intent", "a/agent", "a/report"] {
        assert_eq!(number(&world.session(name), "starts"), 0, "{name}");
    }

    // What answers again is seen, and nobody need do anything.
    drop(gone);
    fs::create_dir(world.at("gone/src")).unwrap();
    for name in ["a/worktree", "a/report"] {
        world.until_state(name, "idle");
    }
}
