//! What the watchdog stands for. systemd's side of it is in the environment, which is the whole
//! process's: so the test starts itself again.

#![allow(clippy::unwrap_used)]

use std::os::unix::net::UnixDatagram;
use std::process::Command;

use service::clock::Clock;
use service::config::{Live, Paths};
use service::socket::{Limits, listen, serve};
use zlink::tokio::unix;

use super::*;
use crate::api::IdleStopper as _;
use crate::config::Config;
use crate::sense::tests::{bus::Bus, patient};
use crate::serve::{INTERFACE, Service};

/// Set in the process that is started again: where its files are.
const FOLDER: &str = "GUPPY_TEST_ROUND";
/// Twice the time between two pings.
const WATCHDOG: Duration = Duration::from_millis(20);

/// The reading waits, and the rest of the program is well: whoever pinged on the side would ping on.
#[test]
fn a_loop_whose_reading_never_ends_pings_no_more_while_the_socket_still_answers() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(hang(Path::new(&folder)));
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "round::tests::\
        a_loop_whose_reading_never_ends_pings_no_more_while_the_socket_still_answers";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name])
        .env(FOLDER, folder.path())
        .env("NOTIFY_SOCKET", folder.path().join("notify"))
        .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string())
        .env_remove("WATCHDOG_PID")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

async fn hang(folder: &Path) {
    let systemd = UnixDatagram::bind(folder.join("notify")).unwrap();
    systemd.set_nonblocking(true).unwrap();
    let bus = Bus::start(folder).await;
    let paths = Paths {
        role: folder.join("role.d"),
        file: folder.join("idle-stopper.toml"),
        dropins: folder.join("idle-stopper.d"),
    };
    let mut text = "tick = \"1s\"\n[evidence]\n".to_owned();
    for kind in crate::decide::Kind::ALL {
        text += &format!("{} = {}\n", kind.name(), kind == crate::decide::Kind::Inhibitors);
    }
    std::fs::write(&paths.file, text).unwrap();
    let config = Live::<Config>::start(paths, None);
    assert_eq!(config.error(), None);
    let daemon = Daemon::start(Clock::Kernel, config, folder.to_owned());
    let daemon = Rc::new(RefCell::new(daemon));
    let wake = Rc::new(Notify::new());
    let socket = folder.join("socket");
    let listener = listen(Some(&socket));
    let service = Service::new(Rc::clone(&daemon), Rc::clone(&wake));
    let sensors = patient(&folder.join("root"), bus.address.clone());
    let mut round = Round::with(daemon, wake, sensors).unwrap();
    tokio::select! {
        () = serve(listener, service, INTERFACE, Limits::default()) => panic!("nobody serves"),
        () = round.go_on() => panic!("the loop has ended"),
        () = watch(&systemd, bus, &socket) => {}
    }
}

/// What systemd hears of a loop that goes on, hangs and goes on again.
async fn watch(systemd: &UnixDatagram, bus: Bus, socket: &Path) {
    until(|| heard(systemd)).await;
    {
        let mut known = bus.known.lock().unwrap();
        known.hangs = true;
        known.calls.clear();
    }
    // The next reading asks, and waits. Pings until then are taken, since few fit into the socket.
    until(|| {
        heard(systemd);
        !bus.known.lock().unwrap().calls.is_empty()
    })
    .await;
    heard(systemd);
    let begin = Instant::now();
    while begin.elapsed() < 50 * WATCHDOG {
        let mut connection = unix::connect(socket).await.unwrap();
        connection.explain().await.unwrap().unwrap();
    }
    assert!(!heard(systemd), "a loop that hangs has pinged");
    // Whoever waits for an answer is told that there will be none.
    drop(bus);
    until(|| heard(systemd)).await;
}

/// Whether there was a ping among what has arrived, all of which is taken.
fn heard(systemd: &UnixDatagram) -> bool {
    let mut pinged = false;
    let mut datagram = [0; 4096];
    while let Ok(length) = systemd.recv(&mut datagram) {
        let text = String::from_utf8_lossy(datagram.get(..length).unwrap());
        pinged |= text.lines().any(|line| line == "WATCHDOG=1");
    }
    pinged
}

async fn until(mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !happened() {
        assert!(Instant::now() < deadline, "it did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
