//! WireGuard: the kernel's, else wireguard-go. wg-quick(8) is not used: it wants root, and takes
//! guppy's own routes.

mod file;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::process::{ExitStatus, Output, Stdio};
use std::time::Duration;

use service::signals::Signals;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::tunnel::{self, Tunnel};
use super::{CONNECT_AT_MOST, Context, Ended, ready, until_stopped};
use crate::act::netlink::add_wireguard;
use file::File;

/// What the kernel and wireguard-go take themselves (drivers/net/wireguard/device.c).
const MTU: u32 = 1420;
/// In seconds: with it a peer is called at once, before anything has to be sent.
const CALL: u16 = 25;
/// Between two looks for what no event tells of.
const LOOK: Duration = Duration::from_millis(100);
/// A program that runs at all is there by then.
const START_AT_MOST: Duration = Duration::from_secs(30);

pub(super) async fn run(context: &Context, signals: &mut Signals) -> Result<(), Ended> {
    let Context { name, interface, handle, .. } = context;
    let file = read(context)?;
    tunnel::clear(handle, interface).await?;
    let mut program = None;
    if !add_wireguard(handle, interface).await.map_err(Ended::Failed)? {
        program = Some(wireguard_go(interface).await?);
    }
    let tunnel = Tunnel::find(handle, interface).await?;
    let by = if program.is_some() { "wireguard-go" } else { "the kernel's WireGuard" };
    let work = async {
        let carry = async {
            if let Err(ended) = connect(interface, &file, &tunnel).await {
                return ended;
            }
            let addresses: Vec<String> = file.addresses.iter().map(ToString::to_string).collect();
            ready(name, &format!("connected by {by}, {}", addresses.join(" and ")));
            std::future::pending().await
        };
        tokio::select! {
            ended = carry => ended,
            ended = tunnel.hold() => ended,
            ended = end_of(&mut program) => ended,
        }
    };
    let ended = until_stopped(signals, work).await;
    tunnel.remove().await;
    ended
}

fn read(context: &Context) -> Result<File, Ended> {
    let called = context.secrets.file("conf");
    let text = context.secrets.config()?;
    let file = file::parse(&text.0).map_err(|wrong| Ended::Wrong(wrong.within(&called)))?;
    if !file.ignored.is_empty() {
        let keys = file.ignored.join(", ");
        info!("{called}: ignored: {keys}; guppy says what goes where");
    }
    if file.default_routes().is_empty() {
        warn!(
            "{called}: no [Peer] has AllowedIPs = 0.0.0.0/0 or ::/0: only the networks named there \
             are reached, nothing of the internet"
        );
    }
    Ok(file)
}

/// Configures it, and waits for a handshake.
async fn connect(interface: &str, file: &File, tunnel: &Tunnel<'_>) -> Result<(), Ended> {
    let connected = timeout(CONNECT_AT_MOST, async {
        configure(interface, file).await?;
        tunnel.raise(&file.addresses, file.mtu.unwrap_or(MTU)).await?;
        handshake(interface).await
    });
    connected.await.map_err(|_| {
        let seconds = CONNECT_AT_MOST.as_secs();
        Ended::Failed(format!("no handshake within {seconds} s: the server does not answer"))
    })??;
    quiet(interface, file).await
}

/// When the program that is the device has ended; never, where the kernel is.
async fn end_of(program: &mut Option<Child>) -> Ended {
    match program {
        Some(child) => gone(child.wait().await),
        None => std::future::pending().await,
    }
}

fn gone(ended: std::io::Result<ExitStatus>) -> Ended {
    Ended::Failed(match ended {
        Ok(status) => format!("wireguard-go ended: {status}"),
        Err(error) => format!("wireguard-go: {error}"),
    })
}

/// Starts wireguard-go and waits for its device and its socket.
async fn wireguard_go(interface: &str) -> Result<Child, Ended> {
    // wg(8) and wireguard-go look for each other there, and nowhere else; the unit has a folder of
    // its own there.
    let socket = PathBuf::from(format!("/var/run/wireguard/{interface}.sock"));
    // One that was killed leaves it.
    let _ = std::fs::remove_file(&socket);
    let mut child = Command::new("wireguard-go")
        .args(["--foreground", interface])
        // Else it says that the kernel's is better, and ends.
        .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
        .env("LOG_LEVEL", "error")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Ended::Wrong(format!(
                "this kernel has no WireGuard, and wireguard-go cannot be run: {error} (apt install \
                 wireguard-go)"
            ))
        })?;
    let there = async {
        while !socket.exists() {
            sleep(LOOK).await;
        }
    };
    tokio::select! {
        () = there => Ok(child),
        ended = child.wait() => Err(gone(ended)),
        () = sleep(START_AT_MOST) => Err(Ended::Failed(format!(
            "wireguard-go made no socket {} in time", socket.display(),
        ))),
    }
}

/// Keys go by a pipe: arguments and environment can be seen.
async fn configure(interface: &str, file: &File) -> Result<(), Ended> {
    let mut child = wg(&["setconf", interface, "/dev/stdin"])?;
    let text = file.render(CALL);
    let write = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(text.0.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = write.await.map_err(|error| Ended::Failed(format!("wg setconf: {error}")))?;
    said("wg setconf", &output, file).map(drop)
}

/// Ends once a peer has answered.
async fn handshake(interface: &str) -> Result<(), Ended> {
    loop {
        let output = wg(&["show", interface, "latest-handshakes"])?.wait_with_output().await;
        let output = output.map_err(|error| Ended::Failed(format!("wg show: {error}")))?;
        if has_answered(&String::from_utf8_lossy(&output.stdout)) {
            return Ok(());
        }
        sleep(LOOK).await;
    }
}

/// A line for each peer: its public key, and when it answered last, in seconds since 1970; 0: never.
fn has_answered(handshakes: &str) -> bool {
    let times = handshakes.lines().filter_map(|line| line.split_once('\t'));
    times.map(|(_, time)| time.trim()).any(|time| time != "0" && time.parse::<u64>().is_ok())
}

/// What was called is not kept busy, where the file does not say so.
async fn quiet(interface: &str, file: &File) -> Result<(), Ended> {
    for peer in file.peers.iter().filter(|peer| peer.keepalive.is_none()) {
        let key = &peer.public_key;
        let child = wg(&["set", interface, "peer", key, "persistent-keepalive", "off"])?;
        let output = child.wait_with_output().await;
        let output = output.map_err(|error| Ended::Failed(format!("wg set: {error}")))?;
        said("wg set", &output, file)?;
    }
    Ok(())
}

fn wg(arguments: &[&str]) -> Result<Child, Ended> {
    let mut command = Command::new("wg");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn().map_err(|error| {
        Ended::Failed(format!("wg cannot be run: {error} (apt install wireguard-tools)"))
    })
}

fn said(what: &str, output: &Output, file: &File) -> Result<(), Ended> {
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let text = if file.is_plain(&text) { text.trim() } else { "(not shown: a key is in it)" };
    Err(Ended::Failed(format!("{what}: {}", text.replace('\n', "; "))))
}
