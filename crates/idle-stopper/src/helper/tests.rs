//! Root runs and reads what lies in folders, and writes to other people's terminals: what it must
//! refuse. As root, like the helper itself.

#![allow(clippy::unwrap_used)]

use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
use rustix::termios::{Action, tcflow};
use tempfile::TempDir;

use super::executables::list;
use super::hooks::run_all;
use super::run_checks;
use super::warn::{message, write};
use crate::act::MESSAGE_AT_MOST;
use crate::sense::Said;

/// A folder of root's, as tmpfiles makes those in /etc/guppy.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    mode(folder.path(), 0o755);
    folder
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// An executable of root's that runs a line of shell.
fn script(folder: &Path, name: &str, line: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).unwrap();
    mode(&path, 0o755);
    path
}

/// The only file of a folder, and why it is not run.
fn refused(folder: &Path) -> Option<String> {
    let mut found = list(folder).unwrap();
    assert_eq!(found.len(), 1, "{}", folder.display());
    found.remove(0).refused
}

#[test]
fn what_only_root_can_have_written_is_run_in_the_order_of_the_names() {
    let folder = folder();
    for name in ["20-b", "10-a", "30-c"] {
        script(folder.path(), name, "true");
    }
    for leftover in [".hidden", "10-a~", "10-a.dpkg-old", "20-b.bak", "30-c.disabled"] {
        script(folder.path(), leftover, "true");
    }
    let found = list(folder.path()).unwrap();
    let names: Vec<_> = found.iter().map(|each| (each.name.as_str(), &each.refused)).collect();
    assert_eq!(names, [("10-a", &None), ("20-b", &None), ("30-c", &None)]);
    assert_eq!(list(Path::new("/nowhere/at/all")).unwrap().len(), 0);
}

#[test]
fn a_file_that_others_may_have_written_is_refused() {
    for bits in [0o775, 0o757, 0o777] {
        let folder = folder();
        mode(&script(folder.path(), "check", "true"), bits);
        let why = refused(folder.path()).unwrap();
        assert!(why.contains("written by others"), "{bits:o}: {why}");
    }
    let folder = folder();
    chown(script(folder.path(), "check", "true"), Some(1000), None).unwrap();
    let why = refused(folder.path()).unwrap();
    assert!(why.contains("does not belong to root"), "{why}");
}

#[test]
fn a_folder_that_others_may_write_into_makes_all_in_it_refused() {
    for bits in [0o775, 0o757, 0o1777] {
        let folder = folder();
        script(folder.path(), "check", "true");
        mode(folder.path(), bits);
        let why = refused(folder.path()).unwrap();
        assert!(why.contains("its folder") && why.contains("written by others"), "{why}");
    }
    let folder = folder();
    script(folder.path(), "check", "true");
    chown(folder.path(), Some(1000), None).unwrap();
    let why = refused(folder.path()).unwrap();
    assert!(why.contains("its folder") && why.contains("does not belong to root"), "{why}");
}

#[test]
fn what_is_no_executable_file_is_refused() {
    let folder = folder();
    let elsewhere = tempfile::tempdir().unwrap();
    // Its target may be anybody's.
    symlink(script(elsewhere.path(), "target", "true"), folder.path().join("link")).unwrap();
    assert_eq!(refused(folder.path()).as_deref(), Some("is not a regular file"));
    fs::remove_file(folder.path().join("link")).unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    assert_eq!(refused(folder.path()).as_deref(), Some("is not a regular file"));
    fs::remove_dir(folder.path().join("folder")).unwrap();
    mode(&script(folder.path(), "README", "true"), 0o644);
    assert!(refused(folder.path()).unwrap().contains("not executable"));
}

#[test]
fn a_refused_hook_is_not_run_and_named() {
    let folder = folder();
    let ran = folder.path().join(".ran");
    let hook = script(folder.path(), "theirs", &format!("touch {}", ran.display()));
    chown(&hook, Some(1000), None).unwrap();
    let failed = run_all(folder.path(), Duration::from_secs(60)).unwrap_err();
    assert_eq!(failed, "failed: theirs");
    assert!(!ran.exists());
}

/// Two that hang, one that fails, and one that must still come to its turn.
#[test]
fn hooks_share_their_time_and_one_that_hangs_takes_only_its_part() {
    let folder = folder();
    let ran = folder.path().join(".ran");
    script(folder.path(), "10-hangs", "exec sleep 1000");
    // Its child holds the output open, and is killed with it.
    script(folder.path(), "20-hangs-below", "sleep 1000 & wait");
    script(folder.path(), "30-fails", "exit 3");
    script(folder.path(), "40-works", &format!("touch {}", ran.display()));
    let at_most = Duration::from_secs(4);
    let begin = Instant::now();
    let failed = run_all(folder.path(), at_most).unwrap_err();
    let took = begin.elapsed();
    assert_eq!(failed, "failed: 10-hangs, 20-hangs-below, 30-fails");
    assert!(ran.exists(), "the last one did not run");
    // A quarter for the first, a third of the rest for the second: half of it all.
    assert!(took >= at_most / 2 && took < at_most + Duration::from_secs(5), "{took:?}");
}

#[test]
fn hooks_without_time_are_not_run() {
    let folder = folder();
    let ran = folder.path().join(".ran");
    script(folder.path(), "hook", &format!("touch {}", ran.display()));
    assert_eq!(run_all(folder.path(), Duration::ZERO).unwrap_err(), "failed: hook");
    assert!(!ran.exists());
}

/// Two that hang come first; the others are not waiting for them.
#[test]
fn a_check_that_hangs_is_killed_and_unknown_and_the_others_have_their_say() {
    let folder = folder();
    let pids = folder.path().join(".pids");
    let note = |rest: &str| format!("echo $$ >> {}; {rest}", pids.display());
    script(folder.path(), "10-hangs", &note("exec sleep 1000"));
    script(folder.path(), "20-hangs-below", &note("sleep 1000 & wait"));
    script(folder.path(), "30-active", "exit 0");
    script(folder.path(), "40-quiet", "exit 1");
    script(folder.path(), "50-fails", "exit 7");
    mode(&script(folder.path(), "60-not-run", "exit 0"), 0o644);
    let checks = run_checks::run_all(folder.path(), Duration::from_secs(5)).unwrap();
    let unknown = |why: &str| Said::Unknown(why.to_owned());
    let said: Vec<_> = checks.into_iter().map(|check| (check.name, check.said)).collect();
    let expected = [
        ("10-hangs", unknown("no answer within 5 s")),
        ("20-hangs-below", unknown("no answer within 5 s")),
        ("30-active", Said::Active),
        ("40-quiet", Said::Quiet),
        ("50-fails", unknown("ended with exit status: 7; 0 is active, 1 is quiet")),
        ("60-not-run", unknown("not run: it is not executable (chmod 755)")),
    ];
    assert_eq!(said, expected.map(|(name, said)| (name.to_owned(), said)));
    let pids = fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    for pid in pids.lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "process {pid} goes on");
    }
}

/// What the daemon's user may write there, and what would drive somebody's terminal.
const ATTACK: &str =
    "\u{1b}]0;title\u{7}\u{1b}[2J\u{9b}31m\u{7f}\u{8}\r\nroot# rm\t\u{85}\u{90}q\u{9c}";

#[test]
fn no_escape_sequence_of_a_message_reaches_a_terminal() {
    let folder = folder();
    let file = folder.path().join("message");
    // As characters, and as the single bytes that an 8-bit terminal takes for them: alone, and
    // within the letters of words.
    let bytes = [ATTACK.as_bytes(), b"\x9b2J\x1b[0m ", "\u{15b}2J cut… end".as_bytes()].concat();
    fs::write(&file, bytes).unwrap();
    let text = message(&file).unwrap();
    assert!(text.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{text:?}");
    assert!(text.ends_with("?2J cut... end"), "{text:?}");

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = PathBuf::from(ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap());
    // Without a reader the terminal hangs up and forgets.
    let _reader = OpenOptions::new().read(true).write(true).open(&name).unwrap();
    write(&name, &text).unwrap();
    // The terminal hands on a part at a time, and turns each end of a line into two characters.
    let mut terminal = fs::File::from(terminal);
    let mut shown = Vec::new();
    while !shown.ends_with(b" end\r\r\n") {
        let mut part = vec![0; 4096];
        let length = terminal.read(&mut part).unwrap();
        part.truncate(length);
        shown.append(&mut part);
    }
    let shown = String::from_utf8(shown).unwrap();
    // Only the frame's own: a bell, and the ends of the lines.
    let foreign = |char: &char| !matches!(char, '\r' | '\n' | '\u{7}');
    let controls: Vec<char> =
        shown.chars().filter(foreign).filter(|char| char.is_control()).collect();
    assert!(controls.is_empty(), "{shown:?}");
    assert_eq!(shown.matches('\u{7}').count(), 1, "{shown:?}");
    assert!(shown.contains("root# rm") && shown.trim_end().ends_with("end"), "{shown:?}");
}

#[test]
fn a_message_that_is_no_file_is_refused_and_nobody_waits_for_it() {
    let folder = folder();
    let secret = folder.path().join("secret");
    fs::write(&secret, "root's own").unwrap();
    let link = folder.path().join("link");
    symlink(&secret, &link).unwrap();
    assert!(message(&link).is_err(), "it followed a link of the daemon's");
    let fifo = folder.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).unwrap();
    assert_eq!(message(&fifo).unwrap_err().to_string(), "not a regular file");
    assert!(message(folder.path()).is_err());
    assert!(message(&folder.path().join("missing")).is_err());
    let long = folder.path().join("long");
    fs::write(&long, "x".repeat(10 * MESSAGE_AT_MOST)).unwrap();
    assert_eq!(message(&long).unwrap().len(), MESSAGE_AT_MOST);
}

#[test]
fn only_a_terminal_is_written_to_and_one_that_is_stopped_is_not_waited_for() {
    let folder = folder();
    let file = folder.path().join("pts");
    fs::write(&file, "").unwrap();
    assert_eq!(write(&file, "text").unwrap_err().to_string(), "not a character device");
    let link = folder.path().join("link");
    symlink("/dev/null", &link).unwrap();
    assert!(write(&link, "text").is_err(), "it followed a link");
    assert_eq!(fs::read(&file).unwrap(), b"");

    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    unlockpt(&terminal).unwrap();
    let name = PathBuf::from(ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap());
    // What Ctrl-S does.
    let stopped = OpenOptions::new().write(true).open(&name).unwrap();
    tcflow(&stopped, Action::OOff).unwrap();
    let why = write(&name, "text").unwrap_err();
    assert_eq!(why.kind(), std::io::ErrorKind::WouldBlock);
}
