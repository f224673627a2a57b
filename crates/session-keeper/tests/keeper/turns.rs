//! A turn that has ended outlives a power cut, also of agents that have no hooks to tell of its end.

use std::fs;
use std::os::unix::fs::symlink;

use crate::disk::{Disk, run};
use crate::world::{World, until};

/// What the agent's file says, in the words of aider's: its history is in the keeper's own folder.
const PLAIN: &str = "start = [\"plain\", \"{state}/plain/{name}.md\", \"{argv}\"]\n\
    [conversation]\nid = \"session\"\nturns = [\"{state}/plain/{name}.md\"]\n";
/// It writes down what it is told, as agents do: without fsync.
const PROGRAM: &str = "#!/bin/sh\nwhile read -r line; do echo \"$line\" >>\"$1\"; done\n";
/// Stands nowhere else on the disk.
const TOLD: &str = "walnut-5f0c1d-ended";

#[test]
#[ignore = "wants root, a loop device, FUSE and qemu-storage-daemon"]
fn a_turn_of_an_agent_without_hooks_is_on_the_disk_when_it_has_ended() {
    let (world, mut disk) = World::prepared(|world| {
        let disk = Disk::new(&world.at(""));
        fs::create_dir(world.at("mounted/plain")).unwrap();
        run("sync", &["-f", world.at("mounted").to_str().unwrap()]);
        symlink(world.at("mounted/plain"), world.at("state/plain")).unwrap();
        world.program("home/.local/bin/plain", PROGRAM);
        fs::write(world.at("config/agents.d/plain.toml"), PLAIN).unwrap();
        disk
    });
    world.declare("shop/fix", |intent| intent.agent = "plain".to_owned());
    world.until_state("shop/fix", "idle");
    world.say("shop/fix", TOLD);
    let history = world.at("mounted/plain/shop+fix.md");
    until("its turn", || fs::read_to_string(&history).is_ok_and(|said| said.contains(TOLD)));
    until("the flush", || disk.has_kept(TOLD));
    // It is one call that flushes first what is in the file, then where that is.
    let tasks = format!("/proc/{}/task", world.keeper.as_ref().unwrap().id());
    let fsync = format!("{} ", nix::libc::SYS_fsync);
    until("the end of the fsync", || {
        let mut tasks = fs::read_dir(&tasks).unwrap().flatten();
        !tasks.any(|task| {
            fs::read_to_string(task.path().join("syscall")).is_ok_and(|at| at.starts_with(&fsync))
        })
    });
    disk.cut();
    world.kill_everything();
    disk.power_on();
    assert_eq!(fs::read_to_string(&history).unwrap(), format!("{TOLD}\n"));
}
