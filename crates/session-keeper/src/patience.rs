//! Reads that may hang. A user's files may lie on a network or a FUSE file system whose server is
//! gone, and nothing ends a system call that waits for it. So they are read by a thread that can be
//! left behind, and what hangs is not asked for again until it has answered: it holds up its own
//! session, and no other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
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
type Queue<T> = Arc<Mutex<VecDeque<(usize, Box<dyn FnOnce() -> T + Send>)>>>;

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

/// A thread that reads until it is left behind.
struct Worker {
    thread: JoinHandle<()>,
    is_left: Arc<AtomicBool>,
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
        self.stuck.borrow_mut().retain(|(_, thread)| !thread.is_finished());
        let (mut paths, mut answers, mut queue) = (Vec::new(), Vec::new(), VecDeque::new());
        for (at, (path, work)) in works.into_iter().enumerate() {
            let stuck = self.stuck.borrow().iter().any(|(stuck, _)| *stuck == path);
            answers.push(stuck.then(|| Err(hangs(&path))));
            if !stuck {
                queue.push_back((at, work));
            }
            paths.push(path);
        }
        let queue = Arc::new(Mutex::new(queue));
        let (answer, answered) = channel();
        let mut worker = None;
        while let Some(next) = answers.iter().position(Option::is_none) {
            if worker.is_none() {
                match self.hire(&queue, &answer) {
                    Ok(hired) => worker = Some(hired),
                    Err(why) => {
                        return answers
                            .into_iter()
                            .map(|answer| answer.unwrap_or_else(|| Err(why.clone())))
                            .collect();
                    }
                }
            }
            match answered.recv_timeout(self.deadline) {
                Ok((at, said)) => {
                    if let Some(place) = answers.get_mut(at) {
                        *place = Some(Ok(said));
                    }
                }
                Err(_) => {
                    let Some((path, place)) = paths.get(next).zip(answers.get_mut(next)) else {
                        continue;
                    };
                    *place = Some(Err(hangs(path)));
                    self.waited.set(self.waited.get() + self.deadline);
                    if let Some(Worker { thread, is_left }) = worker.take() {
                        is_left.store(true, Ordering::Relaxed);
                        self.stuck.borrow_mut().push((path.clone(), thread));
                    }
                }
            }
        }
        answers.into_iter().flatten().collect()
    }

    fn hire<T: Send + 'static>(
        &self,
        queue: &Queue<T>,
        answer: &Sender<(usize, T)>,
    ) -> Result<Worker, String> {
        let stuck = self.stuck.borrow().len();
        if stuck >= MOST_STUCK || self.waited.get() >= self.deadline.saturating_mul(MOST_DEADLINES)
        {
            return Err(format!("not read: {stuck} other files hang"));
        }
        let is_left = Arc::new(AtomicBool::new(false));
        let (queue, answer, left) = (Arc::clone(queue), answer.clone(), Arc::clone(&is_left));
        let next = move || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let work_on = move || {
            while !left.load(Ordering::Relaxed)
                && let Some((at, work)) = next()
                && answer.send((at, work())).is_ok()
            {}
        };
        let builder = std::thread::Builder::new().name("reads".to_owned()).stack_size(STACK);
        let thread = builder.spawn(work_on).map_err(|error| format!("no thread: {error}"))?;
        Ok(Worker { thread, is_left })
    }
}

fn hangs(path: &Path) -> String {
    format!("{}: its file system does not answer", path.display())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::mpsc::{Receiver, sync_channel};

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
