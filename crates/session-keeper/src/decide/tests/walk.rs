//! A random walk: keepers killed between any two actions, agents that crash, leave orphans and
//! rotate, twins started by hand, servers and machines that go down. In every state that is
//! reached there is at most one process a conversation, and when the faults cease all converges.

use std::time::Duration;

use proptest::prelude::*;
use service::clock::Boottime;

use super::super::*;
use super::world::{World, name};
use crate::sense::Activity;

const SESSIONS: usize = 3;
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[derive(Clone, Debug)]
enum Event {
    Wait(u64),
    /// The keeper is killed after so many actions of one look.
    KeeperKilled(usize),
    Turn(usize),
    Busy(usize),
    Clear(usize),
    /// The agent exits with this; None: a signal.
    AgentEnds(usize, Option<i32>),
    /// Its shim is killed; what the agent has started lives on, in its conversation.
    ShimKilled(usize),
    /// A person resumes the conversation elsewhere; the twin then ends again.
    Twin(usize),
    TwinEnds,
    ServerKilled {
        reported: bool,
        stubborn: bool,
    },
    ServerStarts,
    PowerCut,
    Offline(bool),
    Blind(bool),
    PaneClosed(usize),
    Start(usize),
    Restart(usize),
    Stop(usize),
    WorktreeGone(usize),
    Fails(usize, bool),
    LearnedLost(usize),
}

fn event() -> impl Strategy<Value = Event> {
    let at = 0..SESSIONS;
    prop_oneof![
        6 => (1_u64..900).prop_map(Event::Wait),
        8 => (0_usize..5).prop_map(Event::KeeperKilled),
        3 => at.clone().prop_map(Event::Turn),
        2 => at.clone().prop_map(Event::Busy),
        3 => at.clone().prop_map(Event::Clear),
        3 => (at.clone(), prop::option::of(0..3)).prop_map(|(at, code)| Event::AgentEnds(at, code)),
        2 => at.clone().prop_map(Event::ShimKilled),
        2 => at.clone().prop_map(Event::Twin),
        2 => Just(Event::TwinEnds),
        2 => (any::<bool>(), any::<bool>())
            .prop_map(|(reported, stubborn)| Event::ServerKilled { reported, stubborn }),
        3 => Just(Event::ServerStarts),
        1 => Just(Event::PowerCut),
        1 => any::<bool>().prop_map(Event::Offline),
        1 => any::<bool>().prop_map(Event::Blind),
        1 => at.clone().prop_map(Event::PaneClosed),
        2 => at.clone().prop_map(Event::Start),
        1 => at.clone().prop_map(Event::Restart),
        1 => at.clone().prop_map(Event::Stop),
        1 => at.clone().prop_map(Event::WorktreeGone),
        1 => (at.clone(), any::<bool>()).prop_map(|(at, fails)| Event::Fails(at, fails)),
        1 => at.prop_map(Event::LearnedLost),
    ]
}

fn happen(world: &mut World, event: &Event) {
    let session = |at: &usize| format!("a/{at}");
    match event {
        Event::Wait(seconds) => world.pass(Duration::from_secs(*seconds)),
        Event::KeeperKilled(after) => {
            world.look(*after);
        }
        Event::Turn(at) => world.turn(&session(at)),
        Event::Busy(at) => {
            if let Some(process) = world.process(&session(at)) {
                process.activity = Activity::Working;
            }
        }
        Event::Clear(at) => world.clear(&session(at)),
        Event::AgentEnds(at, code) => world.agent_ends(&name(&session(at)), *code, false),
        Event::ShimKilled(at) => {
            if let Some(pid) = world.place(&session(at)).process.take() {
                world.processes.get_mut(&pid).unwrap().locked = None;
            }
        }
        Event::Twin(at) => {
            // A person who starts one beside a living one makes two of them: nobody can prevent it.
            let truth = world.place(&session(at)).truth.clone();
            let lives = |id| world.processes.values().any(|process| process.conversation == id);
            if truth.is_some_and(|id| !lives(id)) {
                world.start_twin(&session(at));
            }
        }
        Event::TwinEnds => world.processes.retain(|_, process| process.session.is_some()),
        Event::ServerKilled { reported, stubborn } => world.server_ends(*reported, *stubborn),
        Event::ServerStarts if world.server.is_none() => world.server_starts(),
        Event::ServerStarts => {}
        Event::PowerCut => world.power_cut(),
        Event::Offline(offline) => world.online = !offline,
        Event::Blind(blind) => world.blind = *blind,
        Event::PaneClosed(at) => {
            world.agent_ends(&name(&session(at)), None, false);
            world.place(&session(at)).pane = None;
        }
        Event::Start(at) => {
            let boot = world.now().0;
            world.place(&session(at)).learned.ask_start(&boot);
        }
        Event::Restart(at) => {
            let moment = world.moment();
            world.place(&session(at)).learned.ask_restart(moment);
        }
        Event::Stop(at) => {
            let moment = world.moment();
            world.place(&session(at)).learned.ask_stop(moment);
        }
        Event::WorktreeGone(at) => world.place(&session(at)).worktree = false,
        Event::Fails(at, fails) => {
            world.place(&session(at)).fails = fails.then_some((1, "boom"));
        }
        // Only what is on the disk beside it is left: the report, with the conversation.
        Event::LearnedLost(at) => world.place(&session(at)).learned = Learned::default(),
    }
}

/// No session starts oftener than its policy allows, whatever happens: counted between what a
/// person asks and what the world does to it.
fn busiest_hour(world: &World) -> usize {
    let count = |from: &Boottime| {
        let within = |at: &Boottime| at >= from && at.since(*from) < HOUR;
        world.starts.iter().filter(|(_, at)| within(at)).count()
    };
    world.starts.iter().map(|(_, at)| count(at)).max().unwrap_or(0)
}

fn cease(world: &mut World) {
    world.online = true;
    world.blind = false;
    world.processes.retain(|_, process| process.session.is_some());
    if world.server.is_none() {
        world.server_starts();
    }
    for place in world.places.values_mut() {
        place.worktree = true;
        place.fails = None;
    }
    world.pass(2 * HOUR);
}

fn walk(events: &[Event], locks: bool) -> Result<(), TestCaseError> {
    let mut world = World::new("claude", SESSIONS);
    world.locks = locks;
    world.config.starts.per_hour = 40;
    world.config.tick = 5 * MINUTE;
    for event in events {
        happen(&mut world, event);
        prop_assert_eq!(&world.wrongs, &Vec::<String>::new(), "after {:?}", event);
        prop_assert!(busiest_hour(&world) <= 40);
    }
    cease(&mut world);
    prop_assert_eq!(&world.wrongs, &Vec::<String>::new(), "after all");
    for at in 0..SESSIONS {
        let session = format!("a/{at}");
        let state = world.state(&session);
        let why = world.why(&session).to_owned();
        let lives = world.process(&session).is_some();
        let rests = matches!(state, State::Stopped | State::Parked);
        prop_assert!(lives != rests, "{}: {:?} {}", session, state, why);
    }
    let starts = world.starts.len();
    world.pass(10 * HOUR);
    prop_assert_eq!(world.starts.len(), starts, "a quiet world stays as it is");
    prop_assert!(world.standings.values().all(|standing| standing.state != State::Due));
    Ok(())
}

fn cases() -> ProptestConfig {
    let cases = if std::env::var_os("GUPPY_FULL").is_some() { 20_000 } else { 100 };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn one_process_a_conversation_whatever_happens(
        events in prop::collection::vec(event(), 1..60)
    ) {
        walk(&events, true)?;
    }

    /// What `decide` sees is enough by itself: the lock is for what happens between two looks.
    #[test]
    fn also_without_the_shims_lock(events in prop::collection::vec(event(), 1..60)) {
        walk(&events, false)?;
    }
}

#[test]
fn a_keeper_killed_at_every_step_of_a_start_doubles_nothing() {
    for done in 0..200 {
        let mut world = World::new("claude", SESSIONS);
        for look in 0..20 {
            world.look((done + look) % 4);
            world.now = world.now + Duration::from_secs(3);
        }
        world.pass(10 * MINUTE);
        for session in ["a/0", "a/1", "a/2"] {
            assert_eq!(world.starts_of(session), 1, "{done}: {}", world.why(session));
        }
        assert_eq!(world.wrongs, Vec::<String>::new());
    }
}
