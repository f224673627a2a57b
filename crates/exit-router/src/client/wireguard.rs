//! Kind `wireguard`: the kernel's, made by netlink and `wg setconf`; wireguard-go where the kernel has
//! none. wg-quick(8) is of no use here: it runs sudo, and takes routes and names.

use std::process::Stdio;
use std::time::Duration;

use service::notify;
use service::signals::{Signal, Signals};
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep};
use tracing::info;

use super::Ended;
use super::device::Device;
use super::wireguard_config::WireGuard;
use crate::sense::hints::Hints;

/// wireguard-go makes its interface within this.
const DEVICE_AT_MOST: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A flood of changes is answered so often.
const MEND_EVERY: Duration = Duration::from_millis(100);

/// Runs until it is told to end.
pub(super) async fn run(name: &str, device: &Device) -> Ended {
    let text = match super::config(name) {
        Ok(config) => config,
        Err(ended) => return ended,
    };
    let config = match WireGuard::parse(&text) {
        Ok(config) => config,
        Err(why) => return Ended::Config(why),
    };
    config.tell();
    let (mut hints, mut signals) = match (Hints::of_links(), Signals::new()) {
        (Ok(hints), Ok(signals)) => (hints, signals),
        (Err(error), _) | (_, Err(error)) => return Ended::Again(error.to_string()),
    };
    let mut userspace = None;
    let mut ready = false;
    loop {
        // One that an earlier client has left, killed, may have been given anything since.
        if let Err(why) = hold(device, &config, &mut userspace, ready).await {
            return Ended::Again(why);
        }
        if !ready {
            notify::ready();
            notify::status(&format!("{} is up", device.name()));
            ready = true;
        }
        tokio::select! {
            heard = hints.next() => {
                if let Err(error) = heard {
                    return Ended::Again(error.to_string());
                }
                sleep(MEND_EVERY).await;
            }
            () = ended(&mut userspace) => {
                userspace = None;
                sleep(MEND_EVERY).await;
            }
            signal = signals.next() => if signal == Signal::Stop {
                return Ended::Stopped;
            },
        }
    }
}

/// Brings the interface to what it should be; what is so already stays untouched.
async fn hold(
    device: &Device,
    config: &WireGuard,
    userspace: &mut Option<Child>,
    is_configured: bool,
) -> Result<(), String> {
    let is_there = device.find().await?.is_some();
    if !is_there {
        if let Some(mut old) = userspace.take() {
            let _ = old.kill().await;
        }
        if !device.add_wireguard().await? {
            *userspace = Some(wireguard_go(device).await?);
        }
        if device.find().await?.is_none() {
            return Err(format!("{} cannot be made", device.name()));
        }
        info!(guppy_event = "vpn-device", "{} is made", device.name());
    }
    if !is_there || !is_configured {
        setconf(device.name(), &config.setconf).await?;
    }
    device.set_up(&config.addresses, config.mtu).await
}

async fn wireguard_go(device: &Device) -> Result<Child, String> {
    info!("this kernel has no WireGuard: wireguard-go serves");
    let child = Command::new("wireguard-go")
        .args(["-f", device.name()])
        .env("WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD", "1")
        .env("LOG_LEVEL", "error")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            format!(
                "this kernel has no WireGuard, and wireguard-go cannot be run: {error}; install a \
                 kernel with the module, or the package wireguard-go"
            )
        })?;
    let deadline = Instant::now() + DEVICE_AT_MOST;
    // It answers wg(8) by a socket that it makes after the interface.
    while device.find().await?.is_none() || !answers(device.name()).await {
        if Instant::now() >= deadline {
            return Err(format!("wireguard-go has made no {}", device.name()));
        }
        sleep(LOOK_EVERY).await;
    }
    Ok(child)
}

async fn answers(name: &str) -> bool {
    let mut command = Command::new("wg");
    command.args(["show", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.is_ok_and(|status| status.success())
}

/// By stdin: keys stand in no argument and in no file that is not root's.
async fn setconf(name: &str, text: &str) -> Result<(), String> {
    let said = |why: String| format!("wg setconf {name}: {why}");
    let mut child = Command::new("wg")
        .args(["setconf", name, "/dev/stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| said(format!("{error}; install wireguard-tools")))?;
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(text.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|error| said(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    // It shows a line that it does not take, and a line may hold a key.
    let stderr = String::from_utf8_lossy(&output.stderr);
    let about = stderr.lines().find(|line| line.contains("resolution") || line.contains("resolve"));
    Err(said(match about {
        Some(_) => "the Endpoint's name cannot be resolved".to_owned(),
        None => "it does not take the config (a key or an Endpoint is no valid one?)".to_owned(),
    }))
}

async fn ended(userspace: &mut Option<Child>) {
    match userspace {
        Some(child) => {
            let _ = child.wait().await;
        }
        None => std::future::pending().await,
    }
}
