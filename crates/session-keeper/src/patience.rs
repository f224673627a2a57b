//! Reads that may hang. A user's files may lie on a network or a FUSE file system whose server is
//! gone, and nothing ends a system call that waits for it. So they are read by a thread that can be
//! left behind, and what hangs is not asked for again until it has answered: it holds up its own
//! session, and no other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// A read takes microseconds; on a busy machine its thread may have to wait for a processor.
const DEADLINE: Duration = Duration::from_secs(2);
/// One look waits no longer than this many deadlines, far from the watchdog's two minutes.
const MOST_DEADLINES: u32 = 8;
/// Threads that may hang at the same time; beyond them nothing is read. The unit lets the keeper have
/// four times as many.
const MOST_STUCK: usize = 32;
/// To parse what was read takes more than the least.
const STACK: usize = 512 * 1024;

/// A read, and the path that it is known by.
pub type Work<T> = (PathBuf, Box<dyn FnOnce() -> T + Send>);

/// A read that leaves what it says somewhere.
type Read = Box<dyn FnOnce() + Send>;

/// Reads that are done together, in their order.
struct Batch {
    queue: VecDeque<(usize, Read)>,
    /// The one that was begun last.
    current: Option<usize>,
}

/// Waits for reads, and remembers which of them hang.
#[derive(Debug)]
pub struct Patience {
    deadline: Duration,
    /// What this look has waited for in vain.
    waited: Cell<Duration>,
    stuck: RefCell<Vec<(PathBuf, JoinHandle<()>)>>,
}

impl Default for Patience {
    fn default() -> Self {
        Self::within(DEADLINE)
    }
}

/// A thread that reads until there is no more to read, or it is left behind.
struct Worker {
    thread: JoinHandle<()>,
    is_left: Arc<AtomicBool>,
    /// What it begins with.
    first: Option<usize>,
    /// Disconnected when it has ended.
    ended: Receiver<()>,
}

impl Patience {
    /// Waits no longer than this for each read.
    pub(crate) fn within(deadline: Duration) -> Self {
        Self { deadline, waited: Cell::default(), stuck: RefCell::default() }
    }

    /// A look begins, with time of its own.
    pub fn begin(&self) {
        self.waited.set(Duration::ZERO);
    }

    /// Does one.
    ///
    /// # Errors
    /// See [`Patience::each`].
    pub fn one<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let answer = self.each(vec![(path.to_owned(), Box::new(work))]).pop();
        answer.unwrap_or_else(|| Err(hangs(path)))
    }

    /// Does all of them, one after the other, and returns what they say in that order.
    ///
    /// # Errors
    /// Of each: it hangs, now or since an earlier call; or too many others do. In words.
    pub fn each<T: Send + 'static>(&self, works: Vec<Work<T>>) -> Vec<Result<T, String>> {
        let answers = Arc::new(Mutex::new(works.iter().map(|_| None).collect::<Vec<_>>()));
        let read = |(at, (path, work)): (usize, Work<T>)| -> (PathBuf, Read) {
            let answers = Arc::clone(&answers);
            let read = move || {
                let said = work();
                // It may have taken so long that nobody waits for it any more.
                if let Some(place) = lock(&answers).get_mut(at) {
                    *place = Some(said);
                }
            };
            (path, Box::new(read))
        };
        let left = self.all(works.into_iter().enumerate().map(read).collect());
        let answers = std::mem::take(&mut *lock(&answers)).into_iter().zip(left);
        answers
            .map(|(answer, (path, why))| answer.ok_or_else(|| why.unwrap_or_else(|| hangs(&path))))
            .collect()
    }

    /// Does them; why not, of those that were not begun.
    fn all(&self, reads: Vec<(PathBuf, Read)>) -> Vec<(PathBuf, Option<String>)> {
        self.stuck.borrow_mut().retain(|(_, thread)| !thread.is_finished());
        let (mut paths, mut queue) = (Vec::new(), VecDeque::new());
        for (at, (path, read)) in reads.into_iter().enumerate() {
            if !self.stuck.borrow().iter().any(|(stuck, _)| *stuck == path) {
                queue.push_back((at, read));
            }
            paths.push((path, None));
        }
        let batch = Arc::new(Mutex::new(Batch { queue, current: None }));
        while !lock(&batch).queue.is_empty() {
            match self.hire(&batch) {
                Ok(worker) => self.wait_for(worker, &batch, &paths),
                Err(why) => {
                    for (at, _) in std::mem::take(&mut lock(&batch).queue) {
                        if let Some((_, not_begun)) = paths.get_mut(at) {
                            *not_begun = Some(why.clone());
                        }
                    }
                }
            }
        }
        paths
    }

    /// Until it has done all, or one of them does not end. Nobody is woken for each: a look has
    /// hundreds of them.
    fn wait_for(&self, worker: Worker, batch: &Mutex<Batch>, paths: &[(PathBuf, Option<String>)]) {
        let mut before = worker.first;
        while worker.ended.recv_timeout(self.deadline) == Err(RecvTimeoutError::Timeout) {
            self.waited.set(self.waited.get() + self.deadline);
            let batch = lock(batch);
            let gets_on = batch.current > before;
            before = before.max(batch.current);
            if gets_on && self.has_time() {
                continue;
            }
            let Some((path, _)) = before.and_then(|at| paths.get(at)) else { continue };
            worker.is_left.store(true, Ordering::Relaxed);
            self.stuck.borrow_mut().push((path.clone(), worker.thread));
            return;
        }
    }

    fn has_time(&self) -> bool {
        self.waited.get() < self.deadline.saturating_mul(MOST_DEADLINES)
    }

    fn hire(&self, batch: &Arc<Mutex<Batch>>) -> Result<Worker, String> {
        let stuck = self.stuck.borrow().len();
        if stuck >= MOST_STUCK || !self.has_time() {
            return Err(format!("not read: {stuck} other files hang"));
        }
        let is_left = Arc::new(AtomicBool::new(false));
        let (ends, ended) = channel();
        let first = lock(batch).queue.front().map(|(at, _)| *at);
        let (batch, left) = (Arc::clone(batch), Arc::clone(&is_left));
        let work_on = move || {
            let _ends: Sender<()> = ends;
            loop {
                let Some(read) = lock(&batch).next(&left) else { return };
                read();
            }
        };
        let builder = std::thread::Builder::new().name("reads".to_owned()).stack_size(STACK);
        let thread = builder.spawn(work_on).map_err(|error| format!("no thread: {error}"))?;
        Ok(Worker { thread, is_left, first, ended })
    }
}

impl Batch {
    /// The next to do, for whoever is not left behind.
    fn next(&mut self, is_left: &AtomicBool) -> Option<Read> {
        if is_left.load(Ordering::Relaxed) {
            return None;
        }
        let (at, read) = self.queue.pop_front()?;
        self.current = Some(at);
        Some(read)
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hangs(path: &Path) -> String {
    format!("{}: its file system does not answer", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A read that hangs until it is let go.
    fn hanging(path: &str, until: Receiver<()>) -> Work<String> {
        let said = path.to_owned();
        let work = move || {
            let _ = until.recv();
            said
        };
        (path.into(), Box::new(work))
    }

    fn plain(path: &str) -> Work<String> {
        let said = path.to_owned();
        (path.into(), Box::new(move || said))
    }

    #[test]
    fn what_hangs_holds_up_no_other_and_is_asked_again_when_it_has_answered() {
        // Long enough for those that do not hang, on any machine.
        let patience = Patience::within(Duration::from_secs(5));
        let (go_on, hung) = sync_channel(0);
        let works = vec![plain("/a"), hanging("/b", hung), plain("/c")];
        let said = patience.each(works);
        let wrong = Err("/b: its file system does not answer".to_owned());
        assert_eq!(said, [Ok("/a".to_owned()), wrong.clone(), Ok("/c".to_owned())]);
        // Nobody asks it again.
        let not_asked: Work<String> = ("/b".into(), Box::new(|| panic!("it hangs")));
        assert_eq!(patience.each(vec![not_asked, plain("/d")]), [wrong, Ok("/d".to_owned())]);
        go_on.send(()).unwrap();
        while patience.one(Path::new("/b"), || ()).is_err() {}
    }

    #[test]
    fn what_takes_its_time_together_does_not_hang() {
        let patience = Patience::within(Duration::from_secs(2));
        let slow = |at: u32| -> Work<u32> {
            let work = move || {
                std::thread::sleep(Duration::from_millis(600));
                at
            };
            (format!("/{at}").into(), Box::new(work))
        };
        let said: Vec<_> = patience.each((0..4).map(slow).collect());
        assert_eq!(said, (0..4).map(Ok).collect::<Vec<_>>());
    }

    #[test]
    fn a_look_does_not_wait_for_all_that_hang() {
        let mut patience = Patience::within(Duration::from_millis(1));
        let mut held = Vec::new();
        let works = (0..=MOST_DEADLINES).map(|at| {
            let (hold, hung) = sync_channel(0);
            held.push(hold);
            hanging(&format!("/{at}"), hung)
        });
        let said = patience.each(works.collect());
        assert!(said.last().unwrap().as_ref().unwrap_err().starts_with("not read: 8 other"));
        patience.begin();
        patience.deadline = Duration::from_secs(60);
        let last = format!("/{MOST_DEADLINES}");
        assert_eq!(patience.one(Path::new(&last), || 7), Ok(7));
    }
}
