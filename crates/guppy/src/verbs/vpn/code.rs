//! One-time codes: asked for by systemd-ask-password(1), and given to the client as a credential that
//! is gone as soon as the client has it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::report::{Code, Failure};

/// Where systemd looks for credentials of this boot (systemd.exec(5)).
const STORE: &str = "/run/credstore";

/// A code in its file, until dropped.
#[derive(Debug)]
pub(super) struct OneTimeCode(PathBuf);

impl Drop for OneTimeCode {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Asks for the code of a profile.
///
/// # Errors
/// The caller is not root, nobody answers, or the file cannot be written.
pub(super) fn ask(profile: &str) -> Result<OneTimeCode, Failure> {
    if !rustix::process::geteuid().is_root() {
        let message = format!(
            "{profile} asks for one-time codes, which only root may give: sudo guppy vpn up"
        );
        return Err(Failure::new(Code::Refused, message));
    }
    let failed = |why: String| Failure::new(Code::Failed, format!("the code of {profile}: {why}"));
    let asked = Command::new("systemd-ask-password")
        .arg(format!("One-time code of {profile}:"))
        .stderr(Stdio::inherit())
        .stdin(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("systemd-ask-password: {error}")))?;
    let code = String::from_utf8_lossy(&asked.stdout).trim().to_owned();
    if !asked.status.success() || code.is_empty() {
        return Err(failed("nobody gave one".to_owned()));
    }
    let store = Path::new(STORE);
    let file = store.join(format!("guppy-vpn-{profile}.code"));
    fs::create_dir_all(store)
        .and_then(|()| {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(store, fs::Permissions::from_mode(0o700))
        })
        .and_then(|()| service::state::write_privately(&file, code.as_bytes()))
        .map_err(|error| failed(format!("{}: {error}", file.display())))?;
    Ok(OneTimeCode(file))
}
