//! Files in a folder, and what comes of them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;
use tempfile::TempDir;

use super::*;

mod live;

#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    #[default]
    Observe,
    Stop,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Config {
    mode: Mode,
    #[serde(with = "span")]
    idle_after: Duration,
    #[serde(with = "span")]
    warning: Duration,
    tcp: Tcp,
    door: Option<std::num::NonZeroU16>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Tcp {
    ports: Vec<u16>,
    floor: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Observe,
            idle_after: Duration::from_secs(1800),
            warning: Duration::from_secs(120),
            tcp: Tcp { ports: vec![22], floor: 10 },
            door: None,
        }
    }
}

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        span::within("idle_after", self.idle_after, self.warning, Duration::from_secs(86_400))
            .map_err(|invalid| invalid.beside("warning"))?;
        if self.tcp.ports.contains(&0) {
            return Err(Invalid::new("tcp.ports", 0, "ports from 1 to 65535"));
        }
        Ok(())
    }
}

struct Etc {
    folder: TempDir,
}

impl Etc {
    fn new(files: &[(&str, &str)]) -> Self {
        let folder = TempDir::new().unwrap();
        for drop_ins in ["x.d", "role.d"] {
            fs::create_dir(folder.path().join(drop_ins)).unwrap();
        }
        let new = Self { folder };
        for (name, text) in files {
            new.write(name, text);
        }
        new
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.path(name), text).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn paths(&self) -> Paths {
        Paths { role: self.path("role.d"), file: self.path("x.toml"), dropins: self.path("x.d") }
    }

    fn load(&self) -> Result<Config, ConfigError> {
        load(&self.paths())
    }

    fn config(&self) -> Config {
        self.load().unwrap()
    }

    /// The error with the folder's path cut off each line.
    fn error(&self) -> String {
        let folder = format!("{}/", self.folder.path().display());
        self.load().unwrap_err().to_string().replace(&folder, "")
    }

    fn live(&self) -> Live<Config> {
        Live::start(self.paths(), Some(self.path("last-good.toml")))
    }
}

#[test]
fn nothing_there_is_the_defaults() {
    let folder = TempDir::new().unwrap();
    let nowhere = folder.path().join("none");
    let paths = Paths {
        role: nowhere.join("r.d"),
        file: nowhere.join("x.toml"),
        dropins: nowhere.join("x.d"),
    };
    assert_eq!(load::<Config>(&paths).unwrap(), Config::default());
}

#[test]
fn later_files_win_key_by_key_and_arrays_are_replaced() {
    let etc = Etc::new(&[
        ("x.toml", "mode = \"stop\"\nidle_after = \"1h\"\n[tcp]\nports = [22, 80]\nfloor = 5\n"),
        ("x.d/20-b.toml", "[tcp]\nports = [443]\n"),
        ("x.d/10-a.toml", "idle_after = \"2h 10min\"\n[tcp]\nports = [1]\n"),
    ]);
    let config = etc.config();
    assert_eq!(config.mode, Mode::Stop);
    assert_eq!(config.idle_after, Duration::from_secs(7800));
    assert_eq!(config.tcp, Tcp { ports: vec![443], floor: 5 });
}

#[test]
fn what_packages_ship_is_read_first_and_survives_a_broken_etc() {
    let etc = Etc::new(&[("role.d/10-role.toml", "mode = \"stop\"\nidle_after = \"1h\"\n")]);
    etc.write("x.toml", "idle_after = \"2h\"\n");
    assert_eq!(etc.config().mode, Mode::Stop);
    assert_eq!(etc.config().idle_after, Duration::from_secs(7200));
    etc.write("x.toml", "mode = observe\n");
    let live = Live::<Config>::start(etc.paths(), None);
    assert!(live.error().is_some());
    assert_eq!(live.config().mode, Mode::Stop);
    etc.write("x.toml", "mode = \"observe\"\n");
    assert_eq!(etc.config().mode, Mode::Observe);
}

#[test]
fn what_dpkg_and_editors_leave_behind_is_ignored() {
    let broken = "this is no TOML";
    let etc = Etc::new(&[
        ("x.d/a.toml~", broken),
        ("x.d/a.toml.dpkg-new", broken),
        ("x.d/.a.toml.swp", broken),
        ("x.d/.#a.toml", broken),
        ("x.d/README", broken),
    ]);
    assert_eq!(etc.config(), Config::default());
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    let etc = Etc::new(&[("x.d/50-x.toml", "# a comment\n\n  idle_aftr = \"30min\"\n")]);
    assert_eq!(
        etc.error(),
        "x.d/50-x.toml:3:3: unknown key \"idle_aftr\"; did you mean \"idle_after\"? \
         valid keys: mode, idle_after, warning, tcp, door"
    );
    etc.write("x.d/50-x.toml", "[tcp]\nzzz = 1\n");
    assert_eq!(
        etc.error(),
        "x.d/50-x.toml:2:1: in tcp: unknown key \"zzz\"; valid keys: ports, floor"
    );
}

#[test]
fn a_wrong_value_is_shown_with_what_would_be_valid() {
    for (text, error) in [
        ("idle_after = 30", "1:14: idle_after = 30: say a unit, as in \"30min\", not 30"),
        ("idle_after = \"30\"", "1:14: idle_after = \"30\": say a unit, as in \"30min\", not 30"),
        ("idle_after = 1.5", "1:14: idle_after = 1.5: say a unit, as in \"30min\", not 1.5"),
        ("idle_after = \"\"", "1:14: idle_after = \"\": say a span, as in \"30min\""),
        (
            "mode = \"stopp\"",
            "1:8: mode = \"stopp\": unknown value \"stopp\"; did you mean \"stop\"? \
             valid values: observe, stop",
        ),
        ("tcp = 1", "1:7: tcp = 1: invalid type: integer `1`: say a table"),
        (
            "tcp.ports = [22,\n 99999]",
            "2:2: in tcp.ports: invalid value: integer `99999`: say a whole number from 0 to 65535",
        ),
        (
            "tcp.ports = 22",
            "1:13: tcp.ports = 22: invalid type: integer `22`: say a list in brackets",
        ),
        (
            "mode = \"stop\"\nmode = \"stop\"",
            "2:1: mode is set a second time in this file: keep one of the two",
        ),
        ("[tcp]\n[tcp]", "2:2: tcp is set a second time in this file: keep one of the two"),
        ("mode = true", "1:8: mode = true: say one of observe, stop"),
        (
            "[tpc]\nports = [22]",
            "1:2: unknown key \"tpc\"; did you mean \"tcp\"? valid keys: mode, idle_after, warning, tcp, door",
        ),
        (
            "tcp.port = [22]",
            "1:5: in tcp: unknown key \"port\"; did you mean \"ports\"? valid keys: ports, floor",
        ),
        (
            "door = 0",
            "1:8: door = 0: invalid value: integer `0`: say a whole number from 1 to 65535",
        ),
        ("mode = ", "1:8: in mode: string values must be quoted, expected literal string"),
    ] {
        let etc = Etc::new(&[("x.toml", text)]);
        assert_eq!(etc.error(), format!("x.toml:{error}"), "{text}");
    }
}

#[test]
fn a_value_out_of_range_is_blamed_on_the_line_that_set_it_last() {
    let etc = Etc::new(&[
        ("x.toml", "idle_after = \"2min\"\n"),
        ("x.d/10-a.toml", "\nidle_after = \"1s\"\n"),
        ("x.d/20-b.toml", "mode = \"stop\"\n"),
    ]);
    assert_eq!(
        etc.error(),
        "x.d/10-a.toml:2:1: idle_after = 1s is not valid: say a span from 2m to 1day"
    );
    let etc = Etc::new(&[("x.toml", "[tcp]\nports = [0]")]);
    assert_eq!(etc.error(), "x.toml:2:1: tcp.ports = 0 is not valid: say ports from 1 to 65535");
}

#[test]
fn a_default_that_another_setting_makes_invalid_is_said_to_be_one() {
    let etc = Etc::new(&[
        ("x.toml", "mode = \"stop\"\nwarning = \"1h\"\n"),
        ("x.d/another.toml", "[tcp]\nfloor = 1\n"),
    ]);
    assert_eq!(
        etc.error(),
        "x.toml:2:1: idle_after = 30m is not valid: say a span from 1h to 1day \
         (no file sets idle_after: this is its default, for which warning leaves no room; set both)"
    );
}

#[test]
fn every_broken_file_is_reported_in_one_go() {
    let etc = Etc::new(&[("x.toml", "a = 1"), ("x.d/1.toml", "b = 1"), ("x.d/2.toml", "?")]);
    assert_eq!(etc.error().lines().count(), 3);
}

#[test]
fn what_is_no_small_text_file_is_refused() {
    let etc = Etc::new(&[]);
    fs::create_dir(etc.path("x.d/folder.toml")).unwrap();
    symlink("/dev/zero", etc.path("x.d/device.toml")).unwrap();
    symlink("nowhere", etc.path("x.d/link.toml")).unwrap();
    etc.write("x.d/bytes.toml", b"mode = \"\xff\"");
    etc.write("x.d/huge.toml", vec![b'#'; (1 << 20) + 1]);
    rustix::fs::mknodat(
        rustix::fs::CWD,
        etc.path("x.d/pipe.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert_eq!(
        etc.error(),
        "x.d/bytes.toml: cannot read it: not UTF-8 (at byte 8)\n\
         x.d/device.toml: cannot read it: not a regular file\n\
         x.d/folder.toml: cannot read it: not a regular file\n\
         x.d/huge.toml: cannot read it: larger than 1048576 bytes\n\
         x.d/link.toml: a link to nowhere, which is not there: mend the link or remove it\n\
         x.d/pipe.toml: cannot read it: not a regular file"
    );
}

#[test]
fn a_folder_that_is_none_or_too_full_is_refused() {
    let etc = Etc::new(&[]);
    for index in 0..=DROPINS_AT_MOST {
        etc.write(&format!("x.d/{index}.toml"), "");
    }
    assert_eq!(etc.error(), "x.d: more than 1000 drop-ins: none is read");
    fs::remove_dir_all(etc.path("x.d")).unwrap();
    etc.write("x.d", "");
    assert!(etc.error().starts_with("x.d: cannot read it: Not a directory"), "{}", etc.error());
}

#[test]
fn an_error_is_one_line_whatever_the_file_says() {
    let long = "y".repeat(10_000);
    for text in [
        format!("idle_after = \"\"\"\n{long}\n\u{1b}\"\"\""),
        format!("{long} = 1"),
        format!("\"a\\nb\\u001b\" = \"{long}\""),
        format!("mode = \"\\u001b[2J{long}\""),
    ] {
        let etc = Etc::new(&[("x.toml", &text)]);
        let error = etc.error();
        assert!(!error.contains(char::is_control) && error.len() < 600, "{error:?}");
    }
}

/// One file: which keys it sets.
fn file() -> impl Strategy<Value = (Option<bool>, Option<u64>, Option<Vec<u16>>, Option<u32>)> {
    let ports = prop::collection::vec(1u16.., 0..3);
    (
        any::<Option<bool>>(),
        prop::option::of(120u64..86_400),
        prop::option::of(ports),
        any::<Option<u32>>(),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn the_last_file_that_sets_a_key_decides_it(files in prop::collection::vec(file(), 0..5)) {
        let etc = Etc::new(&[]);
        let mut expected = Config::default();
        let mut table_seen = false;
        for (index, (stop, idle_after, ports, floor)) in files.into_iter().enumerate() {
            let mut text = String::new();
            if let Some(stop) = stop {
                expected.mode = if stop { Mode::Stop } else { Mode::Observe };
                text += if stop { "mode = \"stop\"\n" } else { "mode = \"observe\"\n" };
            }
            if let Some(seconds) = idle_after {
                expected.idle_after = Duration::from_secs(seconds);
                text += &format!("idle_after = \"{seconds}s\"\n");
            }
            if ports.is_some() || floor.is_some() {
                if !table_seen {
                    expected.tcp = Tcp::default();
                    table_seen = true;
                }
                text += "[tcp]\n";
            }
            if let Some(ports) = ports {
                text += &format!("ports = {ports:?}\n");
                expected.tcp.ports = ports;
            }
            if let Some(floor) = floor {
                text += &format!("floor = {floor}\n");
                expected.tcp.floor = floor.into();
            }
            let name = if index == 0 { "x.toml".to_owned() } else { format!("x.d/{index}.toml") };
            etc.write(&name, text);
        }
        prop_assert_eq!(etc.config(), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let etc = Etc::new(&[]);
        etc.write("x.toml", &bytes);
        etc.live();
    }

    #[test]
    fn no_text_like_a_config_makes_it_panic(
        text in "((mode|idle_after|tcp|ports|\\[|\\]|\\[tcp\\]|=|\\.|\"|'|,|\\{|\\}| |\n|30|30min|é|\\\\)){0,30}"
    ) {
        let etc = Etc::new(&[]);
        etc.write("x.toml", &text);
        etc.live();
    }

    #[test]
    fn a_span_reads_back_as_it_was_written(seconds in 0u64..10_000_000) {
        let value = Duration::from_secs(seconds);
        prop_assert_eq!(span::parse(&span::format(value)), Ok(value));
    }
}

#[test]
fn named_files_are_layers_too_and_those_that_are_not_there_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (first, last) = (folder.path().join("1.toml"), folder.path().join("2.toml"));
    fs::write(&first, "warning = \"1min\"\n[tcp]\nfloor = 1\n").unwrap();
    fs::write(&last, "[tcp]\nfloor = 2\n").unwrap();
    let files = [first.clone(), folder.path().join("none.toml"), last.clone()];
    let config = load_files::<Config>(&files).unwrap();
    assert_eq!((config.warning, config.tcp.floor), (Duration::from_secs(60), 2));
    fs::write(&last, "\nmode = \"stopp\"\n").unwrap();
    let said = load_files::<Config>(&files).unwrap_err().to_string();
    assert!(said.contains("2.toml:2:8:") && said.contains("did you mean \"stop\"?"), "{said}");
}
