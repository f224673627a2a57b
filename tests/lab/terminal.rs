//! A person at a terminal: a program on a real pseudo-terminal, typed into and read.

use std::io::{Read as _, Write as _};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};

use crate::process::Spawned;
use crate::wait;

/// A program on a pseudo-terminal. Dropping it hangs up the hard way: the program is killed.
#[derive(Debug)]
pub struct Terminal {
    process: Spawned,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// Runs a shell command on a terminal of its own; `around` is the program that starts it,
    /// such as a namespace's `nsenter`, given `script` and its arguments.
    pub(crate) fn start(mut around: Command, shell: &str) -> Result<Self> {
        // util-linux's script holds the pseudo-terminal; it has no size of its own.
        let sized = format!("stty rows 40 columns 132; exec {shell}");
        around.args(["--quiet", "--return", "--flush", "--command", &sized, "/dev/null"]);
        around.env("TERM", "xterm").env("SHELL", "/bin/bash");
        around.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Spawned::start(&mut around)?;
        let keyboard = process.child.stdin.take().ok_or_else(|| anyhow!("no keyboard"))?;
        let screen = Arc::new(Mutex::new(Vec::new()));
        let pipes: [Option<Box<dyn std::io::Read + Send>>; 2] = [
            process.child.stdout.take().map(|pipe| Box::new(pipe) as _),
            process.child.stderr.take().map(|pipe| Box::new(pipe) as _),
        ];
        for mut pipe in pipes.into_iter().flatten() {
            let screen = Arc::clone(&screen);
            std::thread::spawn(move || {
                let mut bytes = [0u8; 4096];
                while let Ok(count @ 1..) = pipe.read(&mut bytes) {
                    let mut screen = screen.lock().unwrap_or_else(PoisonError::into_inner);
                    screen.extend(bytes.iter().take(count));
                }
            });
        }
        Ok(Self { process, keyboard, screen })
    }

    /// Presses keys. Enter is `\r`, Ctrl-C is `\x03`.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.keyboard.write_all(keys.as_bytes()).context("cannot type: the program has ended")?;
        self.keyboard.flush().context("cannot type")
    }

    /// Everything shown so far, without escapes.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = self.screen.lock().unwrap_or_else(PoisonError::into_inner);
        without_escapes(&String::from_utf8_lossy(&bytes))
    }

    /// Waits until a text is shown; gives all that was shown.
    pub fn wait_for(&self, text: &str, within: Duration) -> Result<String> {
        let found = wait::until(&format!("{text:?} on the terminal"), within, || {
            let shown = self.text();
            Ok(shown.contains(text).then_some(shown))
        });
        found.with_context(|| format!("the terminal shows: {}", self.text()))
    }

    /// Waits for the program's end; gives its exit code.
    pub fn wait_end(&mut self, within: Duration) -> Result<i32> {
        self.process.wait(within)
    }

    /// The exit code if the program has ended.
    pub fn ended(&mut self) -> Result<Option<i32>> {
        self.process.ended()
    }

    /// The id of the process (of util-linux's `script`, around the program).
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// Text as it reads on a screen: without terminal escapes and carriage returns.
pub(crate) fn without_escapes(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' | '\x07' | '\0' => {}
            '\x1b' => match letters.next() {
                // A control sequence ends with a letter or one of @ ` { ~ and so on.
                Some('[') => drop(letters.find(|end| ('@'..='~').contains(end))),
                // An operating system command ends with a bell or a backslash.
                Some(']') => drop(letters.find(|end| *end == '\x07' || *end == '\\')),
                Some('(' | ')') => drop(letters.next()),
                _ => {}
            },
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::without_escapes;

    #[test]
    fn colours_titles_and_returns_are_gone() {
        let shown = "\x1b]0;title\x07[\x1b[0;32m  OK  \x1b[0m] Started\r\n";
        assert_eq!(without_escapes(shown), "[  OK  ] Started\n");
    }
}
