//! Commands that run for a remote host without a terminal: what lives directly below a live ssh
//! session of sshd, or below tailscaled. What outlives its session is re-parented to pid 1: that
//! is detached work, and its CPU speaks for it.

use std::collections::HashMap;
use std::net::IpAddr;

use service::clock::Boottime;

use super::file::{Failure, printable};
use super::logind::Logind;
use super::logins::{Sshd, World, is_sshd, is_tailscaled};
use super::processes::Entry;
use super::{Process, RemoteCommand};

/// Commands that are listed.
const MOST: usize = 1024;

/// Descendants of one command whose program is looked at for an IDE's server. Servers start
/// first; a command with more children than this is at work anyway.
const MOST_DESCENDANTS: usize = 64;

/// The kernel's USER_HZ, in which /proc counts: 100 on every architecture that systemd runs on.
const TICK_MILLIS: u64 = 10;

/// What was found out about commands that still live.
#[derive(Debug, Default)]
pub(super) struct Commands {
    told: HashMap<(Process, Vec<u8>), Told>,
    /// The marks that `by_bytes` was judged by.
    marks: Vec<String>,
}

/// Does not change while the process keeps its name: a program that exec(2) replaces has another.
#[derive(Clone, Debug)]
struct Told {
    text: String,
    by_bytes: bool,
    session: Option<String>,
}

/// A command of this tick.
struct Found<'a> {
    entry: &'a Entry,
    user: String,
    via: &'static str,
}

/// What a command line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// For people.
    pub(super) text: String,
    /// It serves files and nothing else.
    pub(super) sftp: bool,
}

impl Commands {
    pub(super) async fn read(
        &mut self,
        world: World<'_>,
        logind: &mut Logind,
        marks: &[String],
        now: Boottime,
    ) -> Result<Vec<RemoteCommand>, Failure> {
        if self.marks != marks {
            self.told.clear();
            self.marks = marks.to_vec();
        }
        let mut known = std::mem::take(&mut self.told);
        let mut commands = Vec::new();
        for Found { entry, user, via } in find(world)? {
            let key = (entry.process(), entry.comm().to_vec());
            let session = || world.proc.session(entry.pid);
            let (mut told, is_read) = match known.remove(&key) {
                Some(told) => (told, true),
                None => match world.proc.command_line(entry.process()) {
                    Ok(words) => {
                        let Line { text, sftp } = line(&words);
                        (Told { text, by_bytes: sftp, session: session() }, true)
                    }
                    // A command it is, whatever it says; next time it may say it.
                    Err(why) => {
                        let text = format!("{} ({why})", printable(entry.comm(), 15));
                        (Told { text, by_bytes: false, session: session() }, false)
                    }
                },
            };
            // An IDE's first command is a shell; its server comes later, somewhere below.
            told.by_bytes = told.by_bytes || serves_an_ide(world, entry, marks);
            let host = match &told.session {
                Some(session) => logind.host(session, now).await,
                None => None,
            };
            commands.push(RemoteCommand {
                pid: entry.pid,
                since: Boottime::from_millis(entry.start.saturating_mul(TICK_MILLIS)),
                what: what(&told.text, &user, via, host),
                host,
                by_bytes: told.by_bytes,
            });
            if is_read {
                self.told.insert(key, told);
            }
        }
        Ok(commands)
    }
}

fn what(text: &str, user: &str, via: &str, host: Option<IpAddr>) -> String {
    match host {
        Some(host) => format!("{text} ({user}, {via} from {host})"),
        None => format!("{text} ({user}, {via})"),
    }
}

/// The commands below sshd's sessions and below tailscaled.
fn find(world: World<'_>) -> Result<Vec<Found<'_>>, Failure> {
    let World { proc, processes, logins } = world;
    let mut found = Vec::new();
    if let Some(why) = logins.unread() {
        return Err(why.clone());
    }
    for (session, user) in logins.sessions() {
        for entry in processes.children(session).filter(|child| child.terminal == 0) {
            // sshd's own child: internal-sftp, or a fork on its way to become the command.
            let sftp = matches!(logins.sshd(entry.pid), Some(Sshd::InternalSftp { .. }));
            if !is_sshd(entry) || sftp {
                found.push(Found { entry, user: user.to_owned(), via: "ssh" });
            }
        }
        if found.len() > MOST {
            break;
        }
    }
    for daemon in processes.iter().filter(|entry| is_tailscaled(entry)) {
        for entry in processes.children(daemon.pid).filter(|child| child.terminal == 0) {
            let known = entry.comm() == b"su" || is_tailscaled(entry);
            if known && let Some(user) = tailscale_user(&proc.command_line(entry.process())?) {
                found.push(Found { entry, user, via: "Tailscale SSH" });
            }
            if found.len() > MOST {
                break;
            }
        }
    }
    if found.len() > MOST {
        return Err(Failure::TooMany { limit: MOST, what: "remote commands" });
    }
    Ok(found)
}

/// The user of tailscaled's child `su -w SSH_AUTH_SOCK -l alice -c CMD`, or of
/// `tailscaled be-child ssh --local-user=alice …` where there is no su; None: the child is no
/// remote command, or has a terminal (ssh/tailssh/incubator.go).
pub(super) fn tailscale_user(words: &[Vec<u8>]) -> Option<String> {
    let mut words = words.iter().map(Vec::as_slice);
    let user = match basename(words.next()?) {
        b"su" => words.skip_while(|word| *word != b"-l").nth(1)?,
        b"tailscaled" if words.next()? == b"be-child" => {
            let options: Vec<&[u8]> = words.collect();
            let has_tty = |word: &&[u8]| matches!(*word, b"--has-tty" | b"--has-tty=true");
            if options.iter().any(has_tty) {
                return None;
            }
            options.iter().find_map(|word| word.strip_prefix(b"--local-user="))?
        }
        _ => return None,
    };
    Some(printable(user, 64))
}

/// Reads a command line. A shell that was told what to run says it itself.
pub(super) fn line(words: &[Vec<u8>]) -> Line {
    let word = |at: usize| words.get(at).map(Vec::as_slice).unwrap_or_default();
    let program = basename(word(0));
    let told = match program {
        b"tailscaled" => words.iter().find_map(|word| match word.as_slice() {
            b"--shell" => Some(b"shell".as_slice()),
            word => word.strip_prefix(b"--cmd="),
        }),
        b"su" => match words.iter().position(|word| word == b"-c") {
            Some(at) => words.get(at + 1).map(Vec::as_slice),
            // Tailscale's: a shell without a terminal, as an IDE asks for.
            None => (word(1) == b"-w").then_some(b"shell".as_slice()),
        },
        _ if program.ends_with(b"sh") && word(1) == b"-c" => Some(word(2)),
        _ => None,
    };
    let whole = words.join(&b' ');
    let text = told.unwrap_or(&whole);
    let first = text.split(|byte| *byte == b' ').next().unwrap_or_default();
    // sshd's internal server is a process named by its title only.
    let sftp = basename(first) == b"sftp-server"
        || whole.ends_with(b"@internal-sftp")
        || words.iter().any(|word| word == b"--sftp" || word == b"--sftp=true")
        || text.ends_with(b"be-child sftp")
        || whole.ends_with(b"be-child sftp");
    Line { text: if sftp { "sftp".to_owned() } else { printable(text, 80) }, sftp }
}

fn basename(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}

/// Whether the command or something below it is the server of an IDE.
fn serves_an_ide(world: World<'_>, command: &Entry, marks: &[String]) -> bool {
    if marks.is_empty() {
        return false;
    }
    let mut below = vec![command];
    let mut at = 0;
    while let Some(entry) = below.get(at).copied() {
        if at >= MOST_DESCENDANTS {
            return false;
        }
        // One whose program cannot be told is no server: the command then counts as one.
        if world.proc.program_holds(entry.process(), marks).unwrap_or(false) {
            return true;
        }
        at += 1;
        below.extend(world.processes.children(entry.pid).take(MOST_DESCENDANTS));
    }
    false
}
