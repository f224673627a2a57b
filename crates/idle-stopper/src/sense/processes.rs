//! One scan of /proc/*/stat a tick, which terminals, commands and builds share. Command lines and
//! cgroups are read for the few processes that need them, never for all: they cost twice the scan.

use std::cell::RefCell;
use std::io::Write;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use rustix::io::Errno;
use service::cmdline::Reader;

use super::Process;
use super::file::{self, Failure, number};

/// Processes of one scan. A box that has more is beyond what one tick should cost (about 8 µs
/// each); 40 bytes each make 1.3 MB here.
pub(super) const MOST: usize = 32_768;

/// PF_KTHREAD (include/linux/sched.h): a thread of the kernel.
const KERNEL_THREAD: u64 = 0x0020_0000;

/// What one line of /proc/PID/stat tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) pid: u32,
    pub(super) parent: u32,
    pub(super) session: u32,
    /// tty_nr: the controlling terminal's device number, 0 for none.
    pub(super) terminal: u32,
    /// Clock ticks since boot.
    pub(super) start: u64,
    comm: [u8; 15],
    comm_length: u8,
}

impl Entry {
    /// The program's name, up to 15 bytes; it may hold anything, blanks and `)` included.
    pub(super) fn comm(&self) -> &[u8] {
        self.comm.get(..usize::from(self.comm_length)).unwrap_or_default()
    }

    pub(super) const fn process(&self) -> Process {
        Process { pid: self.pid, start: self.start }
    }
}

/// A line of /proc/PID/stat, judged: kernel threads and the dead are nobody's work.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Alive(Entry),
    Kernel,
    Dead,
}

/// Parses proc_pid_stat(5). The program's name is closed by the last `)` of the line.
pub(super) fn parse(line: &[u8]) -> Option<Line> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let pid = u32::try_from(number(line.get(..open)?.trim_ascii())?).ok()?;
    let name = line.get(open + 1..close)?;
    let mut fields = file::words(line.get(close + 1..)?);
    let state = fields.next()?;
    let parent = u32::try_from(number(fields.next()?)?).ok()?;
    let session = u32::try_from(number(fields.nth(1)?)?).ok()?;
    // The terminal is a signed number (field 7), the flags are field 9.
    let terminal = std::str::from_utf8(fields.next()?).ok()?.parse::<i32>().ok()?;
    let flags = number(fields.nth(1)?)?;
    let threads = number(fields.nth(10)?)?;
    let start = number(fields.nth(1)?)?;
    if flags & KERNEL_THREAD != 0 {
        return Some(Line::Kernel);
    }
    // A first thread that has exited shows Z while the others live on.
    if matches!(state, b"Z" | b"X" | b"x") && threads <= 1 {
        return Some(Line::Dead);
    }
    let mut comm = [0; 15];
    let length = name.len().min(comm.len());
    comm.get_mut(..length)?.copy_from_slice(name.get(..length)?);
    Some(Line::Alive(Entry {
        pid,
        parent,
        session,
        terminal: terminal.cast_unsigned(),
        start,
        comm,
        comm_length: u8::try_from(length).ok()?,
    }))
}

/// A command line is read up to here, in bytes: enough for the program, its verb and an IDE's path.
pub(super) const LONGEST: usize = 4096;

/// /proc, open.
#[derive(Debug)]
pub(super) struct Proc {
    path: PathBuf,
    folder: Arc<OwnedFd>,
    command_lines: Rc<RefCell<Reader>>,
}

impl Proc {
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        Self::open_with(path, Rc::new(RefCell::new(Reader::of(LONGEST))))
    }

    /// With a reader that remembers from tick to tick.
    pub(super) fn open_with(
        path: &Path,
        command_lines: Rc<RefCell<Reader>>,
    ) -> Result<Self, Failure> {
        let folder = file::folder(path).map_err(|errno| Failure::read(path, errno))?;
        Ok(Self { path: path.to_owned(), folder: Arc::new(folder), command_lines })
    }

    pub(super) fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// For an error's text.
    pub(super) fn path(&self, below: &str) -> PathBuf {
        self.path.join(below)
    }

    /// One process now; None: it is gone.
    pub(super) fn stat(&self, pid: u32) -> Result<Option<Line>, Failure> {
        let mut buffer = [0; 1024];
        let line = match self.read(pid, "stat", &mut buffer) {
            Ok(line) => line,
            Err(errno) if gone(errno) => return Ok(None),
            Err(errno) => return Err(Failure::read(self.path(&format!("{pid}/stat")), errno)),
        };
        match parse(line) {
            Some(line) => Ok(Some(line)),
            None => Err(Failure::form(self.path(&format!("{pid}/stat")), line)),
        }
    }

    /// The words of a command line; none for a process that is gone.
    pub(super) fn command_line(&self, process: Process) -> Result<Vec<Vec<u8>>, Failure> {
        let mut reader = self.command_lines.borrow_mut();
        Ok(arguments(reader.read(&self.folder, process.pid, process.start)?))
    }

    /// Whether the path of the process's program, or of the script that its interpreter was given,
    /// holds one of `parts`. What else is in a command line may be about anything.
    pub(super) fn program_holds(
        &self,
        process: Process,
        parts: &[String],
    ) -> Result<bool, Failure> {
        let mut reader = self.command_lines.borrow_mut();
        let (program, script) = program(reader.read(&self.folder, process.pid, process.start)?);
        let holds = |part: &[u8]| holds(program, part) || holds(script, part);
        Ok(parts.iter().any(|part| holds(part.as_bytes())))
    }

    /// The id of the logind session that a process belongs to, from its cgroup.
    pub(super) fn session(&self, pid: u32) -> Option<String> {
        let mut buffer = [0; 2048];
        session_in(self.read(pid, "cgroup", &mut buffer).ok()?)
    }

    fn read<'b>(&self, pid: u32, name: &str, buffer: &'b mut [u8]) -> Result<&'b [u8], Errno> {
        let mut path = [0; 24];
        let mut rest = path.as_mut_slice();
        // Ten digits and `/cgroup` fit.
        let written = write!(rest, "{pid}/{name}").map(|()| rest.len());
        let length = path.len() - written.map_err(|_| Errno::NAMETOOLONG)?;
        let path = path.get(..length).unwrap_or_default();
        file::read_once(self.folder(), path, buffer)
    }
}

/// Splits a command line at its NULs. A title that overwrote it is padded with them.
pub(super) fn arguments(text: &[u8]) -> Vec<Vec<u8>> {
    let Some(last) = text.iter().rposition(|byte| *byte != 0) else {
        return Vec::new();
    };
    let text = text.get(..=last).unwrap_or_default();
    text.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// The path of a command line's program, and that of its script where the program is an
/// interpreter: `node /home/alice/.vscode-server/out/server-main.js`.
pub(super) fn program(text: &[u8]) -> (&[u8], &[u8]) {
    let mut words = text.split(|byte| *byte == 0);
    let program = words.next().unwrap_or_default();
    let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let interprets = matches!(name, b"node" | b"nodejs" | b"bun" | b"deno")
        || name.ends_with(b"sh")
        || name.starts_with(b"python");
    let script = words.next().filter(|word| interprets && word.contains(&b'/'));
    (program, script.filter(|word| !word.starts_with(b"-")).unwrap_or_default())
}

/// Whether `text` holds `part`, which must not be empty.
fn holds(text: &[u8], part: &[u8]) -> bool {
    !part.is_empty() && text.windows(part.len()).any(|window| window == part)
}

/// `3` for `0::/user.slice/user-1000.slice/session-3.scope`, on hybrid boxes in the line of
/// systemd's own hierarchy too.
pub(super) fn session_in(cgroups: &[u8]) -> Option<String> {
    file::lines(cgroups)
        .flat_map(|line| line.split(|byte| *byte == b'/'))
        .find_map(|part| part.strip_prefix(b"session-")?.strip_suffix(b".scope"))
        .filter(|id| id.len() <= 32 && id.iter().all(u8::is_ascii_alphanumeric))
        .map(|id| String::from_utf8_lossy(id).into_owned())
}

/// A process may end between readdir, open and read.
pub(super) fn gone(errno: Errno) -> bool {
    matches!(errno, Errno::NOENT | Errno::SRCH)
}

/// The processes of one scan, sorted by pid.
#[derive(Debug, Default)]
pub(super) struct Processes {
    entries: Vec<Entry>,
    /// (parent, index of the child), sorted.
    children: Vec<(u32, u32)>,
}

impl Processes {
    /// Reads them all again.
    pub(super) fn scan(&mut self, proc: &Proc) -> Result<(), Failure> {
        self.entries.clear();
        self.children.clear();
        let entries = &mut self.entries;
        let mut failure = None;
        // The folder's position is where the last scan left it.
        rustix::fs::seek(proc.folder(), rustix::fs::SeekFrom::Start(0))
            .map_err(|errno| Failure::read(&proc.path, errno))?;
        let listed = file::list(proc.folder(), |name, _, _| {
            let Some(pid) = number(name.to_bytes()).and_then(|pid| u32::try_from(pid).ok()) else {
                return ControlFlow::Continue(());
            };
            if entries.len() == MOST {
                failure = Some(Failure::TooMany { limit: MOST, what: "processes" });
                return ControlFlow::Break(());
            }
            match proc.stat(pid) {
                Ok(Some(Line::Alive(entry))) => entries.push(entry),
                Ok(_) => {}
                Err(why) => {
                    failure = Some(why);
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        listed.map_err(|errno| Failure::read(&proc.path, errno))?;
        if let Some(failure) = failure {
            return Err(failure);
        }
        self.entries.sort_unstable_by_key(|entry| entry.pid);
        if self.find(1).is_none() {
            // Otherwise a box full of people would look empty.
            return Err(Failure::Other(format!(
                "{} hides the processes of other users: is it mounted with hidepid=, or is \
                 ProtectProc= set in the unit?",
                proc.path.display()
            )));
        }
        for (index, entry) in (0..).zip(&self.entries) {
            self.children.push((entry.parent, index));
        }
        self.children.sort_unstable();
        Ok(())
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn find(&self, pid: u32) -> Option<&Entry> {
        let index = self.entries.binary_search_by_key(&pid, |entry| entry.pid).ok()?;
        self.entries.get(index)
    }

    pub(super) fn children(&self, parent: u32) -> impl Iterator<Item = &Entry> {
        let from = self.children.partition_point(|(pid, _)| *pid < parent);
        self.children
            .get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(move |(pid, _)| *pid == parent)
            .filter_map(|(_, index)| self.entries.get(usize::try_from(*index).ok()?))
    }

    /// The process and those above it, nearest first. Processes are born and die during a scan, so
    /// the chain may be of two moments; 64 steps end it even if that made a ring.
    pub(super) fn line(&self, pid: u32) -> impl Iterator<Item = &Entry> {
        std::iter::successors(self.find(pid), |entry| self.find(entry.parent)).take(64)
    }
}
