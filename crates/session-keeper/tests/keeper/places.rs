//! Where sessions live goes away, fills up, closes or has a strange name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use guppy_session_keeper::intent::OnMissing;
use serde_json::{Value, json};

use crate::world::{PATIENCE, World, is_alive, number, text, until};

pub(crate) fn sh(folder: &Path, script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A repository, and in it a worktree of a branch that is one commit ahead.
fn repository(world: &World) -> (PathBuf, PathBuf) {
    let home = world.at("home").canonicalize().unwrap();
    let (repository, worktree) = (home.join("it's shop"), home.join("it's fix"));
    sh(
        &home,
        "git init -q -b main \"it's shop\" && cd \"it's shop\" && git config user.name a && \
         git config user.email a@b && git commit -q --allow-empty -m one && \
         git worktree add -q -b fix \"../it's fix\" && cd \"../it's fix\" && \
         git commit -q --allow-empty -m two",
    );
    (repository, worktree)
}

/// Kills a session's agent.
fn kill(world: &World, name: &str) {
    let pid = number(&world.session(name), "pid").to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
}

#[test]
fn a_deleted_worktree_blocks_with_a_command_that_mends_it() {
    let world = World::started();
    let (repository, worktree) = repository(&world);
    world.declare("shop/fix", |intent| {
        intent.worktree.clone_from(&worktree);
        intent.repository = Some(repository);
    });
    world.until_state("shop/fix", "idle");
    fs::remove_dir_all(&worktree).unwrap();
    kill(&world, "shop/fix");
    let blocked = world.until_state("shop/fix", "blocked");
    let why = text(&blocked, "why");
    let (_, mend) = why.split_once("is not there: ").unwrap();
    // As a person would: copied to a shell.
    sh(Path::new("/"), mend);
    world.call("Look", json!({})).unwrap();
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let head = sh(&worktree, "git symbolic-ref HEAD && git log -1 --format=%s");
    assert_eq!(head, "refs/heads/fix\ntwo\n");
}

#[test]
fn a_worktree_is_made_again_on_its_branch_whatever_that_is_called_by_now() {
    let world = World::started();
    let (repository, worktree) = repository(&world);
    world.declare("shop/fix", |intent| {
        intent.worktree.clone_from(&worktree);
        intent.repository = Some(repository.clone());
        intent.on_missing = OnMissing::Recreate;
    });
    let session = world.until_state("shop/fix", "idle");
    sh(&worktree, "git branch -m fix better");
    world.say("shop/fix", "kelp");
    until("its word", || {
        let folder = world.at("home/.claude/projects");
        let found = sh(&folder, "cat ./*/*.jsonl || true");
        found == "kelp\n"
    });
    fs::remove_dir_all(&worktree).unwrap();
    kill(&world, "shop/fix");
    until("a second start", || number(&world.session("shop/fix"), "starts") == 2);
    let again = world.until_state("shop/fix", "idle");
    assert_eq!(text(&again, "conversation"), text(&session, "conversation"));
    let head = sh(&worktree, "git symbolic-ref HEAD && git log -1 --format=%s");
    assert_eq!(head, "refs/heads/better\ntwo\n");

    // A branch that nobody finds any more is not made anew, on the commit of another.
    sh(&repository, "git worktree remove --force \"../it's fix\" && git branch -q -D better");
    kill(&world, "shop/fix");
    until("the reason", || text(&world.session("shop/fix"), "why").contains("branch = "));
    assert_eq!(sh(&repository, "git branch --format='%(refname:short)'"), "main\n");
    assert_eq!(number(&world.session("shop/fix"), "starts"), 2);
}

/// A mount below a world's folder, for as long as this lives.
pub(crate) struct Mount(PathBuf);

impl Mount {
    pub(crate) fn new(at: PathBuf, options: &[&str]) -> Self {
        let mounted = Command::new("mount").args(options).arg(&at).status().unwrap();
        assert!(mounted.success(), "mount {options:?}");
        Self(at)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A file system that takes no write until it is thawed, as a disk looks that is busy with another's.
pub(crate) struct Frozen(PathBuf);

impl Frozen {
    pub(crate) fn new(at: PathBuf) -> Self {
        assert!(Command::new("fsfreeze").arg("-f").arg(&at).status().unwrap().success());
        Self(at)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = Command::new("fsfreeze").arg("-u").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_starts_nothing_ends_nothing_and_is_told() {
    let (mut world, _mount) = World::prepared(|world| {
        Mount::new(world.at("state"), &["-t", "tmpfs", "-o", "size=512k", "tmpfs"])
    });
    let id = world.told("a/one", "kelp");
    world.told("a/two", "reef");
    let before = world.session("a/two");
    let ballast = world.at("state/ballast");
    assert!(fs::write(&ballast, vec![0; 1 << 20]).is_err(), "it is not full");
    world.declare("b/new", |_| {});
    let told = || text(&world.session("b/new"), "why").contains("No space left");
    until("the reason", told);
    // Also a keeper that begins so: what it must know is there.
    world.kill_keeper();
    world.start_keeper();
    until("the reason", || text(&world.session("b/new"), "why").contains("No space left"));
    let two = world.until_state("a/two", "idle");
    assert_eq!(two.get("pid"), before.get("pid"));
    // One that crashes now is back at the latest when there is space; it is not parked for it.
    world.say("a/one", "exit 3");
    until("its crash", || !is_alive(world.births("a/one").first().unwrap().1));
    assert!(world.births("b/new").is_empty());
    fs::remove_file(&ballast).unwrap();
    world.until_state("b/new", "idle");
    until("its second birth", || world.births("a/one").len() == 2);
    assert_eq!(text(&world.until_state("a/one", "idle"), "conversation"), id);
    assert_eq!(world.session("a/two").get("pid"), before.get("pid"));
}

#[test]
fn a_state_folder_that_is_read_only_starts_nothing_ends_nothing_and_is_told() {
    let mut world = World::started();
    let id = world.told("a/one", "kelp");
    world.told("a/two", "reef");
    let before = world.session("a/two");
    let mount = closed(&world, "state");
    world.say("a/one", "exit 3");
    world.declare("b/new", |_| {});
    for name in ["b/new", "a/one"] {
        until("the reason", || text(&world.session(name), "why").contains("Read-only file system"));
    }
    world.kill_keeper();
    world.start_keeper();
    let two = world.until_state("a/two", "idle");
    assert_eq!(two.get("pid"), before.get("pid"));
    assert!(is_alive(number(&two, "pid")) && world.births("b/new").is_empty());
    drop(mount);
    world.until_state("b/new", "idle");
    until("a second start", || number(&world.session("a/one"), "starts") == 2);
    assert_eq!(text(&world.until_state("a/one", "idle"), "conversation"), id);
}

#[test]
fn names_and_folders_that_mean_something_elsewhere_mean_nothing_here() {
    let mut world = World::started();
    let names = [
        "日本/語",
        "a/$(touch${IFS}owned)",
        "a/#{pid}#(touch${IFS}owned)",
        "a/kill-server;kill-server",
        "a/'\"`id`\"'",
        "a b/c",
        "a+b/c/d+e",
        "{home}/{conversation}",
    ];
    let hostile = world.at("home/wörk #{pid} #(touch owned) $(touch owned) ;kill-server;");
    fs::create_dir(&hostile).unwrap();
    for name in names {
        world.declare(name, |intent| {
            intent.worktree.clone_from(&hostile);
            intent.argv = vec!["--#{pid}".to_owned(), "$(touch owned)".to_owned(), ";".to_owned()];
        });
    }
    let ids = names.map(|name| text(&world.until_state(name, "idle"), "conversation").to_owned());
    world.end_server("KILL");
    world.start_server();
    for (name, id) in names.iter().zip(&ids) {
        until("a second start", || number(&world.session(name), "starts") == 2);
        let session = world.until_state(name, "idle");
        assert_eq!((text(&session, "conversation"), text(&session, "name")), (&**id, *name));
        assert_eq!(world.births(name).len(), 2);
        let session = guppy_session_keeper::name::SessionName::parse(name).unwrap().tmux();
        let format =
            ["display-message", "-p", "-t", &format!("={session}:"), "#{pane_current_path}"];
        let folder = String::from_utf8(world.tmux(&format).stdout).unwrap();
        assert_eq!(Path::new(folder.trim_end_matches('\n')), hostile.canonicalize().unwrap());
    }
    assert_eq!(sh(&world.at(""), "find . -name owned"), "");
    let listing = world.call("List", json!({})).unwrap();
    assert_eq!(listing.pointer("/others"), Some(&json!([])));
}

/// The conversations of sessions whose agents are up after so many starts.
fn up(world: &World, starts: u64) -> BTreeSet<String> {
    let listing = world.call("List", json!({})).unwrap();
    let sessions = listing.get("sessions").and_then(Value::as_array).unwrap();
    let up = sessions.iter().filter(|session| is_up(session, starts));
    up.map(|it| text(it, "conversation").to_owned()).collect()
}

fn is_up(session: &Value, starts: u64) -> bool {
    text(session, "state") == "idle" && number(session, "starts") == starts
}

/// All that is said of the others.
fn not_up(world: &World, starts: u64) -> Vec<Value> {
    let listing = world.call("List", json!({})).unwrap();
    let sessions = listing.get("sessions").and_then(Value::as_array).unwrap();
    sessions.iter().filter(|session| !is_up(session, starts)).cloned().collect()
}

#[test]
fn two_hundred_sessions_are_back_each_in_its_own_conversation() {
    let count = if std::env::var_os("GUPPY_FULL").is_some() { 200 } else { 50 };
    let mut world = World::started();
    for at in 0..count {
        world.declare_quietly(&format!("p{}/b{at}", at % 7), |_| {});
    }
    world.call("Look", json!({})).unwrap();
    let all = |world: &World, starts: u64| {
        let mut ids = BTreeSet::new();
        let mut begin = Instant::now();
        while ids.len() < count {
            let now = up(world, starts);
            if now.len() > ids.len() {
                (ids, begin) = (now, Instant::now());
            }
            assert!(begin.elapsed() < PATIENCE, "{:#?}\n{}", not_up(world, starts), world.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        ids
    };
    let before = all(&world, 1);
    world.end_server("KILL");
    world.start_server();
    assert_eq!(all(&world, 2), before);
    let panes = world.tmux(&["list-panes", "-a", "-F", "#{pane_dead}"]).stdout;
    assert_eq!(String::from_utf8(panes).unwrap(), "0\n".repeat(count));
}

/// What is below this place of a world takes no write, while this lives. Over the folder itself: shims
/// have files open in it.
fn closed(world: &World, at: &str) -> Mount {
    let folder = world.at(at);
    let mount = Mount::new(folder.clone(), &["--bind", folder.to_str().unwrap()]);
    let closed = Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&folder).status();
    assert!(closed.unwrap().success());
    mount
}

#[test]
fn a_home_that_is_read_only_as_a_whole_ends_nothing_and_all_are_back_when_it_is_not() {
    let mut world = World::started();
    let id = world.told("a/one", "kelp");
    world.told("a/two", "reef");
    let before = world.session("a/two");
    let mounts = ["state", "config", "home"].map(|at| closed(&world, at));
    world.say("a/one", "exit 3");
    until("its crash", || !is_alive(world.births("a/one").first().unwrap().1));
    until("the reason", || text(&world.session("a/one"), "why").contains("Read-only file system"));
    let refused = world.try_declare("b/new", |_| {}).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    // What a person says is not acknowledged when it cannot be known after a power cut.
    let stop = world.call("Stop", json!({"name": "a/two"})).unwrap_err();
    assert!(stop.contains("Read-only file system"), "{stop}");
    world.kill_keeper();
    world.start_keeper();
    let two = world.until_state("a/two", "idle");
    assert_eq!(two.get("pid"), before.get("pid"));
    assert!(is_alive(number(&two, "pid")));
    assert_eq!(world.births("a/one").len(), 1);
    drop(mounts);
    until("its second birth", || world.births("a/one").len() == 2);
    assert_eq!(text(&world.until_state("a/one", "idle"), "conversation"), id);
    assert_eq!(world.session("a/two").get("pid"), before.get("pid"));
}
