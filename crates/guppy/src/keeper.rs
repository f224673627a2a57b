//! The user's session keeper, and how it is asked. Unlike the other agents of a box there is one
//! for each user, and most verbs can tell something without it.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::time::Duration;

use guppy_session_keeper::api::{self, Listing, SessionKeeper};
use guppy_session_keeper::config::Config;
use guppy_session_keeper::keeper::Keeper;
use guppy_session_keeper::paths::{LIBEXEC, Paths, user_name};
use guppy_session_keeper::sense::Looker;
use guppy_session_keeper::tmux::Tmux;
use service::clock::Clock;
use service::config::Live;
use zlink::tokio::unix::{self, Connection};

use crate::agent::not_installed;
use crate::bus::{Answer, Bus};
use crate::report::{Code, Failure};

/// The name of its package, and of its units.
pub const PACKAGE: &str = "guppy-session-keeper";

/// It answers at once, where the machine lets it: one that starts twenty agents, or is emulated, may
/// take its time. Longer than the other agents of a box get: those have less to do.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);
/// What a person wants is on the disk before the keeper says so, and a disk that is busy takes longer
/// than a processor.
const WRITES_WITHIN: Duration = Duration::from_secs(120);
/// An agent that runs is ready when it has drawn: aider and opencode have taken more than a minute for
/// that where two processors had a load of ten.
const DRAWS_WITHIN: Duration = Duration::from_secs(240);

/// How to see that it runs.
const SEE: &str = "see: systemctl status guppy-session-keeper@$USER";

/// What a user has forgotten for whom it never ran.
pub const BEGIN: &str = "begin it: sudo systemctl enable --now guppy-session-keeper@$USER";

/// The user's places; `socket` is the command line's.
///
/// # Errors
/// The user has no home.
pub fn paths(socket: Option<&Path>) -> Result<Paths, Failure> {
    let mut paths =
        Paths::of_this_user().map_err(|error| Failure::new(Code::Failed, error.to_string()))?;
    if let Some(socket) = socket {
        paths.socket = socket.to_owned();
    }
    Ok(paths)
}

/// Where the shim and the hook are.
pub fn libexec() -> PathBuf {
    std::env::var_os(LIBEXEC).map_or_else(|| "/usr/libexec/guppy".into(), PathBuf::from)
}

/// Whether its package is installed on this box.
pub fn is_installed() -> bool {
    libexec().join("guppy-session-shim").exists()
}

/// The unit of this user's keeper, where the user has a name.
pub fn own_unit() -> Option<String> {
    user_name().ok().map(|user| format!("{PACKAGE}@{user}.service"))
}

/// The units of all users' keepers that systemd has loaded, with ActiveState and SubState.
///
/// # Errors
/// There is no bus, or systemd does not answer.
pub async fn units(bus: &Answer<Bus>) -> Answer<Vec<(String, (String, String))>> {
    let bus = bus.as_ref().map_err(Clone::clone)?;
    bus.units(&format!("{PACKAGE}@*.service")).await
}

/// How many sessions there are, and how they stand.
pub fn summary(listing: &Listing) -> String {
    let mut counts = BTreeMap::new();
    for line in &listing.sessions {
        *counts.entry(line.state.as_str()).or_insert(0) += 1;
    }
    let counts: Vec<_> = counts.iter().map(|(state, count)| format!("{count} {state}")).collect();
    if counts.is_empty() { "no sessions yet".to_owned() } else { counts.join(", ") }
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody is there to be asked.
    Absent(String),
    /// It said no, or nothing.
    Failed(Failure),
}

impl From<NoAnswer> for Failure {
    fn from(none: NoAnswer) -> Self {
        match none {
            NoAnswer::Absent(why) => Self::new(Code::Failed, why),
            NoAnswer::Failed(failure) => failure,
        }
    }
}

/// Asks one thing.
///
/// # Errors
/// [`NoAnswer`].
pub async fn ask<T, F>(paths: &Paths, question: impl FnOnce(Connection) -> F) -> Result<T, NoAnswer>
where
    F: Future<Output = zlink::Result<Result<T, api::Error>>>,
{
    ask_within(ANSWERS_WITHIN, paths, question).await
}

/// Tells it what a person wants, which it writes down.
///
/// # Errors
/// [`NoAnswer`].
pub async fn tell<F>(paths: &Paths, order: impl FnOnce(Connection) -> F) -> Result<(), NoAnswer>
where
    F: Future<Output = zlink::Result<Result<(), api::Error>>>,
{
    ask_within(WRITES_WITHIN, paths, order).await
}

/// The same of what takes the keeper more than a moment.
///
/// # Errors
/// [`NoAnswer`].
pub async fn ask_within<T, F>(
    within: Duration,
    paths: &Paths,
    question: impl FnOnce(Connection) -> F,
) -> Result<T, NoAnswer>
where
    F: Future<Output = zlink::Result<Result<T, api::Error>>>,
{
    let path = &paths.socket;
    let answer = async {
        let connection = unix::connect(path).await.map_err(|error| {
            let why = format!(
                "the keeper cannot be reached at {} ({error}); {SEE}, or {BEGIN}",
                path.display()
            );
            NoAnswer::Absent(why)
        })?;
        question(connection).await.map_err(|error| {
            let why = format!("the keeper gave no answer ({error}); {SEE}");
            NoAnswer::Failed(Failure::new(Code::Failed, why))
        })
    };
    match tokio::time::timeout(within, answer).await {
        Ok(Ok(Ok(answer))) => Ok(answer),
        Ok(Ok(Err(no))) => Err(NoAnswer::Failed(Failure::new(code(&no), no))),
        Ok(Err(none)) => Err(none),
        Err(_) => {
            let why = format!("the keeper did not answer within {within:?}; {SEE}");
            Err(NoAnswer::Failed(Failure::new(Code::Unhealthy, why)))
        }
    }
}

const fn code(no: &api::Error) -> Code {
    match no {
        api::Error::Refused { .. } | api::Error::NotReady { .. } => Code::Refused,
        api::Error::InvalidArgument { .. } => Code::Usage,
        api::Error::NoSuchSession { .. } | api::Error::Failed { .. } => Code::Failed,
    }
}

/// Nothing, where its package is installed.
///
/// # Errors
/// It is not.
pub fn installed() -> Result<(), Failure> {
    if is_installed() { Ok(()) } else { Err(Failure::new(Code::Failed, not_installed(PACKAGE))) }
}

/// What the keeper knows; and where it is away, what this program sees itself, with a word on that.
///
/// # Errors
/// The keeper is there and does not answer, or nothing can be read.
pub async fn listing(paths: &Paths) -> Result<Listing, Failure> {
    match ask(paths, async |mut keeper| keeper.list().await).await {
        Ok(listing) => Ok(listing),
        Err(NoAnswer::Failed(failure)) => Err(failure),
        Err(NoAnswer::Absent(why)) => {
            let mut listing = own_look(paths).await?;
            listing.problems.insert(0, format!("nothing is started or resumed: {why}"));
            Ok(listing)
        }
    }
}

/// The way to the server of a listing.
pub async fn tmux(listing: &Listing) -> Tmux {
    match server_pid(&listing.server) {
        Some(server) => Tmux::for_server(server).await,
        None => Tmux::default(),
    }
}

/// The pid in the line on a server.
pub fn server_pid(server: &str) -> Option<u32> {
    let (_, rest) = server.split_once("(pid ")?;
    rest.split_once(')')?.0.parse().ok()
}

async fn own_look(paths: &Paths) -> Result<Listing, Failure> {
    let failed = |why: String| Failure::new(Code::Failed, why);
    let looker = Looker::of_this_user(paths.clone()).map_err(failed)?;
    let config = Live::<Config>::start(service::config::Paths::of("session-keeper"), None);
    let mut keeper = Keeper::new(Clock::Kernel, config, looker, libexec());
    keeper.only_look().await.map_err(failed)
}

/// Asks again and again until a session is as wanted; none has waited in vain after `within`, unless
/// its agent runs and is about to be ready.
///
/// # Errors
/// The keeper cannot be asked, or it is not so in time.
pub async fn until(
    paths: &Paths,
    name: &str,
    within: Duration,
    wanted: impl Fn(&api::SessionLine) -> bool,
) -> Result<api::SessionLine, Failure> {
    const AGAIN: Duration = Duration::from_millis(100);
    let begin = tokio::time::Instant::now();
    loop {
        let listing = ask(paths, async |mut keeper| keeper.list().await).await?;
        let line = listing.sessions.into_iter().find(|line| line.name == name);
        match line {
            Some(line) if wanted(&line) => return Ok(line),
            other if begin.elapsed() >= patience(other.as_ref(), within) => {
                let stands = other.map_or_else(
                    || "not known".to_owned(),
                    |line| format!("{} ({})", line.state, line.why),
                );
                let waited = Duration::from_secs(begin.elapsed().as_secs());
                let why = format!("{name} is still {stands} after {waited:?} (see: guppy ls)");
                return Err(Failure::new(Code::Unhealthy, why));
            }
            _ => tokio::time::sleep(AGAIN).await,
        }
    }
}

/// How long to wait for a session that stands so.
fn patience(line: Option<&api::SessionLine>, within: Duration) -> Duration {
    match line {
        Some(line) if line.state == "starting" => within.max(DRAWS_WITHIN),
        _ => within,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_counted_by_how_they_stand() {
        let listing = |states: &[&str]| Listing {
            sessions: states
                .iter()
                .map(|state| api::SessionLine { state: (*state).to_owned(), ..Default::default() })
                .collect(),
            ..Default::default()
        };
        assert_eq!(summary(&listing(&["idle", "blocked", "idle"])), "1 blocked, 2 idle");
        assert_eq!(summary(&listing(&[])), "no sessions yet");
    }

    #[test]
    fn an_agent_that_is_about_to_be_ready_is_waited_for_longer() {
        let line = |state: &str| api::SessionLine { state: state.to_owned(), ..Default::default() };
        let minute = Duration::from_secs(60);
        assert_eq!(patience(Some(&line("starting")), minute), DRAWS_WITHIN);
        assert_eq!(patience(Some(&line("starting")), 2 * DRAWS_WITHIN), 2 * DRAWS_WITHIN);
        for other in [Some(line("due")), Some(line("ending")), None] {
            assert_eq!(patience(other.as_ref(), minute), minute);
        }
    }

    #[test]
    fn the_servers_pid_is_where_the_keeper_puts_it() {
        assert_eq!(server_pid("tmux 3.5a (pid 812)"), Some(812));
        assert_eq!(server_pid("tmux 3.3a (pid 812), replaced"), Some(812));
        assert_eq!(server_pid("no tmux server"), None);
    }
}
