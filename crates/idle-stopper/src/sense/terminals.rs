//! Terminals: the stamp that moves when a program reads what somebody typed, and who sits there.
//! The devices are only stat(2)ed, never opened: opening one may change its session or its stamp.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Stat, major, minor, statat};
use service::clock::Boottime;

use super::Terminal;
use super::file::{self, Failure, printable};
use super::logind::Logind;
use super::logins::{Origin, World};
use super::processes::{Entry, gone};

/// Terminals that are listed; kernel.pty.max is 4096 by default.
const MOST: usize = 4096;

/// What a terminal is, so that it is found out once: the sessions on it come and go far less
/// often than ticks.
#[derive(Debug, Default)]
pub(super) struct Terminals {
    told: HashMap<(u32, u64), Told>,
}

/// Who sits at a terminal: for people, and the remote host where logind knows it.
#[derive(Clone, Debug)]
struct Told {
    what: String,
    host: Option<IpAddr>,
}

/// A session leader and its terminal.
struct Seat<'a> {
    name: String,
    leader: Option<&'a Entry>,
    what: What,
}

/// What is known before logind is asked.
enum What {
    Told(Told),
    Ssh { user: String },
}

impl What {
    /// No ssh connection belongs to it.
    const fn local(what: String) -> Self {
        Self::Told(Told { what, host: None })
    }
}

impl Terminals {
    pub(super) async fn read(
        &mut self,
        dev: &Path,
        world: World<'_>,
        logind: &mut Logind,
        now: Boottime,
    ) -> Result<Vec<Terminal>, Failure> {
        let found = self.look(dev, world)?;
        self.told.clear();
        let mut terminals = Vec::with_capacity(found.len());
        for (mut terminal, is_new_ssh) in found {
            let mut is_told = terminal.leader != 0 && !is_new_ssh;
            // Without a host it is asked again: logind remembers what it knows, and may have
            // been out of reach.
            if is_new_ssh
                && let Some(session) = world.proc.session(terminal.leader)
                && let Some(host) = logind.host(&session, now).await
            {
                terminal.what = format!("{} from {host}", terminal.what);
                terminal.host = Some(host);
                is_told = true;
            }
            if is_told {
                let leader = (terminal.leader, terminal.leader_start);
                let told = Told { what: terminal.what.clone(), host: terminal.host };
                self.told.insert(leader, told);
            }
            terminals.push(terminal);
        }
        Ok(terminals)
    }

    /// The terminals without what only logind knows; true: logind may know the remote host.
    pub(super) fn look(
        &self,
        dev: &Path,
        world: World<'_>,
    ) -> Result<Vec<(Terminal, bool)>, Failure> {
        let folder = file::folder(dev).map_err(|errno| Failure::read(dev, errno))?;
        let mut terminals = Vec::new();
        for seat in self.seats(dev, folder.as_fd(), world)? {
            let Some(atime) = atime(dev, folder.as_fd(), &seat)? else {
                continue;
            };
            let (Told { what, host }, is_new_ssh) = match seat.what {
                What::Told(told) => (told, false),
                What::Ssh { user } => (Told { what: format!("ssh {user}"), host: None }, true),
            };
            let terminal = Terminal {
                name: seat.name,
                leader: seat.leader.map_or(0, |leader| leader.pid),
                leader_start: seat.leader.map_or(0, |leader| leader.start),
                atime,
                what,
                host,
            };
            terminals.push((terminal, is_new_ssh));
        }
        Ok(terminals)
    }

    /// Every leader with a terminal of this box, and every pts without one.
    fn seats<'p>(
        &self,
        dev: &Path,
        folder: BorrowedFd<'_>,
        world: World<'p>,
    ) -> Result<Vec<Seat<'p>>, Failure> {
        let mut seats: Vec<Seat<'p>> = Vec::new();
        for leader in world.processes.iter().filter(|entry| entry.session == entry.pid) {
            let Some(name) = name(leader.terminal) else {
                continue;
            };
            let what = match self.told.get(&(leader.pid, leader.start)) {
                Some(told) => What::Told(told.clone()),
                // A container has a /dev/pts of its own, which starts at 0 as well: its terminals
                // would be taken for this box's.
                None => match describe(&name, leader, world) {
                    Some(what) => what,
                    None => continue,
                },
            };
            seats.push(Seat { name, leader: Some(leader), what });
            if seats.len() > MOST {
                return Err(too_many());
            }
        }
        seats.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let led = seats.len();
        let pts = match file::folder_in(folder, "pts") {
            Ok(pts) => pts,
            Err(errno) if gone(errno) => return Ok(seats),
            Err(errno) => return Err(Failure::read(dev.join("pts"), errno)),
        };
        let listed = file::list(pts.as_fd(), |name, _, _| {
            // `ptmx` is the only other name.
            let Some(number) = file::number(name.to_bytes()) else {
                return ControlFlow::Continue(());
            };
            let name = format!("pts/{number}");
            let known = seats.get(..led).unwrap_or_default();
            if known.binary_search_by(|seat| seat.name.cmp(&name)).is_err() {
                let what = What::local("a terminal without a session".to_owned());
                seats.push(Seat { name, leader: None, what });
            }
            if seats.len() > MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        listed.map_err(|errno| Failure::read(dev.join("pts"), errno))?;
        if seats.len() > MOST { Err(too_many()) } else { Ok(seats) }
    }
}

fn too_many() -> Failure {
    Failure::TooMany { limit: MOST, what: "terminals" }
}

/// The stamp; None: the terminal has gone, or is another one's.
fn atime(dev: &Path, folder: BorrowedFd<'_>, seat: &Seat<'_>) -> Result<Option<i128>, Failure> {
    let path = || dev.join(&seat.name);
    // Symbolic links are not followed: nothing below /dev that people sit at is one.
    let stat = match statat(folder, seat.name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(errno) if gone(errno) => {
            // Pseudo-terminals come and go; a console that a session sits at does not.
            if seat.name.starts_with("pts/") {
                return Ok(None);
            }
            return Err(Failure::Other(format!(
                "{} is missing though a session is on it: is PrivateDevices= set in the unit?",
                path().display()
            )));
        }
        Err(errno) => return Err(Failure::read(path(), errno)),
    };
    let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice;
    if let Some(leader) = seat.leader
        && device
        && (major(stat.st_rdev), minor(stat.st_rdev)) != split(leader.terminal)
    {
        return Ok(None);
    }
    Ok(Some(nanoseconds(&stat)))
}

fn nanoseconds(stat: &Stat) -> i128 {
    i128::from(stat.st_atime) * 1_000_000_000 + i128::from(stat.st_atime_nsec)
}

/// tty_nr as proc_pid_stat(5) packs it: the minor's low byte, the major, the minor's rest.
const fn split(terminal: u32) -> (u32, u32) {
    ((terminal >> 8) & 0xfff, (terminal & 0xff) | ((terminal >> 12) & 0x000f_ff00))
}

/// The device's name below /dev (admin-guide/devices.txt); None: no terminal, or one of no kind
/// that people sit at.
pub(super) fn name(terminal: u32) -> Option<String> {
    match split(terminal) {
        (major @ 136..=143, minor) => Some(format!("pts/{}", (major - 136) * 256 + minor)),
        (4, minor @ 1..=63) => Some(format!("tty{minor}")),
        (4, minor @ 64..) => Some(format!("ttyS{}", minor - 64)),
        (204, minor @ 64..=127) => Some(format!("ttyAMA{}", minor - 64)),
        (229, minor) => Some(format!("hvc{minor}")),
        _ => None,
    }
}

/// Who sits there; None: nobody of this box.
fn describe(name: &str, leader: &Entry, world: World<'_>) -> Option<What> {
    let told = match world.logins.origin(world.processes, leader.pid) {
        Origin::Container => return None,
        Origin::Ssh { user } => {
            return Some(What::Ssh { user: user.to_owned() });
        }
        Origin::Tmux => "tmux".to_owned(),
        Origin::Tailscale { below } => {
            // Only a name for people hangs on it.
            tailscale(&world.proc.command_line(below.process()).unwrap_or_default())
        }
        Origin::Other { parent } => match parent {
            Some(parent) if name.starts_with("pts/") => {
                format!("a terminal of {}", printable(parent.comm(), 15))
            }
            _ if name.starts_with("pts/") => "a terminal".to_owned(),
            _ => "console".to_owned(),
        },
    };
    Some(What::local(told))
}

/// tailscaled's child, which leads the terminal or is on the way to it (ssh/tailssh/incubator.go):
/// `login -f alice -h 100.64.0.2 -p`, whose name Debian 12's login blanks and which Debian 13's
/// replaces by one string, `login -- alice`; `su -w SSH_AUTH_SOCK -l alice -c CMD`; or
/// `tailscaled be-child ssh --local-user=alice --remote-ip=100.64.0.2 …`.
pub(super) fn tailscale(child: &[Vec<u8>]) -> String {
    let words = child.iter().flat_map(|word| word.split(|byte| *byte == b' '));
    let mut words = words.filter(|word| !word.is_empty());
    let login = words.next().is_some_and(|word| word.ends_with(b"login"));
    let mut user = None;
    let mut host = None;
    while let Some(word) = words.next() {
        if let Some(name) = word.strip_prefix(b"--local-user=") {
            user = user.or(Some(name));
        } else if let Some(address) = word.strip_prefix(b"--remote-ip=") {
            host = host.or(Some(address));
        } else if word == b"-h" && login {
            host = words.next();
        } else if word == b"-l" && !login {
            user = user.or_else(|| words.next());
        } else if login && user.is_none() && !word.starts_with(b"-") {
            user = Some(word);
        }
    }
    let mut text = String::from("Tailscale SSH");
    if let Some(user) = user {
        text.push(' ');
        text.push_str(&printable(user, 64));
    }
    if let Some(host) = host {
        text.push_str(" from ");
        text.push_str(&printable(host, 64));
    }
    text
}
