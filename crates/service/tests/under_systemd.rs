//! What systemd gives a daemon, given by hand: a socket, a notify socket, a watchdog, a journal.
//! Each test starts this program again as the daemon, through a shell that makes the environment.

#![allow(clippy::unwrap_used, missing_docs)]

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use service::notify::{self, Watchdog};
use service::socket::listen;
use service::{journal, signals};
use tempfile::TempDir;

/// A shell that becomes the daemon in `role`, after `prepare`.
fn shell(role: &str, prepare: &str) -> Command {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("set -e; {prepare}\nexec \"$@\""), "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "daemon", "--nocapture", "--include-ignored"])
        .env("ROLE", role)
        .stdin(Stdio::null());
    shell
}

fn said(output: &Output) -> String {
    let text = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
#[ignore = "the other half of the tests below: they start it"]
fn daemon() {
    match std::env::var("ROLE").as_deref() {
        Ok("socket") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _inside = runtime.as_ref().unwrap().enter();
            match listen(None) {
                Ok(listener) => println!("listening: {listener:?}"),
                Err(error) => println!("refused: {error}"),
            }
        }
        Ok("notify") => {
            notify::ready();
            notify::status("idle\nREADY=0");
            notify::reloading();
            notify::stopping();
            let watchdog = Watchdog::from_env();
            println!("every {:?}", watchdog.interval());
            watchdog.ping();
        }
        Ok("text") => write_records(),
        Ok("journal") => {
            let path = "/run/systemd/journal/socket";
            let journald = UnixDatagram::bind(path).unwrap();
            journald.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            write_records();
            let mut datagram = vec![0; 65_536];
            loop {
                let length = journald.recv(&mut datagram).unwrap();
                let text = String::from_utf8_lossy(datagram.get(..length).unwrap());
                let words = text.split(char::is_control).filter(|word| !word.is_empty());
                println!("record: {}", words.collect::<Vec<_>>().join("|"));
                if text.contains("panicked") {
                    break;
                }
            }
        }
        Ok("hung journal") => {
            // It listens and never reads: its queue is full after a few records.
            let _journald = UnixDatagram::bind("/run/systemd/journal/socket").unwrap();
            journal::init("guppy-test");
            for record in 0..1000 {
                tracing::info!(record, "nobody reads this");
            }
            println!("went on");
        }
        Ok("signals") => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let mut signals = signals::Signals::new().unwrap();
                println!("handlers stand");
                println!("got {:?}", signals.next().await);
                println!("got {:?}", signals.next().await);
            });
        }
        _ => {}
    }
}

fn write_records() {
    journal::init("guppy-test");
    tracing::debug!("not this");
    tracing::info!(guppy_event = "stop", message_id = "0123abcd", minutes = 2, "stopping soon");
    tracing::warn!(guppy_reason = %Path::new("/x").display(), "a warning");
    tracing::error!("an error");
    let panicking = std::thread::spawn(|| panic!("the loop\nbroke"));
    assert!(panicking.join().is_err());
}

#[test]
fn the_socket_is_taken_from_systemd() {
    let folder = TempDir::new().unwrap();
    let listener = UnixListener::bind(folder.path().join("socket")).unwrap();
    let output = shell("socket", "exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS=1")
        .stdin(OwnedFd::from(listener))
        .output()
        .unwrap();
    assert!(said(&output).contains("listening: "), "{}", said(&output));
}

#[test]
fn what_is_handed_over_by_mistake_is_named() {
    let given = "exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS=1";
    let stream = |fd: OwnedFd| said(&shell("socket", given).stdin(fd).output().unwrap());
    let (connected, _other) = UnixStream::pair().unwrap();
    let datagram = UnixDatagram::unbound().unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let file = std::fs::File::open("/dev/null").unwrap();
    for (fd, reason) in [
        (OwnedFd::from(connected), "does not listen"),
        (datagram.into(), "not a valid unix stream socket"),
        (tcp.into(), "not a valid unix stream socket"),
        (file.into(), "is not a socket"),
    ] {
        let said = stream(fd);
        assert!(said.contains("refused: ") && said.contains(reason), "{said}");
        assert!(said.contains("ListenStream="), "{said}");
    }
    for prepare in ["true", "export LISTEN_PID=1 LISTEN_FDS=1", "export LISTEN_FDS=0"] {
        let said = said(&shell("socket", prepare).output().unwrap());
        assert!(said.contains("refused: no socket was handed over"), "{prepare}: {said}");
    }
}

#[test]
fn systemd_is_told_and_the_watchdog_pinged() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let output = shell("notify", "export WATCHDOG_PID=$$ WATCHDOG_USEC=10000000")
        .env("NOTIFY_SOCKET", &path)
        .output()
        .unwrap();
    assert!(said(&output).contains("every Some(5s)"), "{}", said(&output));
    let heard = || {
        let mut datagram = [0; 1024];
        let length = systemd.recv(&mut datagram).unwrap();
        String::from_utf8_lossy(datagram.get(..length).unwrap()).into_owned()
    };
    assert_eq!(heard(), "READY=1\n");
    assert_eq!(heard(), "STATUS=idle READY=0\n");
    let reloading = heard();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert_eq!(heard(), "STOPPING=1\n");
    assert_eq!(heard(), "WATCHDOG=1\n");
}

#[test]
fn without_systemd_nothing_is_told_and_nothing_fails() {
    let quiet = "unset NOTIFY_SOCKET WATCHDOG_USEC WATCHDOG_PID";
    let gone = "export NOTIFY_SOCKET=/nowhere/notify WATCHDOG_PID=1 WATCHDOG_USEC=10000000";
    for prepare in [quiet, gone] {
        let output = shell("notify", prepare).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).contains("every None"), "{}", said(&output));
    }
}

#[test]
fn records_are_text_on_stderr_unless_it_is_the_journal() {
    for prepare in ["unset JOURNAL_STREAM", "export JOURNAL_STREAM=1:1"] {
        let output = shell("text", prepare).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        assert_eq!(
            lines.get(..3).unwrap(),
            [
                "INFO stopping soon guppy_event=\"stop\" message_id=\"0123abcd\" minutes=2",
                "WARN a warning guppy_reason=/x",
                "ERROR an error",
            ]
        );
        let panicked = lines.get(3).unwrap();
        assert!(panicked.starts_with("ERROR panicked at crates/service/tests/"), "{panicked}");
        assert!(panicked.contains("the loop broke guppy_event=\"panic\""), "{panicked}");
        assert!(!text.contains('\u{1b}'));
    }
}

/// The daemon with a folder of its own where journald's socket is.
fn with_own_journal(role: &str) -> Output {
    let folder = TempDir::new().unwrap();
    let stderr = std::fs::File::create(folder.path().join("stderr")).unwrap();
    let prepare = "mkdir -p /run/systemd; mount -t tmpfs none /run/systemd
        mkdir /run/systemd/journal
        JOURNAL_STREAM=$(stat -Lc %d:%i /proc/$$/fd/2); export JOURNAL_STREAM";
    let inner = shell(role, prepare);
    Command::new("timeout")
        .args(["30", "unshare", "--mount", "--"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env("ROLE", role)
        .stderr(stderr)
        .output()
        .unwrap()
}

/// A journald that hangs must not hang the daemon.
#[test]
#[ignore = "needs CAP_SYS_ADMIN: tests/run runs it as root"]
fn a_journal_that_nobody_reads_is_not_waited_for() {
    let output = with_own_journal("hung journal");
    assert!(said(&output).contains("went on"), "{}", said(&output));
}

/// The journal's own protocol, to a socket at its path in a mount namespace of the daemon's.
#[test]
#[ignore = "needs CAP_SYS_ADMIN: tests/run runs it as root"]
fn records_reach_the_journal_with_their_fields() {
    let said = said(&with_own_journal("journal"));
    let records: Vec<&str> = said.lines().filter(|line| line.contains("MESSAGE")).collect();
    for (record, parts) in records.iter().zip([
        ["record: PRIORITY=6|", "GUPPY_EVENT=stop", "MESSAGE_ID=0123abcd", "MESSAGE=stopping soon"],
        ["PRIORITY=4|", "GUPPY_REASON=/x", "MESSAGE=a warning", "SYSLOG_IDENTIFIER=guppy-test"],
        ["PRIORITY=3|", "MESSAGE=an error", "SYSLOG_IDENTIFIER=guppy-test", "|"],
        ["PRIORITY=3|", "GUPPY_EVENT=panic", "panicked at", "the loop broke"],
    ]) {
        for part in parts {
            assert!(record.contains(part), "{part}: {record}");
        }
        assert!(!record.contains("|F_"), "{record}");
    }
    assert_eq!(records.len(), 4, "{said}");
}

#[test]
fn sighup_asks_for_a_reload_and_sigterm_for_the_end() {
    let mut daemon = shell("signals", "true").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = daemon.stdout.take().unwrap();
    let mut text = String::new();
    let mut until = |wanted: &str| {
        let mut byte = [0];
        while !text.contains(wanted) && out.read(&mut byte).unwrap() == 1 {
            text.extend(byte.map(char::from));
        }
        assert!(text.contains(wanted), "{text}");
    };
    let pid = rustix::process::Pid::from_child(&daemon);
    until("handlers stand");
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until("got Reload");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    until("got Stop");
    assert!(daemon.wait().unwrap().success());
}
