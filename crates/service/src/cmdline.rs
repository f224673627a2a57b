//! Reads of /proc/PID/cmdline with a deadline. The kernel fetches that text from the process's own
//! memory (fs/proc/base.c, get_mm_cmdline): it waits for a lock that a stuck process may hold, and
//! for pages that a dead network file system or a FUSE server of that very user may owe. Nothing
//! ends a read(2) that hangs, so it hangs in a thread of its own.

use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

/// A read takes microseconds.
const DEADLINE: Duration = Duration::from_secs(1);

/// Threads that may hang at the same time; beyond them nothing is read.
pub const MOST_STUCK: usize = 8;

/// A tick waits no longer than this many deadlines for all of them, far from a watchdog's minutes:
/// whoever answers each read just in time holds up nothing either.
const MOST_DEADLINES: u32 = 8;

/// The thread makes three system calls; what it does not touch costs nothing.
const STACK: usize = 64 * 1024;

/// Why a command line could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The read of this process's hangs, now or since an earlier tick.
    #[error("the command line of process {0} cannot be read: its memory is locked")]
    Locked(u32),
    /// So many hang that no other is read.
    #[error("too many processes whose memory is locked")]
    TooMany,
    /// The others took all the time of this tick.
    #[error("the command line of process {0} was not read: others took all the time there is")]
    NoTime(u32),
    /// Nobody can read.
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
    /// Nobody reads any more.
    #[error("the thread that reads command lines has ended")]
    Ended,
}

/// One file to read, and where to.
struct Request {
    folder: Arc<OwnedFd>,
    pid: u32,
    buffer: Vec<u8>,
}

/// The buffer back, and how much of it was read.
type Answer = (Vec<u8>, Result<usize, Errno>);

/// A thread that reads one file at a time. It ends when nobody can ask it any more.
struct Worker {
    ask: SyncSender<Request>,
    answers: Receiver<Answer>,
}

/// Reads command lines, and remembers which of them hang.
pub struct Reader {
    /// A command line is read up to here, in bytes.
    longest: usize,
    deadline: Duration,
    /// What this tick may still wait.
    left: Duration,
    /// Made when there is something to read, and kept.
    worker: Option<Worker>,
    buffer: Vec<u8>,
    /// Reads that nobody waits for any more, and that have not ended.
    stuck: Vec<((u32, u64), Receiver<Answer>)>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("stuck", &self.stuck.len()).finish_non_exhaustive()
    }
}

impl Reader {
    /// One that reads command lines up to so many bytes.
    pub const fn of(longest: usize) -> Self {
        Self::within(longest, DEADLINE)
    }

    /// The same, which waits no longer than this for each.
    pub const fn within(longest: usize, deadline: Duration) -> Self {
        Self {
            longest,
            deadline,
            left: deadline.saturating_mul(MOST_DEADLINES),
            worker: None,
            buffer: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// A new tick begins, with time of its own.
    pub fn begin(&mut self) {
        self.left = self.deadline.saturating_mul(MOST_DEADLINES);
    }

    /// The command line of a process, below an open /proc; empty for one that is gone. `started`: in
    /// clock ticks since boot, field 22 of /proc/PID/stat (proc_pid_stat(5)), so that a later process
    /// with the same number is not taken for one that hangs.
    ///
    /// # Errors
    /// The read hangs, now or since an earlier tick; or too many others do, or took too long.
    pub fn read(&mut self, folder: &Arc<OwnedFd>, pid: u32, started: u64) -> Result<&[u8], Error> {
        self.stuck.retain(|(_, answers)| matches!(answers.try_recv(), Err(TryRecvError::Empty)));
        if self.stuck.iter().any(|(stuck, _)| *stuck == (pid, started)) {
            return Err(Error::Locked(pid));
        }
        if self.stuck.len() >= MOST_STUCK {
            return Err(Error::TooMany);
        }
        if self.left.is_zero() {
            return Err(Error::NoTime(pid));
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start()?,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(self.longest, 0);
        let request = Request { folder: Arc::clone(folder), pid, buffer };
        worker.ask.send(request).map_err(|_| Error::Ended)?;
        let begin = Instant::now();
        let answer = worker.answers.recv_timeout(self.deadline.min(self.left));
        self.left = self.left.saturating_sub(begin.elapsed());
        match answer {
            Ok((buffer, read)) => {
                self.worker = Some(worker);
                self.buffer = buffer;
                Ok(self.buffer.get(..read.unwrap_or(0)).unwrap_or_default())
            }
            Err(RecvTimeoutError::Timeout) => {
                self.stuck.push(((pid, started), worker.answers));
                Err(Error::Locked(pid))
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Ended),
        }
    }
}

impl Worker {
    fn start() -> Result<Self, Error> {
        let (ask, asked) = sync_channel::<Request>(1);
        let (answer, answers) = sync_channel(1);
        let read_all = move || {
            while let Ok(Request { folder, pid, mut buffer }) = asked.recv() {
                let read = read(&folder, pid, &mut buffer);
                if answer.send((buffer, read)).is_err() {
                    return;
                }
            }
        };
        std::thread::Builder::new().name("cmdline".to_owned()).stack_size(STACK).spawn(read_all)?;
        Ok(Self { ask, answers })
    }
}

fn read(folder: &OwnedFd, pid: u32, buffer: &mut [u8]) -> Result<usize, Errno> {
    let mut path = [0; 24];
    let mut rest = path.as_mut_slice();
    // Ten digits and the name fit.
    let written = write!(rest, "{pid}/cmdline").map(|()| rest.len());
    let length = path.len() - written.map_err(|_| Errno::NAMETOOLONG)?;
    let path = path.get(..length).unwrap_or_default();
    let file = openat(folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    // The kernel hands it out in one piece.
    rustix::io::read(&file, buffer)
}
