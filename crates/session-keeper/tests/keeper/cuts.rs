//! The power goes while the keeper writes: what it has acknowledged is on the disk, and what is on
//! the disk can be read.

use std::collections::BTreeSet;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use guppy_session_keeper::intent;
use guppy_session_keeper::learned::{self, Stop};
use guppy_session_keeper::name::SessionName;
use serde_json::json;

use crate::disk::{Disk, run};
use crate::world::{World, number, text, until};

/// What the keeper, or `guppy new`, has said to be so.
#[derive(Clone, Default)]
struct Acknowledged {
    /// `shop/stopped` was stopped, or started.
    stopped: Option<bool>,
    /// So many starts of `shop/restarted` were shown.
    starts: u64,
    /// Conversations of `shop/cleared` that were shown, the latest last.
    conversations: Vec<String>,
    /// Sessions that were declared.
    declared: BTreeSet<String>,
}

/// Has the keeper write all the time, until it is gone.
fn churn(world: &World, seen: &Mutex<Acknowledged>, round: u64) {
    for at in 0.. {
        let stopped = at % 2 == 0;
        let order = if stopped { "Stop" } else { "Start" };
        // From the moment that it is asked either may be so; from the answer on, the new one.
        seen.lock().unwrap().stopped = None;
        if world.call(order, json!({"name": "shop/stopped"})).is_err() {
            return;
        }
        seen.lock().unwrap().stopped = Some(stopped);

        let _ = world.call("Restart", json!({"name": "shop/restarted"}));
        let new = format!("0190f3c2-7a11-4000-8000-{round:06x}{at:06x}");
        if let Some(pane) = seen_pane(world) {
            world.tmux(&["send-keys", "-t", &pane, &format!("clear {new}"), "Enter"]);
        }
        let name = format!("new/{round}-{at}");
        if world.try_declare(&name, |intent| intent.autostart = false).is_err() {
            return;
        }
        seen.lock().unwrap().declared.insert(name);

        let Ok(listing) = world.call("List", json!({})) else { return };
        let mut seen = seen.lock().unwrap();
        for session in listing.get("sessions").and_then(|list| list.as_array()).unwrap() {
            match text(session, "name") {
                "shop/restarted" => seen.starts = seen.starts.max(number(session, "starts")),
                "shop/cleared" => {
                    let id = text(session, "conversation").to_owned();
                    if !id.is_empty() && seen.conversations.last() != Some(&id) {
                        seen.conversations.push(id);
                    }
                }
                _ => {}
            }
        }
    }
}

fn seen_pane(world: &World) -> Option<String> {
    let pane = ["display-message", "-p", "-t", "=shop/cleared:", "#{pane_id}"];
    let pane = String::from_utf8(world.tmux(&pane).stdout).unwrap();
    (!pane.trim().is_empty()).then(|| pane.trim().to_owned())
}

#[test]
#[ignore = "wants root, a loop device, FUSE and qemu-storage-daemon"]
fn no_power_cut_loses_what_was_acknowledged() {
    let cuts = if std::env::var_os("GUPPY_FULL").is_some() { 50 } else { 5 };
    let (mut world, mut disk) = World::prepared(|world| {
        let disk = Disk::new(&world.at(""));
        for (name, path) in [("state", "state"), ("sessions.d", "config/sessions.d")] {
            fs::create_dir(world.at("mounted").join(name)).unwrap();
            fs::remove_dir(world.at(path)).unwrap();
            std::os::unix::fs::symlink(world.at("mounted").join(name), world.at(path)).unwrap();
        }
        run("sync", &["-f", world.at("mounted").to_str().unwrap()]);
        disk
    });
    let sessions = ["shop/stopped", "shop/restarted", "shop/cleared"];
    for name in sessions {
        world.declare(name, |_| {});
        world.until_state(name, "idle");
    }
    let (mut unflushed, mut lost) = (0, 0);
    let mut all = Acknowledged::default();
    for round in 0..cuts {
        let seen = Mutex::new(all.clone());
        // At a random moment, from the first write on.
        let moment = RandomState::new().hash_one(round) % 1500;
        let begin = Instant::now();
        let cut = std::thread::scope(|scope| {
            scope.spawn(|| churn(&world, &seen, round));
            until("its moment", || begin.elapsed() >= Duration::from_millis(moment));
            let cut = disk.cut();
            world.kill_everything();
            cut
        });
        (unflushed, lost) = (unflushed + cut.unflushed, lost + cut.lost);
        all = seen.into_inner().unwrap();
        disk.power_on();
        check(&world, &all);

        world.forget_processes();
        world.start_server();
        world.start_keeper();
        for name in ["shop/restarted", "shop/cleared"] {
            world.until_state(name, "idle");
        }
        // What is there now is what later cuts must not lose.
        all.conversations.clear();
        for name in std::mem::take(&mut all.declared) {
            fs::remove_file(file_of(&world, &name)).unwrap();
        }
    }
    assert!(all.starts > 0, "nothing was ever acknowledged");
    println!("{cuts} cuts, {unflushed} blocks unflushed, {lost} of them lost");
}

fn file_of(world: &World, name: &str) -> PathBuf {
    intent::path_of(&world.at("config/sessions.d"), &SessionName::parse(name).unwrap())
}

fn check(world: &World, seen: &Acknowledged) {
    let learned = |name: &str| {
        let stem = SessionName::parse(name).unwrap().file_stem();
        let read = learned::read(&learned::path_of(&world.at("state"), &stem)).unwrap();
        assert_eq!(read.wrong, None);
        read.learned
    };
    for entry in fs::read_dir(world.at("state/sessions")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(stem) = name.strip_suffix(".json") {
            learned(&SessionName::from_file_stem(stem).unwrap().to_string());
        }
    }
    if let Some(stopped) = seen.stopped {
        let now = learned("shop/stopped").stopped;
        assert_eq!(now == Some(Stop::Person), stopped, "{now:?}");
    }
    let starts = learned("shop/restarted").start;
    assert!(starts >= seen.starts, "start {starts}, and {} was shown", seen.starts);
    let cleared = learned("shop/cleared");
    let known: Vec<String> =
        cleared.history.iter().chain(&cleared.conversation).map(ToString::to_string).collect();
    for id in seen.conversations.iter().rev().take(learned::HISTORY_AT_MOST / 2) {
        assert!(known.contains(id), "{id} is not among {known:?}");
    }
    for name in &seen.declared {
        intent::read_one(&file_of(world, name)).unwrap();
    }
}
