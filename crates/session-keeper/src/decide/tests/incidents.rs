//! What has gone wrong for users of other tools, each as a scene. The links are to the reports.

use std::time::Duration;

use super::super::State;
use super::world::{World, name};
use crate::sense::{Activity, Outcome};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Incident {
    link: &'static str,
    what: &'static str,
    /// Three claude sessions in one directory run, with a turn behind each.
    scene: fn(&mut World),
    /// Starts of `a/0`, `a/1` and `a/2` since the scene began.
    starts: [usize; 3],
    /// Where they stand after it.
    states: [State; 3],
}

const ALL_IDLE: [State; 3] = [State::Idle; 3];

const INCIDENTS: [Incident; 18] = [
    Incident {
        link: "https://github.com/tmux-plugins/tmux-resurrect/issues/571",
        what: "agents came back as fresh chats",
        scene: |world| {
            world.power_cut();
            world.pass(5 * MINUTE);
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/imbue-ai/mngr/issues/1309",
        what: "with its worktree gone, an agent started in the home directory",
        scene: |world| {
            world.place("a/0").worktree = false;
            world.power_cut();
            world.pass(HOUR);
            assert!(world.why("a/0").contains("mkdir -p /home/alice/shop"));
        },
        starts: [0, 1, 1],
        states: [State::Blocked, State::Idle, State::Idle],
    },
    Incident {
        link: "https://github.com/tmux-plugins/tmux-continuum/issues/159",
        what: "a save before the restore had finished wrote down an empty world",
        scene: |world| {
            world.power_cut();
            world.server = None;
            world.pass(HOUR);
            world.server_starts();
            world.pass(MINUTE);
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/tmux-plugins/tmux-continuum/issues/84",
        what: "sessions multiplied with each restart of the service",
        scene: |world| {
            world.power_cut();
            for done in 0..40 {
                // A keeper that is killed after so many of its actions; the next one begins anew.
                world.look(done % 4);
                world.pass(SECOND);
            }
            world.pass(5 * MINUTE);
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/anthropics/claude-code/issues/39151",
        what: "two processes resumed one conversation",
        scene: |world| {
            world.agent_ends(&name("a/0"), None, false);
            let twin = world.start_twin("a/0");
            world.pass(HOUR);
            assert!(world.why("a/0").contains(&format!("open in process {twin}")));
            assert_eq!((world.state("a/0"), world.starts_of("a/0")), (State::Due, 1));
            world.processes.remove(&twin);
            world.pass(MINUTE);
        },
        starts: [1, 0, 0],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/eltmon/overdeck/issues/3539",
        what: "one agent out of memory took all others with it",
        scene: |world| {
            world.agent_ends(&name("a/1"), None, false);
            let report = world.place("a/1").report.as_mut().unwrap();
            let Outcome::Ended { oom, .. } = &mut report.outcome else { panic!() };
            *oom = true;
            world.pass(MINUTE);
        },
        starts: [0, 1, 0],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/asheshgoplani/agent-deck/issues/2219",
        what: "stopping the agent that was first ended all of them",
        scene: |world| {
            let moment = world.moment();
            world.place("a/0").learned.ask_stop(moment);
            world.pass(HOUR);
        },
        starts: [0, 0, 0],
        states: [State::Stopped, State::Idle, State::Idle],
    },
    Incident {
        link: "https://github.com/alamops/agetor/pull/88",
        what: "a server that was busy for a moment was taken for one without the session",
        scene: |world| {
            world.blind = true;
            world.pass(HOUR);
            assert_eq!(world.state("a/0"), State::Unknown);
            world.blind = false;
            world.pass(MINUTE);
        },
        starts: [0, 0, 0],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/herdrdev/herdr/issues/619",
        what: "after /clear the old conversation was resumed",
        scene: |world| {
            world.clear("a/0");
            world.turn("a/0");
            world.power_cut();
            world.pass(MINUTE);
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/herdrdev/herdr/issues/826",
        what: "after an exit the id of the conversation was no longer known",
        scene: |world| {
            world.blind = true;
            world.pass(MINUTE);
            world.blind = false;
            world.agent_ends(&name("a/0"), None, false);
            world.pass(MINUTE);
        },
        starts: [1, 0, 0],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/gastownhall/gastown/issues/3398",
        what: "a usage limit was answered with instant restarts for hours",
        scene: |world| {
            world.place("a/0").fails = Some((1, "Claude AI usage limit reached"));
            world.agent_ends(&name("a/0"), Some(1), false);
            world.pass(24 * HOUR);
        },
        starts: [1, 0, 0],
        states: [State::Parked, State::Idle, State::Idle],
    },
    Incident {
        link: "https://github.com/EdanStarfire/claudecode_webui/issues/1017",
        what: "a stale resume looped for ever",
        scene: |world| {
            world.place("a/0").fails = Some((1, "No conversation found with session ID: x"));
            world.agent_ends(&name("a/0"), None, false);
            world.pass(24 * HOUR);
        },
        starts: [2, 0, 0],
        states: [State::Parked, State::Idle, State::Idle],
    },
    Incident {
        link: "https://github.com/gastownhall/gastown/issues/566",
        what: "without a check for one that runs, agents were spawned without bound",
        scene: |world| {
            world.server_ends(false, true);
            world.server_starts();
            world.pass(HOUR);
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/dotdevdotdev/agentwire-dev/issues/274",
        what: "a dialog stood unseen for 11 hours",
        scene: |world| {
            let dialog = Activity::Waiting("asks whether it may trust the folder".to_owned());
            world.process("a/0").unwrap().activity = dialog;
            world.pass(HOUR);
            assert!(world.why("a/0").contains("trust the folder"));
            assert_eq!(world.place("a/0").sent, []);
        },
        starts: [0, 0, 0],
        states: [State::Waiting, State::Idle, State::Idle],
    },
    Incident {
        link: "https://github.com/herdrdev/herdr/issues/4102",
        what: "25 agents started at once and starved each other",
        scene: |world| {
            world.power_cut();
            world.pass(5 * MINUTE);
            for pair in world.starts.windows(2) {
                let [one, two] = pair else { panic!() };
                assert!(two.1.since(one.1) >= world.config.starts.stagger, "{pair:?}");
            }
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/tailscale/golink/issues/109",
        what: "\"online\" was said before the network was there",
        scene: |world| {
            world.power_cut();
            world.online = false;
            world.pass(2 * HOUR);
            assert_eq!((world.state("a/0"), world.starts_of("a/0")), (State::Due, 1));
            assert!(world.why("a/0").contains("api.anthropic.com:443: timed out"));
            world.online = true;
            world.pass(MINUTE);
            assert!(world.place("a/0").learned.crashes.is_empty());
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
    Incident {
        link: "https://github.com/anthropics/claude-code/issues/69364",
        what: "nothing kept two sessions out of one conversation",
        scene: |world| {
            let conversation = world.place("a/0").learned.conversation.clone();
            world.agent_ends(&name("a/1"), None, false);
            world.place("a/1").truth.clone_from(&conversation);
            world.place("a/1").learned.move_to(conversation);
            world.pass(HOUR);
            assert!(world.why("a/1").contains("is that of session a/0"));
        },
        starts: [0, 0, 0],
        states: [State::Idle, State::Blocked, State::Idle],
    },
    Incident {
        link: "https://github.com/coder/registry/pull/742",
        what: "the first prompt was sent again with each resume",
        scene: |world| {
            world.intend(|intent| intent.prompt = Some("build it".to_owned()));
            world.pass(MINUTE);
            world.power_cut();
            world.pass(MINUTE);
            assert_eq!(world.place("a/0").sent.len(), 1);
        },
        starts: [1, 1, 1],
        states: ALL_IDLE,
    },
];

#[test]
fn no_incident_of_the_other_tools_happens_here() {
    const NAMES: [&str; 3] = ["a/0", "a/1", "a/2"];
    for incident in INCIDENTS {
        let mut world = World::new("claude", 3);
        world.pass(20 * SECOND);
        for session in NAMES {
            world.turn(session);
        }
        world.pass(20 * SECOND);
        let before = NAMES.map(|session| world.starts_of(session));
        (incident.scene)(&mut world);
        let after = NAMES.map(|session| world.starts_of(session));
        let starts = [0, 1, 2].map(|at: usize| after.get(at).unwrap() - before.get(at).unwrap());
        let whys = NAMES.map(|session| world.why(session).to_owned());
        let at = format!("{}: {} {whys:?}", incident.link, incident.what);
        assert_eq!(starts, incident.starts, "{at}");
        assert_eq!(NAMES.map(|session| world.state(session)), incident.states, "{at}");
        assert_eq!(world.wrongs, Vec::<String>::new(), "{at}");
    }
}
