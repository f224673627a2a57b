//! Our nft table, by nft(8): one transaction, so that between the old table and the new no packet
//! passes.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::decide::chains::TABLE;
use crate::sense::nft::NFT;

/// Replaces the table.
///
/// # Errors
/// For people: what nft(8) says; the table is then what it was.
pub async fn replace(text: &str) -> Result<(), String> {
    run(text).await
}

/// Takes it away. One that is not there is made for a moment, and holds nothing.
///
/// # Errors
/// For people: what nft(8) says.
pub async fn remove() -> Result<(), String> {
    run(&format!("table inet {TABLE}\ndelete table inet {TABLE}\n")).await
}

async fn run(text: &str) -> Result<(), String> {
    feed(NFT, &["-f", "-"], text).await
}

/// Runs a program, gives it `text`, and waits for its end.
pub(super) async fn feed(program: &str, arguments: &[&str], text: &str) -> Result<(), String> {
    let failed = |why: String| format!("{program} {}: {why}", arguments.join(" "));
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // What it does not read it has complained of already.
        let _ = stdin.write_all(text.as_bytes()).await;
    }
    let output = child.wait_with_output().await.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(failed(said.join("; ")))
}
