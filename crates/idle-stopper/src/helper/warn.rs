//! `idle-stopper-helper warn`: one message to every terminal that somebody may sit at. wall(1)
//! does not reach them all (measured: Debian 13's tmux and Tailscale terminals are mode 600), and a
//! terminal stopped with Ctrl-S would hang a write that waits.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::STATE_DIR;
use crate::act::{MESSAGE_AT_MOST, MESSAGE_FILE};
use crate::sense::{Reading, terminals_now};

const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
const O_NOCTTY: i32 = rustix::fs::OFlags::NOCTTY.bits().cast_signed();
const O_NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

/// Writes it.
///
/// # Errors
/// The message or the list of terminals cannot be read. A terminal that does not take it is no
/// error.
pub fn run() -> Result<(), String> {
    let path = Path::new(STATE_DIR).join(MESSAGE_FILE);
    let text = message(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let terminals = match terminals_now() {
        Reading::Known(terminals) => terminals,
        Reading::Unknown(why) => return Err(format!("cannot list the terminals: {why}")),
    };
    let (mut reached, mut not) = (0, Vec::new());
    for terminal in terminals.iter().filter(|terminal| terminal.leader != 0) {
        match write(&Path::new("/dev").join(&terminal.name), &text) {
            Ok(()) => reached += 1,
            Err(error) => not.push(format!("{} ({error})", terminal.name)),
        }
    }
    println!("told {reached} terminals: {text}");
    if !not.is_empty() {
        println!("not told: {}", not.join(", "));
    }
    Ok(())
}

pub(super) fn message(path: &Path) -> std::io::Result<String> {
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOFOLLOW).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(MESSAGE_AT_MOST as u64).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).replace('…', "...");
    Ok(text.chars().map(plain).collect())
}

/// Control characters would let the daemon's user, and whoever gives a hold its reason, drive
/// somebody's terminal. So would letters: one that does not speak UTF-8, as a serial console may
/// not, takes the second byte of `ś` for the beginning of an escape sequence.
const fn plain(char: char) -> char {
    match char {
        ' '..='~' => char,
        _ if char.is_ascii() => ' ',
        _ => '?',
    }
}

pub(super) fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let mut terminal: File = OpenOptions::new()
        .write(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY | O_NOFOLLOW)
        .open(path)?;
    // A name below /dev that is no character device is not a terminal.
    if terminal.metadata()?.mode() & 0o170_000 != 0o020_000 {
        return Err(std::io::Error::other("not a character device"));
    }
    write!(terminal, "\r\n\u{7}*** {text}\r\n")
}
