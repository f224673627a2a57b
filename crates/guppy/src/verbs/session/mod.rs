//! The verbs for sessions, one file each where it is more than a question.

use std::path::Path;
use std::time::Duration;

use guppy_session_keeper::api::{SessionKeeper, SessionLine};
use guppy_session_keeper::name::SessionName;
use guppy_session_keeper::paths::Paths;

use crate::cli::SessionVerb;
use crate::keeper::{ask, installed, paths, tell, until};
use crate::report::{Failure, Report};
use crate::table::printable;
use crate::verbs::wait_for;

mod agents;
mod attach;
mod ls;
mod new;
mod rm;
mod text;

/// A stop takes no longer, unless the agent does not heed it: then it is killed after ten seconds.
pub(super) const STOPS_WITHIN: Duration = Duration::from_secs(30);
/// A start waits for its turn, for the network and for a login shell.
const STARTS_WITHIN: Duration = Duration::from_secs(60);

/// Runs the verb.
///
/// # Errors
/// What it could not do.
pub fn run(socket: Option<&Path>, verb: SessionVerb) -> Result<Report, Failure> {
    installed()?;
    let paths = paths(socket)?;
    match verb {
        SessionVerb::New(new) => wait_for(new::run(&paths, *new)),
        SessionVerb::Ls { git } => wait_for(ls::run(&paths, git)),
        SessionVerb::Attach { name } => attach::run(&paths, &name),
        SessionVerb::Stop { name } => wait_for(stop(&paths, &name)),
        SessionVerb::Start { name } => wait_for(start(&paths, &name)),
        SessionVerb::Restart { name } => wait_for(restart(&paths, &name)),
        SessionVerb::Rm { name, keep_worktree } => wait_for(rm::run(&paths, &name, keep_worktree)),
        SessionVerb::Logs { name, lines } => wait_for(text::logs(&paths, &name, lines)),
        SessionVerb::Send { name, text } => wait_for(text::send(&paths, &name, &text)),
        SessionVerb::Agents(arguments) => agents::run(&paths, arguments),
    }
}

async fn stop(paths: &Paths, name: &SessionName) -> Result<Report, Failure> {
    let text = name.to_string();
    tell(paths, async |mut keeper| keeper.stop(&text).await).await?;
    let line = until(paths, &text, STOPS_WITHIN, |line| line.state == "stopped").await?;
    say(&line)
}

async fn start(paths: &Paths, name: &SessionName) -> Result<Report, Failure> {
    let text = name.to_string();
    tell(paths, async |mut keeper| keeper.start(&text).await).await?;
    say(&until(paths, &text, STARTS_WITHIN, is_settled).await?)
}

async fn restart(paths: &Paths, name: &SessionName) -> Result<Report, Failure> {
    let text = name.to_string();
    let listing = ask(paths, async |mut keeper| keeper.list().await).await?;
    let line = listing.sessions.iter().find(|line| line.name == text);
    // One that is not there is the keeper's to refuse, in its words.
    let before = line.map_or(0, |line| line.starts);
    tell(paths, async |mut keeper| keeper.restart(&text).await).await?;
    let again = |line: &SessionLine| line.starts > before && is_settled(line) || is_held(line);
    say(&until(paths, &text, STARTS_WITHIN, again).await?)
}

/// It runs, or has run (a command that was soon done), or needs a person. Where it stood before it
/// was asked for is not listed any more.
fn is_settled(line: &SessionLine) -> bool {
    const SETTLED: [&str; 6] = ["working", "waiting", "idle", "interrupted", "running", "stopped"];
    SETTLED.contains(&line.state.as_str()) || is_held(line)
}

fn is_held(line: &SessionLine) -> bool {
    matches!(line.state.as_str(), "blocked" | "parked")
}

/// One session, in one line.
fn say(line: &SessionLine) -> Result<Report, Failure> {
    let why = match line.why.as_str() {
        "" => String::new(),
        why => format!(": {}", printable(why)),
    };
    let mut report = Report::new(format!("{} {}{why}\n", line.name, line.state), line)?;
    if is_held(line) {
        report.code = crate::report::Code::Failed;
    }
    Ok(report)
}
