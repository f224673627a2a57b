//! What stands between a person and the processes they started: sshd, tailscaled, tmux. Told by
//! the tree of processes and sshd's titles; logind's sessions outlive the people in them.

use super::Process;
use super::file::{Failure, printable};
use super::processes::{Entry, Proc, Processes};

/// What an sshd process is, by its title (sshd.c, session.c: setproctitle).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sshd {
    /// `sshd: alice@pts/0`, `sshd: alice@notty`, `sshd: alice` (a forward): alive as long as the
    /// connection.
    Session { user: String },
    /// `sshd: alice@internal-sftp`: below a session, it serves files.
    InternalSftp { user: String },
    /// `sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups`.
    Listener,
    /// `sshd: alice [priv]`, or on the way to become something else.
    Other,
}

/// Reads a title; `sshd-session: ` since OpenSSH 9.8.
pub(super) fn parse_title(title: &[u8]) -> Sshd {
    let Some(rest) = title
        .strip_prefix(b"sshd: ")
        .or_else(|| title.strip_prefix(b"sshd-session: "))
        .map(<[u8]>::trim_ascii_end)
    else {
        return Sshd::Other;
    };
    let rest = String::from_utf8_lossy(rest.get(..512).unwrap_or(rest));
    let rest = rest.trim_end_matches('\0');
    if rest.contains("[listener]") {
        return Sshd::Listener;
    }
    // `[priv]`, `[net]`, `[accepted]`, `[preauth]`: not a session yet, or its guard.
    if rest.is_empty() || rest.ends_with(']') || rest.contains('/') && !rest.contains('@') {
        return Sshd::Other;
    }
    // A user's name may hold an @ itself, of a domain.
    match rest.rsplit_once('@') {
        Some((user, "internal-sftp")) => Sshd::InternalSftp { user: name(user) },
        Some((user, place)) if is_place(place) => Sshd::Session { user: name(user) },
        _ => Sshd::Session { user: name(rest) },
    }
}

/// What follows the @: no terminal, or one or several of a shared connection.
fn is_place(place: &str) -> bool {
    place == "notty"
        || place.split(',').all(|one| one.starts_with("pts/") || one.starts_with("tty"))
}

fn name(user: &str) -> String {
    printable(user.as_bytes(), 64)
}

/// The sshd processes of this tick.
#[derive(Debug, Default)]
pub(super) struct Logins {
    sshd: Vec<(Process, Sshd)>,
    /// Why some sshd's title could not be read: it may be a session.
    unread: Option<Failure>,
}

/// What one tick has read of the processes.
#[derive(Clone, Copy, Debug)]
pub(super) struct World<'a> {
    pub(super) proc: &'a Proc,
    pub(super) processes: &'a Processes,
    pub(super) logins: &'a Logins,
}

/// Where a process comes from, by its nearest telling ancestor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin<'a> {
    Ssh {
        user: &'a str,
    },
    /// `below` is tailscaled's own child, on the way to the process.
    Tailscale {
        below: &'a Entry,
    },
    Tmux,
    /// A container or a nested machine: its terminals are not this box's.
    Container,
    /// Nothing of these; the parent of the process.
    Other {
        parent: Option<&'a Entry>,
    },
}

impl Logins {
    /// Reads the titles of sshd's processes. A session and a listener stay what they are, so their
    /// titles are read once; the rest is read each time, since it may become a session.
    pub(super) fn update(&mut self, proc: &Proc, processes: &Processes) {
        let mut known = std::mem::take(&mut self.sshd);
        self.unread = None;
        for entry in processes.iter().filter(|entry| is_sshd(entry)) {
            let process = entry.process();
            let at = known.binary_search_by_key(&process.pid, |(process, _)| process.pid);
            let old = at.ok().and_then(|at| known.get_mut(at)).filter(|(old, _)| *old == process);
            let sshd = match old {
                Some((_, old @ (Sshd::Session { .. } | Sshd::Listener))) => {
                    std::mem::replace(old, Sshd::Other)
                }
                _ => match proc.command_line(process) {
                    // The title is argv[0], overwritten in place.
                    Ok(words) => parse_title(words.first().map(Vec::as_slice).unwrap_or_default()),
                    Err(why) => {
                        self.unread = Some(why);
                        Sshd::Other
                    }
                },
            };
            self.sshd.push((process, sshd));
        }
    }

    /// Why not every session is known, if so.
    pub(super) const fn unread(&self) -> Option<&Failure> {
        self.unread.as_ref()
    }

    /// What the sshd process `pid` is; None: it is no sshd.
    pub(super) fn sshd(&self, pid: u32) -> Option<&Sshd> {
        let at = self.sshd.binary_search_by_key(&pid, |(process, _)| process.pid).ok()?;
        self.sshd.get(at).map(|(_, sshd)| sshd)
    }

    /// Every ssh session: its process and its user.
    pub(super) fn sessions(&self) -> impl Iterator<Item = (u32, &str)> {
        self.sshd.iter().filter_map(|(process, sshd)| match sshd {
            Sshd::Session { user } => Some((process.pid, user.as_str())),
            _ => None,
        })
    }

    /// Where `pid` comes from.
    pub(super) fn origin<'a>(&'a self, processes: &'a Processes, pid: u32) -> Origin<'a> {
        let mut below = None;
        for entry in processes.line(pid) {
            let comm = entry.comm();
            if comm.starts_with(b"tmux") {
                return Origin::Tmux;
            }
            if is_container(comm) {
                return Origin::Container;
            }
            if let Some(Sshd::Session { user }) = self.sshd(entry.pid) {
                return Origin::Ssh { user };
            }
            match below {
                // `tailscaled be-child` is tailscaled as well; the daemon is the one above it.
                Some(below) if is_tailscaled(entry) => {
                    let daemon = processes.find(entry.parent).is_none_or(|up| !is_tailscaled(up));
                    if daemon {
                        return Origin::Tailscale { below };
                    }
                }
                _ => {}
            }
            below = Some(entry);
        }
        let parent = processes.find(pid).and_then(|entry| processes.find(entry.parent));
        Origin::Other { parent }
    }
}

pub(super) fn is_sshd(entry: &Entry) -> bool {
    matches!(entry.comm(), b"sshd" | b"sshd-session")
}

pub(super) fn is_tailscaled(entry: &Entry) -> bool {
    entry.comm() == b"tailscaled"
}

fn is_container(comm: &[u8]) -> bool {
    [b"containerd-shim".as_slice(), b"conmon", b"systemd-nspawn", b"lxc", b"incus"]
        .iter()
        .any(|name| comm.starts_with(name))
}
