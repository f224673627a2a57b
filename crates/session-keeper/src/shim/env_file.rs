//! Files with secrets, `KEY=value` a line: the only way that a secret comes to an agent. Nobody
//! else may be able to read one, or it is refused; its values stand in no message.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

use super::Refusal;

/// A file is refused when it is larger; bytes.
const AT_MOST: u64 = 256 * 1024;

/// The variables of a file, in its order.
pub(super) fn read(path: &Path) -> Result<Vec<(String, String)>, Refusal> {
    let shown = path.display();
    let refused = |why: String| Refusal(format!("{shown}: {why}"));
    let file = open(path).map_err(|error| refused(error.to_string()))?;
    let metadata = file.metadata().map_err(|error| refused(error.to_string()))?;
    if !metadata.is_file() {
        return Err(refused("not a regular file".to_owned()));
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own {
        let owner = metadata.uid();
        return Err(refused(format!("belongs to uid {owner}, not to you: chown {own} {shown}")));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(refused(format!("mode {mode:04o} lets others at it: chmod 600 {shown}")));
    }
    let mut text = String::new();
    let read = file.take(AT_MOST + 1).read_to_string(&mut text);
    match read {
        Ok(count) if count as u64 > AT_MOST => Err(refused(format!("larger than {AT_MOST} bytes"))),
        Ok(_) => parse(&text).map_err(|(line, why)| Refusal(format!("{shown}:{line}: {why}"))),
        // The error of a text that is not UTF-8 quotes nothing of it.
        Err(error) => Err(refused(error.to_string())),
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Without O_NONBLOCK, opening a FIFO waits for its writer.
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)
}

/// The line that is wrong, from 1, and why; never what it says.
type Wrong = (usize, &'static str);

fn parse(text: &str) -> Result<Vec<(String, String)>, Wrong> {
    let mut variables = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or((number, "no KEY=value"))?;
        let name = name.trim();
        if !is_name(name) {
            return Err((number, "what stands before = is no name of a variable"));
        }
        let value = value_of(value.trim()).map_err(|why| (number, why))?;
        if value.contains('\0') {
            return Err((number, "a NUL cannot be part of a variable"));
        }
        variables.push((name.to_owned(), value));
    }
    Ok(variables)
}

/// As a shell names variables.
pub(super) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// What a shell would make of it, without its expansions: `'as is'`, `"with \" and \\"`, `plain`.
fn value_of(text: &str) -> Result<String, &'static str> {
    const OPEN: &str = "a quote is not closed: a value ends with its line";
    const AFTER: &str = "something stands after the closing quote";
    if let Some(quoted) = text.strip_prefix('\'') {
        let (value, rest) = quoted.split_once('\'').ok_or(OPEN)?;
        return if rest.is_empty() { Ok(value.to_owned()) } else { Err(AFTER) };
    }
    let Some(quoted) = text.strip_prefix('"') else { return Ok(text.to_owned()) };
    let mut value = String::new();
    let mut letters = quoted.chars();
    loop {
        match letters.next().ok_or(OPEN)? {
            '"' => return if letters.as_str().is_empty() { Ok(value) } else { Err(AFTER) },
            '\\' => match letters.next().ok_or(OPEN)? {
                special @ ('"' | '\\' | '$' | '`') => value.push(special),
                other => value.extend(['\\', other]),
            },
            letter => value.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn values_are_what_a_shell_would_make_of_them() {
        let text = "# a comment\n\n A=plain = b \nexport B='as $is \\'\nC=\"q\\\"\\\\\\$x\\n\"\nD=\nA=again";
        let expected = [
            ("A", "plain = b"),
            ("B", "as $is \\"),
            ("C", "q\"\\$x\\n"),
            ("D", ""),
            ("A", "again"),
        ];
        let variables = parse(text).unwrap();
        let variables: Vec<_> = variables.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(variables, expected);
    }

    #[test]
    fn a_mistake_is_told_by_its_line_and_never_by_its_value() {
        for (text, line) in [
            ("A=1\nhunter2", 2),
            ("hun-ter=2", 1),
            ("=hunter2", 1),
            ("2A=hunter2", 1),
            ("A='hunter2", 1),
            ("A=\"hunter2", 1),
            ("A=\"hunter2\\", 1),
            ("A='x'hunter2", 1),
            ("A=\"x\"hunter2", 1),
            ("A=hunter2\0", 1),
        ] {
            let (at, why) = parse(text).unwrap_err();
            assert_eq!(at, line, "{text:?}");
            assert!(!why.contains("hunter"), "{why}");
        }
    }

    #[test]
    fn only_the_owner_may_be_able_to_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets.env");
        assert!(read(&path).unwrap_err().0.contains("secrets.env"));
        fs::write(&path, "KEY=hunter2").unwrap();
        for (mode, good) in
            [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o601, false)]
        {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let said = read(&path);
            assert_eq!(said.is_ok(), good, "{mode:o}: {said:?}");
            if let Err(Refusal(why)) = said {
                assert!(why.contains("chmod 600") && !why.contains("hunter"), "{why}");
            }
        }
        assert!(read(folder.path()).unwrap_err().0.contains("regular"));
        let fifo = folder.path().join("fifo");
        rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RUSR).unwrap();
        assert!(read(&fifo).unwrap_err().0.contains("regular"));
    }
}
