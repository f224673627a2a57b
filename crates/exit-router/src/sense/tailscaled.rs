//! tailscaled's LocalAPI, which anybody may read (ipn/ipnauth): what it advertises and what the
//! tailnet has approved. It is asked when somebody wants to know, and never written to: whoever may
//! write routes there may open ssh too.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::prefix::Prefix;

/// It answers from memory.
const ANSWER_AT_MOST: Duration = Duration::from_secs(2);
/// Without peers, an answer is some kilobytes.
const BYTES_AT_MOST: u64 = 4 << 20;

/// What is asked of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tailscaled {
    /// It has an interface of the kernel's.
    pub tun: bool,
    /// 0 off, 1 nodivert, 2 on (preftype.NetfilterMode).
    pub netfilter_mode: i64,
    /// Routes it offers, the exit node's two among them.
    pub advertised: Vec<Prefix>,
    /// Those that the tailnet has approved, and its own addresses.
    pub approved: Vec<Prefix>,
    /// Offered as exit node, and approved.
    pub exit_node: bool,
}

#[derive(Deserialize)]
struct Status {
    #[serde(rename = "TUN", default)]
    tun: bool,
    #[serde(rename = "Self")]
    own: Option<Own>,
}

#[derive(Deserialize)]
struct Own {
    #[serde(rename = "AllowedIPs", default)]
    allowed: Option<Vec<String>>,
    #[serde(rename = "ExitNodeOption", default)]
    exit_node: bool,
}

#[derive(Deserialize)]
struct Prefs {
    #[serde(rename = "AdvertiseRoutes", default)]
    routes: Option<Vec<String>>,
    #[serde(rename = "NetfilterMode", default)]
    netfilter_mode: i64,
}

/// Asks.
///
/// # Errors
/// For people: it does not run, or what it says is not understood.
pub async fn read(socket: &Path) -> Result<Tailscaled, String> {
    let status: Status = get(socket, "/localapi/v0/status?peers=false").await?;
    let prefs: Prefs = get(socket, "/localapi/v0/prefs").await?;
    let prefixes = |texts: Option<Vec<String>>| {
        texts.unwrap_or_default().iter().filter_map(|text| text.parse().ok()).collect()
    };
    let exit_node = status.own.as_ref().is_some_and(|own| own.exit_node);
    Ok(Tailscaled {
        tun: status.tun,
        netfilter_mode: prefs.netfilter_mode,
        advertised: prefixes(prefs.routes),
        approved: prefixes(status.own.and_then(|own| own.allowed)),
        exit_node,
    })
}

async fn get<T: for<'de> Deserialize<'de>>(socket: &Path, path: &str) -> Result<T, String> {
    let said = |why: String| format!("tailscaled at {}: {why}", socket.display());
    let body = timeout(ANSWER_AT_MOST, ask(socket, path))
        .await
        .map_err(|_| said("no answer in 2 s".to_owned()))?
        .map_err(|error| said(error.to_string()))?;
    let (head, body) = body
        .windows(4)
        .position(|end| end == b"\r\n\r\n")
        .and_then(|at| Some((body.get(..at)?, body.get(at + 4..)?)))
        .ok_or_else(|| said("what it answers is no HTTP".to_owned()))?;
    let head = String::from_utf8_lossy(head);
    let first = head.lines().next().unwrap_or_default();
    if first.split(' ').nth(1) != Some("200") {
        return Err(said(format!("{path}: {first}")));
    }
    serde_json::from_slice(body).map_err(|error| said(format!("{path}: {error}")))
}

/// HTTP/1.0, so that the answer comes in one piece and ends with the connection.
async fn ask(socket: &Path, path: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = UnixStream::connect(socket).await?;
    // It answers to no other host: a web page must not reach it (ipn/localapi).
    let request = format!("GET {path} HTTP/1.0\r\nHost: local-tailscaled.sock\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(BYTES_AT_MOST).read_to_end(&mut answer).await?;
    Ok(answer)
}
