//! Does sshd notice that the other side of a silent connection is gone? Only sshd can: the kernel
//! waits for two hours. Without it a cut link keeps its command, and so this box, up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::Finding;
use crate::agent::DEADLINE;

const PROGRAM: &str = "/usr/sbin/sshd";
const CONFIG: &str = "/etc/ssh/sshd_config";

/// A dead peer may keep its connection for this long before it is worth a word.
const AT_MOST: u64 = 600;

/// The two settings that make sshd ask, and end what does not answer (sshd_config(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Alive {
    interval: Option<u64>,
    count: Option<u64>,
}

pub(super) fn look() -> Finding {
    if !Path::new(PROGRAM).exists() {
        return Finding::ok("sshd", "not installed");
    }
    let source = if rustix::process::geteuid().is_root() {
        match effective(&mut asking()) {
            Ok(alive) => return judge(alive, "sshd -T"),
            Err(complaint) if is_about_config(&complaint) => return refused(&complaint),
            Err(_) => "the files: sshd -T does not answer",
        }
    } else {
        "the files; as root, doctor asks sshd itself"
    };
    judge(from_files(Path::new(CONFIG)), source)
}

fn asking() -> Command {
    let mut command = Command::new("/usr/bin/timeout");
    command.args([&DEADLINE.as_secs().to_string(), PROGRAM, "-T"]);
    command
}

/// Whether sshd names a place in a file; it may also lack its folder in /run, since it never ran
/// on this boot.
fn is_about_config(complaint: &str) -> bool {
    complaint.contains(" line ")
}

fn refused(complaint: &str) -> Finding {
    // The last line only counts the ones before.
    let complaint = complaint.lines().next().unwrap_or_default();
    Finding::bad(
        "sshd",
        format!("refuses its config: {complaint}"),
        "mend that line, try it with sshd -t, then: systemctl reload ssh. Until then a restart of \
         ssh lets nobody in",
    )
}

fn judge(alive: Alive, source: &str) -> Finding {
    // sshd's own defaults: it never asks; three silent answers would end a connection.
    let (interval, count) = (alive.interval.unwrap_or(0), alive.count.unwrap_or(3));
    let found =
        format!("ClientAliveInterval {interval}, ClientAliveCountMax {count} (from {source})");
    // A count of 0 means never, since OpenSSH 8.2.
    let after = interval.saturating_mul(count);
    if after == 0 {
        Finding::warn(
            "sshd",
            format!("{found}: a connection whose other side is gone stays, and its command counts"),
            "sudo apt install guppy-data-plane, or set ClientAliveInterval 30 in \
             /etc/ssh/sshd_config.d/ and systemctl reload ssh",
        )
    } else if after > AT_MOST {
        Finding::warn(
            "sshd",
            format!("{found}: a connection whose other side is gone stays for {after} s"),
            "set ClientAliveInterval 30 in a file of /etc/ssh/sshd_config.d/ that sorts first, and \
             systemctl reload ssh",
        )
    } else {
        Finding::ok("sshd", found)
    }
}

/// What sshd says that it does, or its complaint.
fn effective(asking: &mut Command) -> Result<Alive, String> {
    let output = asking.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let mut alive = Alive::default();
    read(&String::from_utf8_lossy(&output.stdout), &mut alive, &|_, _| ());
    Ok(alive)
}

/// What the files say: `file` and what it includes.
fn from_files(file: &Path) -> Alive {
    let mut alive = Alive::default();
    include(file, &mut alive, 0);
    alive
}

fn include(file: &Path, alive: &mut Alive, depth: u8) {
    // sshd itself stops at 16 (servconf.c, SERVCONF_MAX_DEPTH).
    if depth > 16 {
        return;
    }
    let Ok(text) = fs::read_to_string(file) else { return };
    let folder = file.parent().unwrap_or(Path::new("/"));
    // What is not absolute is below /etc/ssh, where the first file lies.
    read(&text, alive, &|pattern, alive| {
        for included in matching(&folder.join(pattern)) {
            include(&included, alive, depth + 1);
        }
    });
}

/// Takes the two settings out of `text`: the first value of each counts, as for sshd. What stands
/// below `Match` is for some connections only.
fn read(text: &str, alive: &mut Alive, include: &dyn Fn(&str, &mut Alive)) {
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        let (keyword, value) =
            line.split_once(|c: char| c.is_whitespace() || c == '=').unwrap_or((line, ""));
        let value = value.trim_matches(|c: char| c.is_whitespace() || c == '=' || c == '"');
        match keyword.to_ascii_lowercase().as_str() {
            "match" => return,
            "include" => value.split_whitespace().for_each(|pattern| include(pattern, alive)),
            "clientaliveinterval" => alive.interval = alive.interval.or_else(|| seconds(value)),
            "clientalivecountmax" => alive.count = alive.count.or_else(|| value.parse().ok()),
            _ => {}
        }
    }
}

/// A time as sshd writes it: `30`, `30s`, `1m30s` (sshd_config(5), TIME FORMATS).
fn seconds(text: &str) -> Option<u64> {
    let mut sum: u64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, unit) = rest.split_at_checked(digits)?;
        let number: u64 = number.parse().ok()?;
        let factor = match unit.chars().next() {
            None | Some('s' | 'S') => 1,
            Some('m' | 'M') => 60,
            Some('h' | 'H') => 3600,
            Some('d' | 'D') => 86_400,
            Some('w' | 'W') => 604_800,
            Some(_) => return None,
        };
        sum = sum.checked_add(number.checked_mul(factor)?)?;
        rest = unit.get(1..).unwrap_or_default();
    }
    (!text.is_empty()).then_some(sum)
}

/// The files that a pattern with one `*` in its last part names, sorted as sshd reads them.
fn matching(pattern: &Path) -> Vec<PathBuf> {
    let (Some(folder), Some(name)) = (pattern.parent(), pattern.file_name()) else {
        return Vec::new();
    };
    let name = name.to_string_lossy();
    let Some((start, end)) = name.split_once('*') else {
        return vec![pattern.to_path_buf()];
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // As for a shell, a star does not match a leading dot.
            name.len() >= start.len() + end.len()
                && name.starts_with(start)
                && name.ends_with(end)
                && !(start.is_empty() && name.starts_with('.'))
        })
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn drop_ins_come_first_and_the_first_value_counts() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let main = folder.path().join("sshd_config");
        let drop_ins = folder.path().join("sshd_config.d");
        fs::create_dir(&drop_ins)?;
        fs::write(
            &main,
            "# A comment\nInclude sshd_config.d/*.conf\nclientaliveinterval=2m\n\
             Match User alice\n  ClientAliveCountMax 9\n",
        )?;
        assert_eq!(from_files(&main), Alive { interval: Some(120), count: None });

        fs::write(drop_ins.join("50-late.conf"), "ClientAliveInterval 7\n")?;
        fs::write(
            drop_ins.join("10-early.conf"),
            "ClientAliveInterval 30 # s\nClientAliveCountMax 4\n",
        )?;
        fs::write(drop_ins.join("10-early.conf.removed"), "ClientAliveInterval 99\n")?;
        assert_eq!(from_files(&main), Alive { interval: Some(30), count: Some(4) });
        Ok(())
    }

    /// A script in sshd's place, with its words for each case.
    #[test]
    fn a_config_that_sshd_refuses_is_bad_and_one_that_it_cannot_show_is_not() {
        let answer = |script: &str| effective(Command::new("sh").args(["-c", script]));
        assert_eq!(
            answer("echo clientaliveinterval 30; echo clientalivecountmax 4"),
            Ok(Alive { interval: Some(30), count: Some(4) })
        );
        let words = "/etc/ssh/sshd_config.d/a.conf: line 2: Bad configuration option: Foo";
        let complaint = answer(&format!("echo '{words}' >&2; exit 255")).expect_err("refused");
        assert!(is_about_config(&complaint), "{complaint}");
        let finding = refused(&complaint);
        assert_eq!(finding.verdict, Verdict::Bad);
        assert!(finding.found.contains(words), "{}", finding.found);
        let folder = "Missing privilege separation directory: /run/sshd";
        let complaint = answer(&format!("echo '{folder}' >&2; exit 255")).expect_err("missing");
        assert!(!is_about_config(&complaint), "{complaint}");
    }

    #[test]
    fn a_file_that_includes_itself_ends() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let main = folder.path().join("sshd_config");
        fs::write(&main, "Include sshd_config\nClientAliveInterval 5\n")?;
        assert_eq!(from_files(&main).interval, Some(5));
        Ok(())
    }

    #[test]
    fn times_are_read_as_sshd_reads_them() {
        for (text, expected) in [
            ("30", Some(30)),
            ("30s", Some(30)),
            ("1m30s", Some(90)),
            ("1H", Some(3600)),
            ("", None),
            ("x", None),
            ("5x", None),
            ("5é", None),
            ("99999999999999999999", None),
            ("9999999999999999999w", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
    }

    #[test]
    fn a_peer_that_is_gone_must_be_noticed_in_minutes() {
        let verdict = |interval, count| judge(Alive { interval, count }, "test").verdict;
        assert_eq!(verdict(Some(30), Some(4)), Verdict::Ok);
        assert_eq!(verdict(Some(120), None), Verdict::Ok);
        assert_eq!(verdict(None, None), Verdict::Warn);
        assert_eq!(verdict(Some(0), Some(3)), Verdict::Warn);
        assert_eq!(verdict(Some(30), Some(0)), Verdict::Warn);
        assert_eq!(verdict(Some(3600), Some(3)), Verdict::Warn);
        assert_eq!(verdict(Some(u64::MAX), Some(u64::MAX)), Verdict::Warn);
    }
}
