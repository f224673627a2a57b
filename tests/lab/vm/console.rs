//! The serial console: everything printed on it is in a file, and a test can type into it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::Vm;
use crate::terminal::without_escapes;
use crate::wait;

/// The line to `ttyS0`.
#[derive(Debug)]
pub(super) struct Console {
    keyboard: Mutex<UnixStream>,
}

impl Console {
    pub(super) fn open(place: &Path) -> Result<Self> {
        let socket = place.join("console.sock");
        let keyboard = UnixStream::connect(&socket).context("cannot open the console")?;
        let mut screen = keyboard.try_clone().context("cannot open the console")?;
        // qemu writes the log; what comes here is the same, and must be taken or the guest blocks.
        std::thread::spawn(move || {
            let mut bytes = [0u8; 4096];
            while screen.read(&mut bytes).is_ok_and(|count| count > 0) {}
        });
        Ok(Self { keyboard: Mutex::new(keyboard) })
    }
}

impl Vm {
    /// Everything the serial console has shown since the machine was made, without escapes.
    #[must_use]
    pub fn console_text(&self) -> String {
        let bytes = fs::read(self.place.join("console.log")).unwrap_or_default();
        without_escapes(&String::from_utf8_lossy(&bytes))
    }

    /// The last lines of the console: what to say when a machine does not do as it should.
    pub(super) fn console_end(&self) -> String {
        let text = self.console_text();
        let lines: Vec<&str> = text.lines().rev().take(30).collect();
        lines.into_iter().rev().fold(String::new(), |end, line| end + "\n" + line)
    }

    /// Waits until the console shows a text; gives all that was shown.
    pub fn wait_console(&self, text: &str, within: Duration) -> Result<String> {
        self.wait_console_after(0, text, within)
    }

    /// Waits until the console shows a text after the first `mark` bytes of [`Self::console_text`];
    /// gives all that was shown after the mark.
    pub fn wait_console_after(&self, mark: usize, text: &str, within: Duration) -> Result<String> {
        wait::until(&format!("{text:?} on the console"), within, || {
            let shown = self.console_text();
            let after = shown.get(mark..).unwrap_or_default();
            Ok(after.contains(text).then(|| after.to_owned()))
        })
    }

    /// Types on the console's keyboard. Enter is `\r`.
    pub fn type_console(&self, keys: &str) -> Result<()> {
        let console = &self.running()?.console;
        let mut keyboard = console.keyboard.lock().unwrap_or_else(PoisonError::into_inner);
        keyboard.write_all(keys.as_bytes()).context("cannot type on the console")
    }
}
