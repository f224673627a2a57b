//! One message to the terminals at a time, and after it only the newest: systemd merges the start of
//! a oneshot that still runs, so a withdrawal close behind its warning would reach nobody.

use std::fmt;
use std::pin::Pin;

/// A message on its way.
type Sending = Pin<Box<dyn Future<Output = Result<(), String>>>>;

/// Sends messages one after the other.
pub struct Announcer {
    send: Box<dyn Fn(String) -> Sending>,
    under_way: Option<Sending>,
    next: Option<String>,
}

impl fmt::Debug for Announcer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcer").field("next", &self.next).finish_non_exhaustive()
    }
}

impl Announcer {
    /// Sends by `send`, whose future ends when the message was written.
    pub fn new(send: impl Fn(String) -> Sending + 'static) -> Self {
        Self { send: Box::new(send), under_way: None, next: None }
    }

    /// Has this written once the message under way is; one that still waits is no longer true.
    pub fn say(&mut self, text: String) {
        self.next = Some(text);
    }

    /// Goes on until one message was written, or failed; without any, for ever. It may be dropped
    /// and called again.
    ///
    /// # Errors
    /// Why the terminals could not be told.
    pub async fn go_on(&mut self) -> Result<(), String> {
        if self.under_way.is_none() {
            self.under_way = self.next.take().map(|text| (self.send)(text));
        }
        let Some(sending) = &mut self.under_way else {
            return std::future::pending().await;
        };
        let sent = sending.await;
        self.under_way = None;
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use tokio::sync::Notify;

    use super::*;

    /// What was begun and what was ended, in the order of it.
    type Log = Rc<RefCell<Vec<String>>>;

    /// Each message takes until `end` is rung; one that says `fail` fails.
    fn announcer(log: &Log, end: &Rc<Notify>) -> Announcer {
        let (log, end) = (Rc::clone(log), Rc::clone(end));
        Announcer::new(move |text| {
            let (log, end) = (Rc::clone(&log), Rc::clone(&end));
            Box::pin(async move {
                log.borrow_mut().push(format!("begun {text}"));
                end.notified().await;
                log.borrow_mut().push(format!("ended {text}"));
                if text == "fail" { Err(text) } else { Ok(()) }
            })
        })
    }

    #[tokio::test]
    async fn a_withdrawal_close_behind_its_warning_is_written_after_it() {
        let (log, end) = (Log::default(), Rc::new(Notify::new()));
        let mut announcer = announcer(&log, &end);
        announcer.say("warning".to_owned());
        // The loop has other things to do meanwhile: it drops the future and calls again.
        tokio::select! {
            biased;
            _ = announcer.go_on() => panic!("nothing has ended"),
            () = std::future::ready(()) => {}
        }
        announcer.say("withdrawal".to_owned());
        end.notify_one();
        assert_eq!(announcer.go_on().await, Ok(()));
        end.notify_one();
        assert_eq!(announcer.go_on().await, Ok(()));
        let log = log.borrow();
        assert_eq!(
            *log,
            ["begun warning", "ended warning", "begun withdrawal", "ended withdrawal"]
        );
    }

    #[tokio::test]
    async fn what_is_no_longer_true_is_not_written_and_a_failure_stops_nothing() {
        let (log, end) = (Log::default(), Rc::new(Notify::new()));
        let mut announcer = announcer(&log, &end);
        announcer.say("fail".to_owned());
        tokio::select! {
            biased;
            _ = announcer.go_on() => panic!("nothing has ended"),
            () = std::future::ready(()) => {}
        }
        announcer.say("withdrawal".to_owned());
        announcer.say("warning".to_owned());
        end.notify_one();
        assert_eq!(announcer.go_on().await, Err("fail".to_owned()));
        end.notify_one();
        assert_eq!(announcer.go_on().await, Ok(()));
        let log = log.borrow();
        assert_eq!(*log, ["begun fail", "ended fail", "begun warning", "ended warning"]);
    }
}
