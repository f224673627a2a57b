//! Remote commands: active while they live and their caller may live, for a bounded time.

use std::net::IpAddr;
use std::time::Duration;

use service::clock::Boottime;

use super::verdict::{Verdict, some_of};
use crate::config::SSH_PORT;
use crate::sense::{Reading, RemoteCommand, Socket};

pub(super) fn judge(
    commands: &[RemoteCommand],
    sockets: &Reading<Vec<Socket>>,
    at_most: Duration,
    now: Boottime,
) -> Verdict {
    let (mut old, mut dead, mut by_bytes) = (0, 0, 0);
    let mut live = Vec::new();
    for command in commands {
        if command.by_bytes {
            by_bytes += 1;
        } else if now.since(command.since) > at_most {
            old += 1;
        } else if command.host.is_some_and(|host| is_dead(host, sockets)) {
            dead += 1;
        } else {
            live.push(command.what.as_str());
        }
    }
    if live.is_empty() {
        Verdict::Quiet(format!(
            "{} running: {dead} of dead peers, {old} over command_at_most, {by_bytes} counted by their bytes",
            commands.len()
        ))
    } else {
        Verdict::Active { at: now, detail: format!("running: {}", some_of(live)) }
    }
}

/// A host is dead when it has ssh connections here and every one of them is: what it has open with
/// other services says nothing about who waits for a command.
fn is_dead(host: IpAddr, sockets: &Reading<Vec<Socket>>) -> bool {
    let Reading::Known(sockets) = sockets else {
        return false;
    };
    let is_ssh = |socket: &&Socket| socket.local_port == SSH_PORT && socket.remote == host;
    let mut of_host = sockets.iter().filter(is_ssh).peekable();
    of_host.peek().is_some() && of_host.all(is_unanswered)
}

/// Data is on its way and nobody has acknowledged anything for half a minute: measured, a cut link
/// reaches backoff 5 after 11 s and 6 after 21 s, a slow one does not.
const fn is_unanswered(socket: &Socket) -> bool {
    socket.unacked > 0 && socket.last_ack_ms > 30_000 && socket.backoff >= 5
}
