//! A test's frame: an error is a failure with its whole chain, and with `GUPPY_KEEP=1` the
//! machines of a failed test stay up for a person to look at.

use std::cell::RefCell;

use anyhow::Result;

use crate::ledger;

/// Something that can outlive its test.
pub(crate) trait Keepable {
    /// Leaves it running and says how to get a shell in it.
    fn keep(self: Box<Self>);
}

thread_local! {
    /// What the test on this thread has let go of, held back until it is known how the test ended.
    static HELD: RefCell<Option<Vec<Box<dyn Keepable>>>> = const { RefCell::new(None) };
}

/// Runs a test's body; panics with everything known if it fails.
pub fn scenario(body: impl FnOnce() -> Result<()>) {
    HELD.set(crate::keep().then(Vec::new));
    let outcome = body();
    let held = HELD.take().unwrap_or_default();
    if let Err(error) = outcome {
        held.into_iter().for_each(Keepable::keep);
        // Debug would add a backtrace of the lab itself: the chain of reasons says more.
        panic!("{error:#}");
    }
}

/// Called on the way out of a machine's life: keeps it where that is wanted, else ends it.
pub(crate) fn let_go(thing: Box<dyn Keepable>) {
    if crate::keep() && std::thread::panicking() {
        thing.keep();
        return;
    }
    HELD.with_borrow_mut(|held| {
        if let Some(held) = held {
            held.push(thing);
        }
    });
}

/// Notes a kept thing and tells the person about it.
pub(crate) fn kept(what: &str, how: &str) {
    let _ = ledger::note_kept();
    crate::say(format_args!("kept up: {what}\nlab:   {how}\nlab:   (the next tests/run ends it)"));
}
