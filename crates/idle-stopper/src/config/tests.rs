//! What a file may say, and that the documents say it.

#![allow(clippy::unwrap_used)]

use toml::{Table, Value};

use super::*;

fn read(text: &str) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, text).unwrap();
    let place = format!("{}:", file.display());
    service::config::load_files(&[file]).map_err(|error| error.to_string().replace(&place, ""))
}

fn said(text: &str) -> String {
    read(text).unwrap_err()
}

#[test]
fn what_would_match_nothing_or_all_is_refused_with_what_to_say() {
    for (text, wanted) in [
        (
            "[cpu]\nbaseline = [\"*b\"]",
            "2:1: cpu.baseline = \"*b\" is not valid: say a unit's name",
        ),
        ("[cpu]\ndaemons = [\"\"]", "2:1: cpu.daemons = \"\" is not valid: say a unit's name"),
        (
            "[commands]\nide_servers = [\"\"]",
            "2:1: commands.ide_servers = \"\" is not valid: say a part",
        ),
        (
            "[tcp]\nports = [0]",
            "2:10: in tcp.ports: invalid value: integer `0`: say a whole number from 1",
        ),
        (
            "[tcp]\nports = [70000]",
            "2:10: in tcp.ports: invalid value: integer `70000`: say a whole number from 1",
        ),
        ("mode = true", "1:8: mode = true: say one of observe, stop"),
    ] {
        assert!(said(text).starts_with(wanted), "{text}: {}", said(text));
    }
    assert!(read("[cpu]\nbaseline = [\"*\", \"cron*\"]").is_ok());
}

#[test]
fn a_window_that_another_setting_leaves_no_room_for_is_blamed_on_that_line() {
    for (text, wanted) in [
        (
            "grace = \"0s\"\nidle_after = \"30s\"",
            "2:1: window = 1m is not valid: say a span from 20s to 30s (no file sets window",
        ),
        ("tick = \"2min\"", "1:1: window = 1m is not valid: say a span from 2m to 1h (no file"),
    ] {
        assert!(said(text).starts_with(wanted), "{text}: {}", said(text));
    }
}

/// As it is installed: every key behind a `#`.
const INSTALLED: &str = include_str!("../../../../packaging/guppy-idle-stopper/idle-stopper.toml");
const MANUAL: &str = include_str!("../../../../packaging/man/idle-stopper.toml.5");
const README: &str = include_str!("../../../../README.md");

/// The installed file with every `#` before a key, and before the lines of a list, taken away.
fn installed() -> String {
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with("    \"") || !rest.starts_with(' ') => rest.to_owned(),
        _ => line.to_owned(),
    };
    INSTALLED.lines().map(uncommented).collect::<Vec<_>>().join("\n")
}

/// Every key, with its table: `tcp.ports`.
fn keys(table: &Table) -> Vec<String> {
    let mut keys: Vec<String> = table
        .iter()
        .flat_map(|(key, value)| match value {
            Value::Table(below) => {
                keys(below).into_iter().map(|under| format!("{key}.{under}")).collect()
            }
            _ => vec![key.clone()],
        })
        .collect();
    keys.sort();
    keys
}

#[test]
fn the_installed_file_shows_every_key_with_its_default() {
    let text = installed();
    assert_eq!(read(&text).unwrap(), Config::default(), "{text}");
    let all = Table::try_from(Config::default()).unwrap();
    assert_eq!(keys(&text.parse().unwrap()), keys(&all));
}

/// A span or a number as one of the documents writes it, as the config's own words.
fn value(key: &str, text: &str) -> Config {
    let (table, name) = key.rsplit_once('.').unwrap_or(("", key));
    let table = if table.is_empty() { String::new() } else { format!("[{table}]\n") };
    read(&format!("{table}{name} = {text}")).unwrap_or_else(|why| panic!("{key} = {text}: {why}"))
}

/// The rows of the manual's tables (`key|default|T{`) and its list of the kinds.
#[test]
fn the_manual_shows_every_key_with_its_default() {
    let kinds = Table::try_from(Kinds::default()).unwrap();
    let mut shown = Vec::new();
    let mut table = String::new();
    for line in MANUAL.lines() {
        if let Some(heading) = line.strip_prefix(".SS [") {
            table = format!("{}.", heading.trim_end_matches(']'));
        }
        if let Some(kind) = line.strip_prefix(".IR ").filter(|_| table == "evidence.") {
            let kind = kind.split(' ').next().unwrap();
            if kinds.contains_key(kind) {
                shown.push(format!("evidence.{kind}"));
            }
        }
        let mut cells = line.split('|');
        if let (Some(name), Some(default), Some("T{")) = (cells.next(), cells.next(), cells.next())
        {
            let key = format!("{table}{name}");
            // The lists are in the installed file, which the manual names.
            if !default.is_empty() {
                let default = default.replace("\\(dq", "\"");
                assert_eq!(value(&key, &default), Config::default(), "{key} = {default}");
            }
            shown.push(key);
        }
    }
    shown.sort();
    let all = Table::try_from(Config::default()).unwrap();
    assert_eq!(shown, keys(&all));
}

/// Rows of its table: one key or some, and as many defaults.
#[test]
fn the_readme_shows_defaults_that_are_true() {
    let words = |cell: &str| -> Vec<String> {
        cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let mut shown = 0;
    for row in README.lines().filter(|line| line.starts_with("| `")) {
        let mut cells = row.trim_matches('|').split(" | ");
        let (names, defaults) = (words(cells.next().unwrap()), words(cells.next().unwrap()));
        let all = Table::try_from(Config::default()).unwrap();
        for (key, default) in names.iter().zip(&defaults) {
            if keys(&all).contains(key) {
                assert_eq!(value(key, default), Config::default(), "{key} = {default}");
                shown += 1;
            }
        }
    }
    assert!(shown >= 12, "{shown}");
}
