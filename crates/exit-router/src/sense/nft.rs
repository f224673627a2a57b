//! Our nft table, as nft(8) lists it.

use std::process::Stdio;

use tokio::process::Command;

use crate::decide::chains::TABLE;

/// The program, where Debian's package nftables has it.
pub const NFT: &str = "/usr/sbin/nft";

/// The table without counters and elements of sets, which change by themselves; None: there is none.
///
/// # Errors
/// For people: nft(8) cannot be run, or what it says.
pub async fn table() -> Result<Option<String>, String> {
    list(&["--stateless", "--terse", "list", "table", "inet", TABLE]).await
}

/// The table with everything, as JSON (libnftables-json(5)); None: there is none.
///
/// # Errors
/// As those of [`table`].
pub async fn counters() -> Result<Option<serde_json::Value>, String> {
    match list(&["--json", "list", "table", "inet", TABLE]).await? {
        None => Ok(None),
        Some(text) => serde_json::from_str(&text)
            .map(Some)
            .map_err(|error| format!("{NFT} --json: what it lists is no JSON: {error}")),
    }
}

/// Whether firewalld has its table, by the name that firewalld.conf(5)'s FirewallBackend=nftables has.
///
/// # Errors
/// As those of [`table`].
pub async fn has_firewalld() -> Result<bool, String> {
    let found = list(&["--stateless", "--terse", "list", "table", "inet", "firewalld"]).await?;
    Ok(found.is_some())
}

async fn list(arguments: &[&str]) -> Result<Option<String>, String> {
    let output = Command::new(NFT)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("{NFT}: {error}"))?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    // ENOENT, for the table: nothing else is named on the command line.
    if said.contains("No such file or directory") {
        return Ok(None);
    }
    Err(format!("{NFT} list: {}", said.lines().next().unwrap_or("it failed without a word")))
}
