//! Several users on one machine, each with a keeper: they share its starts.

use std::time::Duration;

use service::clock::Boottime;

use super::world::World;
use crate::decide::State;
use crate::sense::Starts;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// One that has started so many agents lately, and last wanted to then.
fn neighbour(starts: usize, wanted: Boottime) -> Starts {
    Starts { boot: "boot-1".to_owned(), wanted, starts: vec![wanted; starts] }
}

fn spans(world: &World) -> Vec<Duration> {
    let later = world.starts.iter().skip(1);
    world.starts.iter().zip(later).map(|(one, two)| two.1.since(one.1)).collect()
}

#[test]
fn keepers_that_all_start_agents_take_turns() {
    let mut world = World::new("claude", 4);
    let wanted = world.now;
    world.neighbours = vec![neighbour(1, wanted), neighbour(0, wanted)];
    world.pass(30 * SECOND);
    let stagger = world.config.starts.stagger;
    assert_eq!(spans(&world), [3 * stagger; 3]);

    // Who has started all of its own a while ago takes no turn.
    let mut world = World::new("claude", 4);
    let wanted = world.now;
    world.now = world.now + 2 * MINUTE;
    world.neighbours = vec![neighbour(1, wanted)];
    world.pass(30 * SECOND);
    assert_eq!(spans(&world), [stagger; 3]);
}

#[test]
fn what_others_start_counts_and_whoever_claims_it_all_takes_no_more_than_a_share() {
    let mut world = World::new("claude", 6);
    world.config.starts.per_hour = 8;
    // All of it, and of the future too.
    let far = Boottime::from_millis(u64::MAX);
    world.neighbours = vec![neighbour(1000, world.now), neighbour(1000, far)];
    world.pass(10 * MINUTE);
    assert_eq!(world.starts.len(), 2);
    assert_eq!(world.state("a/5"), State::Due);
    let why = "2 starts and 2000 of other users in the last hour (starts.per_hour)";
    assert_eq!(world.why("a/5"), why);
    // What is left of the hour is anybody's.
    world.neighbours = vec![neighbour(3, world.now)];
    world.pass(10 * MINUTE);
    assert_eq!(world.starts.len(), 5);
    world.neighbours.clear();
    world.pass(10 * MINUTE);
    assert_eq!(world.starts.len(), 6);
}

#[test]
fn starts_of_an_hour_ago_are_nobodys() {
    let mut world = World::new("claude", 3);
    world.config.starts.per_hour = 2;
    world.neighbours = vec![neighbour(2, world.now)];
    world.pass(10 * MINUTE);
    assert_eq!(world.starts.len(), 1);
    world.pass(HOUR);
    assert_eq!(world.starts.len(), 3);
}
