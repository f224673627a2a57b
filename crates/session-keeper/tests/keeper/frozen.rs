//! A disk that hangs holds up the session that waits for it, and what is shown of that is what is on
//! the disk.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::places::{Frozen, Mount, sh};
use crate::world::{World, number, text, until};

/// A file system of its own at this place of a world.
fn mounted(world: &World, at: &str) -> Mount {
    let disk = world.at("disk");
    fs::File::create(&disk).unwrap().set_len(16 << 20).unwrap();
    sh(Path::new("/"), &format!("mkfs.ext4 -q {}", disk.display()));
    fs::create_dir_all(world.at(at)).unwrap();
    Mount::new(world.at(at), &["-o", "loop", disk.to_str().unwrap()])
}

/// Waits until the keeper is in the kernel, where nothing wakes it but the disk.
fn until_it_writes(world: &World) {
    let tasks = format!("/proc/{}/task", world.keeper.as_ref().unwrap().id());
    until("the write", || {
        let stat = |task: fs::DirEntry| fs::read_to_string(task.path().join("stat"));
        let mut tasks = fs::read_dir(&tasks).unwrap().flatten();
        tasks.any(|task| stat(task).is_ok_and(|stat| stat.contains(") D ")))
    });
}

fn shown(world: &World, name: &str) -> String {
    let option = ["display-message", "-p", "-t", &format!("={name}:"), "#{@guppy_state}"];
    String::from_utf8(world.tmux(&option).stdout).unwrap().trim().to_owned()
}

#[test]
fn a_disk_that_takes_its_time_keeps_nobody_waiting_who_only_asks() {
    let (world, _mount) = World::prepared(|world| mounted(world, "state"));
    world.told("a/one", "kelp");
    let before = world.session("a/one");
    let frozen = Frozen::new(world.at("state"));
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| world.call("Stop", json!({"name": "a/one"})));
        until_it_writes(&world);
        let meanwhile = world.session("a/one");
        assert_eq!(meanwhile.get("pid"), before.get("pid"));
        assert!(!stop.is_finished(), "it was acknowledged and is not on the disk");
        drop(frozen);
        stop.join().unwrap().unwrap();
    });
    world.until_state("a/one", "stopped");
}

#[test]
fn a_state_is_shown_when_what_was_learned_with_it_is_on_the_disk() {
    let (world, _mount) = World::prepared(|world| mounted(world, "state"));
    for name in ["a/one", "b/two"] {
        world.told(name, "kelp");
        world.until_state(name, "idle");
        until("its pane's state", || shown(&world, name) == "idle");
        // There is nothing else to be learned.
        let file = world.at("state/sessions").join(format!("{}.json", name.replace('/', "+")));
        until("its transcript", || {
            fs::read_to_string(&file).is_ok_and(|known| known.contains("\"transcribed\":true"))
        });
    }
    let frozen = Frozen::new(world.at("state"));
    // That it works must be known after a power cut.
    world.say("a/one", "busy");
    until_it_writes(&world);
    // That it waits need not: looks go on, and show it.
    world.say("b/two", "ask");
    world.until_state("b/two", "waiting");
    until("its pane's state", || shown(&world, "b/two") == "waiting");
    assert_eq!(text(&world.session("a/one"), "state"), "idle");
    assert_eq!(shown(&world, "a/one"), "idle");
    drop(frozen);
    world.until_state("a/one", "working");
    until("its pane's state", || shown(&world, "a/one") == "working");
}

#[test]
fn a_transcript_on_a_disk_that_hangs_holds_up_nobody_elses_start() {
    let (world, _mount) = World::prepared(|world| mounted(world, "home/.claude/projects"));
    let id = world.told("a/one", "kelp");
    world.declare("b/two", |intent| intent.agent = "shell".to_owned());
    world.until_state("b/two", "idle");
    // As a power cut leaves it: it is mended before its agent goes on.
    fs::write(world.transcript_path(&id), "kelp\n\0\0\0").unwrap();
    let frozen = Frozen::new(world.at("home/.claude/projects"));
    world.say("a/one", "exit 3");
    until_it_writes(&world);
    // What a shell says of a program that is not there: it has not ended by itself.
    world.say("b/two", "exit 127");
    until("a second start", || number(&world.session("b/two"), "starts") == 2);
    world.until_state("b/two", "idle");
    assert_eq!(world.births("a/one").len(), 1);
    drop(frozen);
    until("its second birth", || world.births("a/one").len() == 2);
    assert_eq!(text(&world.until_state("a/one", "idle"), "conversation"), id);
    assert_eq!(world.transcript(&id), "kelp\n");
}
