//! What follows from each way to end.

use std::time::Duration;

use super::world::{World, name};
use crate::decide::{Line, State};
use crate::intent::OnResume;
use crate::learned::Learned;
use crate::sense::{Activity, Outcome};
use crate::shim::REFUSED;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// One session, its agent started and with one turn behind it.
pub(super) fn running() -> World {
    let mut world = World::new("claude", 1);
    world.pass(5 * SECOND);
    assert_eq!(world.state("a/0"), State::Idle, "{}", world.why("a/0"));
    world.turn("a/0");
    world.pass(20 * SECOND);
    world
}

pub(super) fn starts(world: &World) -> usize {
    world.starts_of("a/0")
}

#[test]
fn a_new_session_starts_and_stays() {
    let mut world = running();
    world.pass(10 * HOUR);
    assert_eq!((starts(&world), world.wrongs.clone()), (1, vec![]));
}

#[test]
fn a_clean_exit_stays_stopped_even_after_a_reboot() {
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(0), false);
    world.pass(HOUR);
    world.power_cut();
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Stopped));
    assert!(world.why("a/0").contains("guppy start a/0"));

    let boot = world.now().0;
    world.place("a/0").learned.ask_start(&boot);
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Idle));
}

#[test]
fn a_clean_exit_that_nobody_saw_before_the_reboot_stays_stopped_too() {
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(0), false);
    world.power_cut();
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Stopped));
}

#[test]
fn crashes_back_off_and_are_parked_at_the_fifth() {
    let mut world = running();
    world.place("a/0").fails = Some((1, "boom"));
    world.agent_ends(&name("a/0"), Some(1), false);
    let begin = world.now;
    world.pass(24 * HOUR);
    let spans: Vec<_> =
        world.starts.iter().skip(1).map(|(_, at)| at.since(begin).as_secs()).collect();
    assert_eq!(spans, [30, 90, 210, 450]);
    assert_eq!(world.state("a/0"), State::Parked);
    assert!(world.why("a/0").contains("5 crashes within 15m; the last: it exited with 1: boom"));
}

#[test]
fn rare_crashes_are_forgotten() {
    let mut world = running();
    for _ in 0..20 {
        world.agent_ends(&name("a/0"), None, false);
        world.pass(HOUR);
        assert_eq!(world.state("a/0"), State::Idle);
        assert_eq!(world.place("a/0").learned.crashes.len(), 0);
    }
}

#[test]
fn a_usage_limit_is_parked_until_its_reset() {
    let mut world = running();
    let reset = world.now().1 + 7200;
    let text: &'static str = format!("Claude AI usage limit reached|{reset}").leak();
    world.place("a/0").fails = Some((1, text));
    world.agent_ends(&name("a/0"), None, false);
    world.pass(MINUTE);
    world.place("a/0").fails = None;
    world.pass(HOUR + 50 * MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Parked));
    world.pass(20 * MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (3, State::Idle));
}

#[test]
fn who_is_not_logged_in_is_parked_until_a_person_comes() {
    let mut world = World::new("claude", 1);
    world.place("a/0").fails = Some((1, "Invalid API key · Please run /login"));
    world.pass(24 * HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Parked));
    assert!(world.why("a/0").contains("not logged in"));
    world.place("a/0").fails = None;
    let boot = world.now().0;
    world.place("a/0").learned.ask_start(&boot);
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Idle);
}

#[test]
fn an_id_that_is_not_found_gets_one_new_conversation_visibly() {
    let mut world = running();
    let before = world.process("a/0").unwrap().conversation.clone();
    // The transcript is in the folder of another working directory: there, and not found.
    world.place("a/0").fails = Some((1, "No conversation found with session ID: x"));
    world.agent_ends(&name("a/0"), None, false);
    world.pass(31 * SECOND);
    world.place("a/0").fails = None;
    world.place("a/0").truth = None;
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Idle);
    assert!(world.why("a/0").contains("was not found: a new one was begun"));
    assert_eq!(world.place("a/0").learned.history, [before]);
    assert_eq!(starts(&world), 3);
}

#[test]
fn an_agent_that_only_speaks_of_a_conversation_that_was_not_found_keeps_its_own() {
    const WORDS: &str = "No conversation found with session ID: x";
    let mut world = running();
    let own = world.process("a/0").unwrap().conversation.clone();
    let crash = |world: &mut World, screen: &str| {
        world.place("a/0").screen = screen.to_owned();
        world.agent_ends(&name("a/0"), Some(1), false);
    };
    // Long after its start; then soon, with other words after it.
    world.pass(10 * MINUTE);
    crash(&mut world, WORDS);
    world.pass(31 * SECOND);
    crash(&mut world, &format!("{WORDS}\n\n1\n2\n3\n4\n5\n"));
    world.pass(5 * MINUTE);
    assert_eq!((world.state("a/0"), starts(&world)), (State::Idle, 3));
    assert_eq!(world.process("a/0").unwrap().conversation, own);
    assert_eq!(world.place("a/0").learned.history, []);
}

#[test]
fn a_limit_that_is_over_when_it_is_read_is_no_reason_to_wait_for_a_person() {
    let mut world = running();
    world.place("a/0").screen = "Claude AI usage limit reached|1750000000".to_owned();
    world.agent_ends(&name("a/0"), Some(1), false);
    world.pass(31 * SECOND);
    assert_eq!((world.state("a/0"), starts(&world)), (State::Idle, 2));
    // One that says so at each start is no other than one that crashes.
    world.place("a/0").fails = Some((1, "Claude AI usage limit reached|1750000000"));
    world.agent_ends(&name("a/0"), None, false);
    world.pass(24 * HOUR);
    assert_eq!((world.state("a/0"), starts(&world)), (State::Parked, 5));
}

#[test]
fn a_second_id_that_is_not_found_is_parked() {
    let mut world = running();
    world.place("a/0").fails = Some((1, "No conversation found with session ID: x"));
    world.agent_ends(&name("a/0"), None, false);
    world.pass(24 * HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (3, State::Parked));
}

#[test]
fn a_transcript_that_was_there_and_is_gone_is_told() {
    let mut world = running();
    world.transcripts.clear();
    world.agent_ends(&name("a/0"), None, false);
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Idle);
    assert!(world.why("a/0").contains("is gone"), "{}", world.why("a/0"));
}

#[test]
fn who_never_spoke_begins_the_same_conversation_again() {
    let mut world = World::new("claude", 1);
    world.pass(MINUTE);
    let id = world.process("a/0").unwrap().conversation.clone();
    world.power_cut();
    world.pass(MINUTE);
    assert_eq!(world.process("a/0").unwrap().conversation, id);
    assert_eq!(world.why("a/0"), "");
}

#[test]
fn who_was_cut_off_is_shown_and_is_sent_one_line_at_most() {
    for (on_resume, sent) in [(OnResume::Wait, vec![]), (OnResume::Continue, vec![Line::Continue])]
    {
        let mut world = running();
        world.intend(|intent| intent.on_resume = on_resume);
        world.process("a/0").unwrap().activity = Activity::Working;
        world.pass(MINUTE);
        for _ in 0..3 {
            world.power_cut();
            world.pass(MINUTE);
            assert_eq!(world.state("a/0"), State::Interrupted);
        }
        assert_eq!(world.place("a/0").sent, sent);
        // The person goes on; a cut in a later turn is another matter.
        world.process("a/0").unwrap().activity = Activity::Working;
        world.pass(MINUTE);
        world.turn("a/0");
        world.pass(MINUTE);
        assert_eq!(world.state("a/0"), State::Idle);
        world.process("a/0").unwrap().activity = Activity::Working;
        world.pass(MINUTE);
        world.power_cut();
        world.pass(MINUTE);
        assert_eq!(world.place("a/0").sent.len(), 2 * sent.len());
    }
}

#[test]
fn an_interruption_is_over_with_the_next_turn_however_short() {
    let mut world = running();
    world.process("a/0").unwrap().activity = Activity::Working;
    world.pass(MINUTE);
    world.power_cut();
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Interrupted);
    // Nobody has seen it at work.
    world.turn("a/0");
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Idle);
    world.power_cut();
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Idle);
}

#[test]
fn one_that_has_ended_well_was_not_cut_off_though_nobody_saw_its_turn_end() {
    let mut world = running();
    world.intend(|intent| intent.on_resume = OnResume::Continue);
    world.process("a/0").unwrap().activity = Activity::Working;
    world.pass(MINUTE);
    world.agent_ends(&name("a/0"), Some(0), false);
    world.pass(MINUTE);
    assert_eq!(world.state("a/0"), State::Stopped);
    world.place("a/0").learned.stopped = None;
    world.pass(MINUTE);
    assert_eq!((world.state("a/0"), world.place("a/0").sent.len()), (State::Idle, 0));
}

#[test]
fn a_line_is_due_again_after_a_turn_however_short() {
    let mut world = running();
    world.intend(|intent| intent.on_resume = OnResume::Continue);
    for cuts in 1..=3 {
        world.process("a/0").unwrap().activity = Activity::Working;
        world.pass(MINUTE);
        world.power_cut();
        world.pass(MINUTE);
        assert_eq!(world.place("a/0").sent.len(), cuts);
        // Nobody has seen it at work.
        world.turn("a/0");
        world.pass(MINUTE);
        assert_eq!(world.state("a/0"), State::Idle);
    }
}

#[test]
fn the_first_prompt_is_sent_once_and_never_again() {
    let mut world = World::new("claude", 1);
    world.intend(|intent| intent.prompt = Some("build it".to_owned()));
    world.pass(MINUTE);
    for _ in 0..3 {
        world.power_cut();
        world.pass(MINUTE);
    }
    assert_eq!(world.place("a/0").sent, [Line::Prompt]);
}

#[test]
fn a_stop_ends_the_agent_and_a_restart_is_no_crash() {
    let mut world = running();
    let moment = world.moment();
    world.place("a/0").learned.ask_restart(moment);
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Idle));
    assert!(world.place("a/0").learned.crashes.is_empty());
    let moment = world.moment();
    world.place("a/0").learned.ask_stop(moment);
    world.pass(HOUR);
    world.power_cut();
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Stopped));
    assert_eq!(world.wrongs, Vec::<String>::new());
}

#[test]
fn a_rotation_that_was_learned_only_now_is_looked_up_before_the_start() {
    let mut world = running();
    std::sync::Arc::make_mut(&mut world.agent).probe.clear();
    // To a conversation without a transcript, and down at once: the look before it saw neither.
    world.clear("a/0");
    world.server_ends(true, false);
    world.server_starts();
    world.pass(MINUTE);
    assert_eq!((world.state("a/0"), world.wrongs.clone()), (State::Idle, vec![]));
}

#[test]
fn without_autostart_it_waits_for_a_person_in_each_boot() {
    let mut world = World::new("claude", 1);
    world.intend(|intent| intent.autostart = false);
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (0, State::Stopped));
    let boot = world.now().0;
    world.place("a/0").learned.ask_start(&boot);
    world.pass(MINUTE);
    world.server_ends(true, false);
    world.server_starts();
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Idle));
    world.power_cut();
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Stopped));
}

#[test]
fn what_was_lost_with_the_keepers_file_is_in_the_report() {
    let mut world = running();
    let conversation = world.process("a/0").unwrap().conversation.clone();
    world.place("a/0").learned = Learned::default();
    world.pass(MINUTE);
    assert_eq!(world.place("a/0").learned.conversation, Some(conversation));
    assert_eq!((starts(&world), world.wrongs.clone()), (1, vec![]));
    world.power_cut();
    world.pass(MINUTE);
    assert_eq!((world.state("a/0"), world.wrongs.clone()), (State::Idle, vec![]));
}

#[test]
fn a_refusal_of_the_shims_is_parked_with_its_words() {
    let mut world = running();
    world.agent_ends(&name("a/0"), None, false);
    let report = world.place("a/0").report.as_mut().unwrap();
    report.outcome = Outcome::Refused("/home/alice/.keys: mode 0644: chmod 600".to_owned());
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Parked));
    assert!(world.why("a/0").contains("chmod 600"));
}

#[test]
fn what_a_shim_could_not_report_for_a_full_disk_its_pane_tells() {
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(0), false);
    world.place("a/0").report.as_mut().unwrap().outcome = Outcome::Started { pid: 1 };
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Stopped));

    // Nor could it read what to start.
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(i32::from(REFUSED)), false);
    world.place("a/0").learned.start += 1;
    let report = world.place("a/0").report.as_mut().unwrap();
    (report.start, report.outcome) = (0, Outcome::Refused("the launch is too large".to_owned()));
    world.pass(HOUR);
    assert_eq!((starts(&world), world.state("a/0")), (1, State::Parked));
    assert!(world.why("a/0").contains("too large"), "{}", world.why("a/0"));

    // It did not even start its agent: that is no crash of the agent's.
    let mut world = running();
    world.agent_ends(&name("a/0"), Some(i32::from(REFUSED)), false);
    world.place("a/0").learned.start += 1;
    world.pass(SECOND);
    assert!(world.why("a/0").contains("is the disk full?"), "{}", world.why("a/0"));
    world.pass(MINUTE);
    assert_eq!((starts(&world), world.state("a/0")), (2, State::Idle));
    assert!(world.place("a/0").learned.crashes.is_empty());
}
