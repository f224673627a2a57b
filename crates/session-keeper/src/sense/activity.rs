//! What a running agent does: from its registry, else from its hooks, else from its screen; and
//! which conversation it is in: from its registry, else from the file that it holds open, else from
//! its hooks.
//!
//! A screen is read only for what agents have no other word for: known dialogs, and the prompt of
//! agents that have neither registry nor hooks, or whose hooks have not spoken yet.

use super::{Activity, Own, open_file, registry};
use crate::agents::{Agent, Ready};
use crate::conversation::Conversation;
use crate::process::Identity;
use crate::report::{Phase, Report};

/// The last that hooks have said of a start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// The number of the start.
    pub start: u64,
    /// The conversation.
    pub conversation: Option<Conversation>,
    /// What the agent does.
    pub activity: Activity,
    /// A turn has begun.
    pub turned: bool,
    /// Its last turn ended with this error, and no other has begun: it lives, and waits for a
    /// person (a login that has run out, a limit).
    pub failed: Option<String>,
}

/// What the agent of a session says, without its screen.
pub(super) fn own(
    agent: &Agent,
    home: &std::path::Path,
    report: Option<&Report>,
    heard: Option<&Heard>,
) -> Own {
    let heard = heard.filter(|heard| report.is_some_and(|report| report.start == heard.start));
    let entry = report.and_then(|report| Some((report.pid?, report.start_time?))).and_then(
        |(pid, started)| {
            registry::read(agent, home, pid).filter(|entry| entry.process.start_time == started)
        },
    );
    let of_hooks = || heard.map(|heard| heard.activity.clone()).unwrap_or_default();
    let ended = report.is_some_and(|report| report.phase == Phase::Ended);
    let activity = match (agent.input.ready, &entry) {
        // What a dead one has left tells whether it was cut off in its turn.
        (Ready::Registry, Some(entry)) => entry.activity.clone(),
        // One that tidies up behind itself (SIGTERM) has said by a hook that its turn had ended.
        (Ready::Registry, None) if ended && of_hooks() == Activity::Idle => Activity::Idle,
        (Ready::Registry, None) => Activity::Starting,
        (Ready::Hooks, _) => of_hooks(),
        (Ready::Screen, _) => Activity::Starting,
        (Ready::Always, _) => Activity::Idle,
    };
    let failed = heard.and_then(|heard| heard.failed.as_ref());
    let activity = match (activity, failed) {
        (Activity::Idle, Some(error)) => Activity::Waiting(format!("its provider says {error}")),
        (activity, _) => activity,
    };
    let of_registry = entry.and_then(|entry| entry.conversation);
    let open = || {
        let process = Identity { pid: report?.pid?, start_time: report?.start_time? };
        let lives = Identity::of(process.pid).ok()? == process;
        lives.then(|| open_file::conversation(agent, home, process.pid)).flatten()
    };
    let of_hooks = || heard.and_then(|heard| heard.conversation.clone());
    let conversation = of_registry.or_else(open).or_else(of_hooks);
    let turned = heard.is_some_and(|heard| heard.turned);
    Own { conversation, activity, turned }
}

/// Whether the screen must be asked what the agent does.
pub(super) fn wants_screen(agent: &Agent, activity: &Activity) -> bool {
    match activity {
        Activity::Starting | Activity::Unknown => {
            let input = &agent.input;
            !agent.dialogs.is_empty() || input.ready == Ready::Screen || !input.shown.is_empty()
        }
        Activity::Idle | Activity::Working | Activity::Waiting(_) => false,
    }
}

/// What the screen says beyond that.
pub(super) fn by_screen(agent: &Agent, activity: Activity, screen: &str) -> Activity {
    if let Some(says) = is_dialog(agent, screen) {
        return Activity::Waiting(says.to_owned());
    }
    let last = screen.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let ready = |prompt: &String| last.trim_end() == prompt.trim_end();
    let input = &agent.input;
    let shows = |texts: &[String]| texts.iter().any(|text| screen.contains(text));
    let is_ready = match input.ready {
        Ready::Screen => input.screen.iter().any(ready),
        Ready::Hooks => shows(&input.shown) && !shows(&input.busy),
        Ready::Registry | Ready::Always => false,
    };
    match is_ready {
        true => Activity::Idle,
        // It has not drawn anything.
        false if input.ready == Ready::Hooks && last.is_empty() => Activity::Starting,
        false => activity,
    }
}

/// What the dialog asks that stands on a screen, if it is a known one.
pub fn is_dialog<'a>(agent: &'a Agent, screen: &str) -> Option<&'a str> {
    let dialog = agent.dialogs.iter().find(|dialog| screen.contains(&dialog.text))?;
    Some(&dialog.says)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::agents::Folders;

    fn shipped(name: &str) -> Agent {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        Folders(vec![folder.into()]).read_one(name).unwrap()
    }

    #[test]
    fn a_dialog_is_a_person_to_wait_for() {
        let claude = shipped("claude");
        let screen = " Quick safety check\n ❯ 1. Yes, I trust this folder\n   2. No, exit\n";
        let Activity::Waiting(what) = by_screen(&claude, Activity::Starting, screen) else {
            panic!()
        };
        assert!(what.contains("trust the folder"));
        assert_eq!(by_screen(&claude, Activity::Starting, "$ "), Activity::Starting);
        assert!(wants_screen(&claude, &Activity::Starting));
        assert!(!wants_screen(&claude, &Activity::Idle));
    }

    #[test]
    fn the_prompt_of_an_agent_without_a_registry_is_its_last_line() {
        let aider = shipped("aider");
        assert_eq!(by_screen(&aider, Activity::Starting, "Aider v0.86\n> \n\n"), Activity::Idle);
        let working = by_screen(&aider, Activity::Starting, "> do it\nThinking\n");
        assert_eq!(working, Activity::Starting);
        assert!(!wants_screen(&shipped("shell"), &Activity::Unknown));
    }

    #[test]
    fn an_agent_whose_hooks_have_not_spoken_yet_is_ready_when_it_shows_it() {
        let opencode = shipped("opencode");
        let drawn = " Ask anything\n\n   tab agents  ctrl+p commands\n ~/work\n";
        assert!(wants_screen(&opencode, &Activity::Unknown));
        assert_eq!(by_screen(&opencode, Activity::Unknown, drawn), Activity::Idle);
        assert_eq!(by_screen(&opencode, Activity::Unknown, " \n\n"), Activity::Starting);
        let works = format!("{drawn} esc interrupt");
        assert_eq!(by_screen(&opencode, Activity::Unknown, &works), Activity::Unknown);
        // What hooks say is known without its screen.
        assert!(!wants_screen(&opencode, &Activity::Working));
    }

    #[test]
    fn an_agent_that_has_tidied_up_was_in_no_turn_if_its_hooks_say_so() {
        let claude = shipped("claude");
        let mut report = Report::new(&crate::name::SessionName::parse("a/b").unwrap(), 2).unwrap();
        let heard = |activity| Heard { start: 2, activity, ..Heard::default() };
        let own = |report: &Report, activity| {
            own(&claude, "/nowhere".as_ref(), Some(report), Some(&heard(activity))).activity
        };
        report.phase = Phase::Started;
        assert_eq!(own(&report, Activity::Idle), Activity::Starting);
        report.phase = Phase::Ended;
        assert_eq!(own(&report, Activity::Idle), Activity::Idle);
        // A turn may have been ended by Escape, of which no hook tells.
        assert_eq!(own(&report, Activity::Working), Activity::Starting);
    }

    #[test]
    fn hooks_of_an_earlier_start_come_too_late() {
        let codex = shipped("codex");
        let mut report = Report::new(&crate::name::SessionName::parse("a/b").unwrap(), 2).unwrap();
        report.start = 2;
        let heard = |start| Heard {
            start,
            conversation: Conversation::parse("x1").ok(),
            activity: Activity::Working,
            turned: true,
            failed: None,
        };
        let own = |heard: &Heard| own(&codex, "/nowhere".as_ref(), Some(&report), Some(heard));
        assert_eq!(own(&heard(1)), Own::default());
        assert_eq!(own(&heard(2)).activity, Activity::Working);
        assert!(own(&heard(2)).conversation.is_some() && own(&heard(2)).turned);
    }
}
