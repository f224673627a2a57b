//! The hook: reads what an agent says of an event from stdin (one JSON object), takes the few words
//! of it that the keeper needs, and sends them. What is said in a conversation is not among them.
//!
//! With nobody to tell, a new conversation is left on the disk (`STATE/hooks/NAME.json`): it is the
//! one thing that is nowhere else once the agent has ended.

mod origin;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, sockopt};
use serde_json::{Value, json};

use crate::api::HookEvent;
use crate::name::SessionName;
use crate::paths::Paths;

/// An agent waits for its hooks: none takes longer.
const DEADLINE: Duration = Duration::from_secs(1);
/// So much of stdin is read; a tool's input may be long, and is not needed.
const INPUT_AT_MOST: u64 = 4 << 20;
/// A detail is for one line.
const DETAIL_AT_MOST: usize = 200;

/// The program. Says nothing, whatever happens: a hook's words would reach the agent.
pub fn main() {
    // Reading and sending may hang on others: the deadline ends the whole program.
    std::thread::spawn(|| {
        std::thread::sleep(DEADLINE);
        std::process::exit(0);
    });
    let mut words = std::env::args().skip(1);
    let (mut socket, mut tmux) = (None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--socket" => socket = words.next().map(PathBuf::from),
            "--tmux" => tmux = words.next(),
            _ => {}
        }
    }
    let paths = Paths::of_this_user().ok();
    let Some(socket) = socket.or_else(|| Some(paths.as_ref()?.socket.clone())) else { return };
    let event = match tmux {
        Some(event) => HookEvent { event, ..HookEvent::default() },
        None => {
            let mut text = String::new();
            let _ = std::io::stdin().take(INPUT_AT_MOST).read_to_string(&mut text);
            let variable = |name| std::env::var(name).ok();
            match read(&text, variable("GUPPY_SESSION"), variable("GUPPY_START")) {
                Some(event) if origin::is_of_the_session() => event,
                _ => return,
            }
        }
    };
    if tell(&socket, &event).is_err()
        && let Some(paths) = paths
    {
        let _ = leave(&paths, &event);
    }
}

/// The event that an agent describes; None: it is no session of ours, or no description.
fn read(text: &str, session: Option<String>, start: Option<String>) -> Option<HookEvent> {
    let session = session?;
    let value: Value = serde_json::from_str(text).ok()?;
    let field = |key: &str| value.get(key).and_then(Value::as_str);
    let detail = ["error", "tool_name", "source", "reason", "notification_type"];
    let detail = detail.into_iter().find_map(field);
    Some(HookEvent {
        event: field("hook_event_name")?.to_owned(),
        session: Some(session),
        start: start.and_then(|start| start.parse().ok()),
        conversation: field("session_id").map(str::to_owned),
        detail: detail.map(|text| text.chars().take(DETAIL_AT_MOST).collect()),
    })
}

/// Calls the keeper, and waits until it has taken the event in.
fn tell(socket: &Path, event: &HookEvent) -> std::io::Result<()> {
    let call = json!({
        "method": "dev.guppy.SessionKeeper.Hook",
        "parameters": { "event": event },
    });
    let mut bytes = serde_json::to_vec(&call)?;
    bytes.push(0);
    let stream = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    // connect(2) waits for a keeper that hangs with a full queue, unless it may not.
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Send, Some(DEADLINE / 2))?;
    sockopt::set_socket_timeout(&stream, sockopt::Timeout::Recv, Some(DEADLINE / 2))?;
    rustix::net::connect(&stream, &SocketAddrUnix::new(socket)?)?;
    let mut stream = UnixStream::from(stream);
    stream.write_all(&bytes)?;
    match stream.read(&mut [0; 1024])? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

/// Where an event waits for its keeper.
pub fn left_at(paths: &Paths, name: &SessionName) -> PathBuf {
    paths.state.join("hooks").join(name.file_stem() + ".json")
}

fn leave(paths: &Paths, event: &HookEvent) -> std::io::Result<()> {
    let session = event.session.as_deref().unwrap_or_default();
    let (Ok(name), "SessionStart") = (SessionName::parse(session), event.event.as_str()) else {
        return Ok(());
    };
    let path = left_at(paths, &name);
    path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
    service::state::write_durably(&path, &serde_json::to_vec(event)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::net::UnixListener;

    use super::*;

    const SAID: &str = r#"{"session_id":"0190f3c2-7a11-4000-8000-00000000000a",
        "hook_event_name":"SessionStart","source":"clear","prompt":"secret","cwd":"/"}"#;

    fn event() -> HookEvent {
        read(SAID, Some("shop/fix".to_owned()), Some("7".to_owned())).unwrap()
    }

    #[test]
    fn only_what_the_keeper_needs_is_passed_on() {
        let event = event();
        assert_eq!((event.event.as_str(), event.start), ("SessionStart", Some(7)));
        assert_eq!(event.detail.as_deref(), Some("clear"));
        assert!(!serde_json::to_string(&event).unwrap().contains("secret"));
        assert_eq!(read(SAID, None, None), None);
        assert_eq!(read("{", Some("a/b".to_owned()), None), None);
    }

    #[test]
    fn the_keeper_is_called_and_its_answer_awaited() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keeper.sock");
        assert!(tell(&path, &event()).is_err());
        let listener = UnixListener::bind(&path).unwrap();
        let keeper = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 4096];
            let count = stream.read(&mut bytes).unwrap();
            stream.write_all(b"{}\0").unwrap();
            String::from_utf8(bytes.get(..count - 1).unwrap().to_vec()).unwrap()
        });
        tell(&path, &event()).unwrap();
        let call: Value = serde_json::from_str(&keeper.join().unwrap()).unwrap();
        assert_eq!(call.pointer("/parameters/event/session").unwrap(), "shop/fix");
    }

    #[test]
    fn a_new_conversation_waits_on_the_disk_for_a_keeper_that_is_away() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths {
            config: folder.path().into(),
            state: folder.path().into(),
            socket: "/nowhere".into(),
        };
        let name = SessionName::parse("shop/fix").unwrap();
        let stop = HookEvent { event: "Stop".to_owned(), ..event() };
        leave(&paths, &stop).unwrap();
        assert!(!left_at(&paths, &name).exists());
        leave(&paths, &event()).unwrap();
        let left = std::fs::read_to_string(left_at(&paths, &name)).unwrap();
        assert_eq!(serde_json::from_str::<HookEvent>(&left).unwrap(), event());
    }
}
