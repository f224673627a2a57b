//! Kills a program at its Nth step, as nothing else can: a step is the beginning or the end of a
//! system call of any of its threads, and between two of them it changes nothing outside itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// A child of this process whose steps are counted, until it has ended.
pub(crate) struct Tracer {
    steps: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Tracer {
    /// Counts from now on, and kills the child before it goes on from step `last`.
    pub(crate) fn of(child: u32, last: u64) -> Self {
        let steps = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&steps);
        let (ready, begun) = std::sync::mpsc::channel();
        let child = Pid::from_raw(child.cast_signed());
        // All calls of ptrace(2) for one child must come from one thread.
        let thread = std::thread::spawn(move || {
            // What it writes it writes in threads of its own.
            let options =
                ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_TRACECLONE;
            for task in std::fs::read_dir(format!("/proc/{child}/task")).unwrap() {
                let task = task.unwrap().file_name().into_string().unwrap().parse().unwrap();
                let task = Pid::from_raw(task);
                ptrace::seize(task, options).unwrap();
                ptrace::interrupt(task).unwrap();
            }
            loop {
                // Of this thread alone: other tests' children are none of its business.
                let any = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
                let status = waitpid(None, Some(any)).unwrap();
                let task = status.pid().unwrap();
                let signal = match status {
                    WaitStatus::Exited(..) | WaitStatus::Signaled(..) if task == child => return,
                    WaitStatus::Exited(..) | WaitStatus::Signaled(..) => continue,
                    WaitStatus::PtraceSyscall(_) => {
                        if counted.fetch_add(1, Ordering::SeqCst) + 1 >= last {
                            kill(child, Signal::SIGKILL).unwrap();
                        }
                        None
                    }
                    WaitStatus::Stopped(_, signal) => Some(signal),
                    // The stop that was asked for.
                    _ => {
                        let _ = ready.send(());
                        None
                    }
                };
                match ptrace::syscall(task, signal) {
                    // One that was killed is gone in the middle of its stop.
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(error) => panic!("ptrace: {error}"),
                }
            }
        });
        begun.recv().unwrap();
        Self { steps, thread }
    }

    /// How many steps there were.
    pub(crate) fn steps(&self) -> u64 {
        self.steps.load(Ordering::SeqCst)
    }

    /// Whether it has killed.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the child's end, and takes its status from whoever else would wait for it.
    pub(crate) fn until_the_end(self) {
        self.thread.join().unwrap();
    }
}
