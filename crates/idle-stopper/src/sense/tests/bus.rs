//! A private bus with a logind on it that says what a test wants, and that stands for systemd too.

use std::collections::HashMap;
use std::future::poll_fn;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::pin::Pin;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use zbus::export::futures_core::Stream;
use zbus::message::Message;
use zbus::{Connection, MessageStream};

/// what, who, why, mode, uid, pid.
pub(crate) type Lock = (String, String, String, String, u32, u32);

/// What the logind of a test knows, and which calls it got.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) locks: Vec<Lock>,
    /// Session to remote host.
    pub(crate) hosts: HashMap<String, String>,
    pub(crate) calls: Vec<String>,
    /// It takes calls and never answers.
    pub(crate) hangs: bool,
}

/// A running bus; ended with the value.
pub(crate) struct Bus {
    daemon: Child,
    pub(crate) address: String,
    pub(crate) known: Arc<Mutex<Known>>,
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

impl Bus {
    pub(crate) async fn start(folder: &Path) -> Self {
        let address = format!("unix:path={}", folder.join("bus").display());
        let mut daemon = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--nopidfile", "--print-address=1", "--address"])
            .arg(&address)
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon (package dbus-daemon) runs");
        // It prints its address when it listens.
        let mut line = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().to_owned();
        let known = Arc::new(Mutex::new(Known::default()));
        let connection =
            zbus::connection::Builder::address(address.as_str()).build().await.unwrap();
        for name in ["org.freedesktop.login1", "org.freedesktop.systemd1"] {
            connection.request_name(name).await.unwrap();
        }
        tokio::spawn(answer(connection, Arc::clone(&known)));
        Self { daemon, address, known }
    }
}

async fn answer(connection: Connection, known: Arc<Mutex<Known>>) {
    let mut calls = MessageStream::from(connection.clone());
    while let Some(Ok(call)) = poll_fn(|context| Pin::new(&mut calls).poll_next(context)).await {
        if call.message_type() == zbus::message::Type::MethodCall {
            reply(&connection, &call, &known).await;
        }
    }
}

async fn reply(connection: &Connection, call: &Message, known: &Mutex<Known>) {
    let header = call.header();
    let member = header.member().unwrap().as_str();
    let path = header.path().unwrap().as_str().to_owned();
    let (locks, host) = {
        let mut known = known.lock().unwrap();
        known.calls.push(member.to_owned());
        if known.hangs {
            return;
        }
        let session = match member {
            "GetSession" => call.body().deserialize::<String>().unwrap(),
            _ => path.rsplit('_').next().unwrap().to_owned(),
        };
        (known.locks.clone(), known.hosts.get(&session).cloned().map(|host| (session, host)))
    };
    let sent = match (member, host) {
        ("ListInhibitors", _) => connection.reply(&header, &locks).await,
        ("GetSession", Some((session, _))) => {
            let path = format!("/org/freedesktop/login1/session/_{session}");
            let path = zbus::OwnedObjectPath::try_from(path).unwrap();
            connection.reply(&header, &path).await
        }
        ("GetSession", None) => {
            let name = "org.freedesktop.login1.NoSuchSession";
            connection.reply_error(&header, name, &"No session known").await
        }
        ("Get", Some((_, host))) => connection.reply(&header, &zbus::Variant::from(host)).await,
        _ => {
            connection.reply_error(&header, "org.freedesktop.DBus.Error.UnknownMethod", &"?").await
        }
    };
    sent.unwrap();
}
