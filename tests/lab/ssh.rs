//! Real OpenSSH clients on namespace hosts, with keys of their own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;
use crate::process::{Output, Spawned};
use crate::terminal::Terminal;
use crate::vm::Vm;
use crate::{ledger, process};

/// An ssh key pair, gone with its value.
#[derive(Debug)]
pub struct SshKey {
    place: PathBuf,
    public: String,
}

impl SshKey {
    /// A new ed25519 pair.
    pub fn new() -> Result<Self> {
        let (place, _) = ledger::place("gk")?;
        make_pair(&place)?;
        Self::in_folder(place)
    }

    /// One pair for all machines of a kind, kept in the cache: for keys inside frozen machines.
    pub fn cached() -> Result<Self> {
        Self::in_folder(crate::cache::folder_of("ssh-key", 1, make_pair)?)
    }

    fn in_folder(place: PathBuf) -> Result<Self> {
        let public = fs::read_to_string(place.join("key.pub")).context("no public key")?;
        Ok(Self { place, public: public.trim().to_owned() })
    }

    /// The line for `authorized_keys`.
    #[must_use]
    pub fn public(&self) -> &str {
        &self.public
    }

    /// Lets this key in as a user of the guest.
    pub fn authorize(&self, vm: &Vm, user: &str) -> Result<()> {
        let home = vm.sh(&format!("getent passwd '{user}' | cut -d: -f6"))?.ok()?;
        let shell = format!(
            "install -d -m 700 -o {user} '{home}/.ssh' && echo '{}' >>'{home}/.ssh/authorized_keys' \
             && chown {user}: '{home}/.ssh/authorized_keys'",
            self.public
        );
        vm.sh(&shell)?.ok().map(drop)
    }

    /// The words of an ssh command line up to and with `user@address`, `options` among them.
    ///
    /// Host keys are not compared: every machine of an image has the same address and key,
    /// and a network of two hosts in a namespace has no one else on it.
    #[must_use]
    pub fn client(&self, address: &str, user: &str, options: &str) -> String {
        let place = self.place.display();
        // A machine that has just been resumed answers no ARP for some seconds where the host is busy:
        // "No route to host". A try a second follows (ssh_config(5)).
        format!(
            "ssh -F none -i {place}/key -o IdentitiesOnly=yes -o UserKnownHostsFile=/dev/null \
             -o StrictHostKeyChecking=no -o LogLevel=ERROR -o ConnectTimeout=30 \
             -o ConnectionAttempts=30 {options} {user}@{address}"
        )
    }

    /// The folder with `key` and `key.pub`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.place
    }
}

/// Makes the files `key` and `key.pub`.
fn make_pair(folder: &Path) -> Result<()> {
    let file = folder.join("key");
    let words = ["-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", &file.to_string_lossy()];
    process::host("ssh-keygen", &words).map(drop)
}

impl Drop for SshKey {
    fn drop(&mut self) {
        // The cache's own pair stays.
        if self.place.components().any(|part| part.as_os_str() == "guppy-lab") {
            ledger::leave(&self.place);
        }
    }
}

impl Namespace {
    /// Runs a command over ssh to its end, without a terminal.
    pub fn ssh(&self, key: &SshKey, vm: &Vm, user: &str, command: &str) -> Result<Output> {
        let client = key.client(vm.address(), user, "-n");
        self.sh(&format!("{client} '{}'", command.replace('\'', r"'\''")))
    }

    /// Starts an ssh client without a terminal that lives until the value is dropped; `options`
    /// are ssh's own (`-N -L …`), `command` may be empty.
    pub fn ssh_spawn(
        &self,
        key: &SshKey,
        vm: &Vm,
        user: &str,
        options: &str,
        command: &str,
    ) -> Result<Spawned> {
        let client = key.client(vm.address(), user, &format!("-n {options}"));
        self.spawn(&format!("exec {client} '{}'", command.replace('\'', r"'\''")))
    }

    /// An ssh client on a terminal with a login shell at the far end (or `command`, if not empty).
    pub fn ssh_terminal(
        &self,
        key: &SshKey,
        vm: &Vm,
        user: &str,
        options: &str,
        command: &str,
    ) -> Result<Terminal> {
        let client = key.client(vm.address(), user, &format!("-t {options}"));
        let quoted = command.replace('\'', r"'\''");
        let shell = if command.is_empty() { client } else { format!("{client} '{quoted}'") };
        self.terminal(&shell)
    }

    /// A shell command on a terminal of its own.
    pub fn terminal(&self, shell: &str) -> Result<Terminal> {
        Terminal::start(self.command("script"), shell)
    }

    /// Waits until sshd of a machine answers.
    pub fn wait_sshd(&self, vm: &Vm, within: Duration) -> Result<()> {
        crate::wait::until_true("sshd to answer", within, || {
            let probe = format!("exec 3<>/dev/tcp/{}/22 && head -c 4 <&3", vm.address());
            Ok(self.sh(&format!("timeout 5 bash -c '{probe}' 2>/dev/null"))?.stdout == "SSH-")
        })
    }
}
