//! Reads of /proc/PID/cmdline with a deadline. The kernel fetches that text from the process's own
//! memory (fs/proc/base.c, get_mm_cmdline): it waits for a lock that a stuck process may hold, and
//! for pages that a dead network file system or a FUSE server of that very user may owe. Nothing
//! ends a read(2) that hangs, so it hangs in a thread of its own.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use rustix::io::Errno;

use super::Process;
use super::file::{self, Failure};

/// A command line is read up to here: enough for the program, its verb and an IDE's path.
const LONGEST: usize = 4096;

/// A read takes microseconds.
const DEADLINE: Duration = Duration::from_secs(1);

/// Threads that may hang at the same time; beyond them nothing is read.
pub(super) const MOST_STUCK: usize = 8;

/// A tick waits no longer than this many deadlines for all of them, far from the watchdog's two
/// minutes: whoever answers each read just in time holds up nothing either.
const MOST_DEADLINES: u32 = 8;

/// The thread makes three system calls; what it does not touch costs nothing.
const STACK: usize = 64 * 1024;

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
pub(super) struct Reader {
    deadline: Duration,
    /// What this tick may still wait.
    left: Duration,
    /// Made when there is something to read, and kept.
    worker: Option<Worker>,
    buffer: Vec<u8>,
    /// Reads that nobody waits for any more, and that have not ended.
    stuck: Vec<(Process, Receiver<Answer>)>,
}

impl Default for Reader {
    fn default() -> Self {
        Self::within(DEADLINE)
    }
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("stuck", &self.stuck.len()).finish_non_exhaustive()
    }
}

impl Reader {
    pub(super) const fn within(deadline: Duration) -> Self {
        Self {
            deadline,
            left: deadline.saturating_mul(MOST_DEADLINES),
            worker: None,
            buffer: Vec::new(),
            stuck: Vec::new(),
        }
    }

    /// A new tick begins, with time of its own.
    pub(super) fn begin(&mut self) {
        self.left = self.deadline.saturating_mul(MOST_DEADLINES);
    }

    /// The command line of a process, below an open /proc; empty for one that is gone.
    ///
    /// # Errors
    /// The read hangs, now or since an earlier tick; or too many others do, or took too long.
    pub(super) fn read(
        &mut self,
        folder: &Arc<OwnedFd>,
        process: Process,
    ) -> Result<&[u8], Failure> {
        self.stuck.retain(|(_, answers)| matches!(answers.try_recv(), Err(TryRecvError::Empty)));
        let hangs = || {
            Failure::Other(format!(
                "the command line of process {} cannot be read: its memory is locked",
                process.pid
            ))
        };
        if self.stuck.iter().any(|(stuck, _)| *stuck == process) {
            return Err(hangs());
        }
        if self.stuck.len() >= MOST_STUCK {
            return Err(Failure::TooMany {
                limit: MOST_STUCK - 1,
                what: "processes whose memory is locked",
            });
        }
        if self.left.is_zero() {
            return Err(Failure::Other(format!(
                "the command line of process {} was not read: others took all the time there is",
                process.pid
            )));
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => Worker::start()?,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(LONGEST, 0);
        let request = Request { folder: Arc::clone(folder), pid: process.pid, buffer };
        worker.ask.send(request).map_err(|_| ended())?;
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
                self.stuck.push((process, worker.answers));
                Err(hangs())
            }
            Err(RecvTimeoutError::Disconnected) => Err(ended()),
        }
    }
}

fn ended() -> Failure {
    Failure::Other("the thread that reads command lines has ended".to_owned())
}

impl Worker {
    fn start() -> Result<Self, Failure> {
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
        std::thread::Builder::new()
            .name("cmdline".to_owned())
            .stack_size(STACK)
            .spawn(read_all)
            .map_err(|error| Failure::Other(format!("cannot start a thread: {error}")))?;
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
    file::read_once(folder.as_fd(), path, buffer).map(<[u8]>::len)
}
