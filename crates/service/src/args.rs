//! The arguments of a daemon, the same for all of them.

use std::path::PathBuf;
use std::process::ExitCode;

use serde::de::DeserializeOwned;

use crate::config::{self, Paths, Validate};

/// The exit status for wrong usage.
pub const USAGE: u8 = 2;

/// What a daemon says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Daemon {
    /// The name without `guppy-`: `idle-stopper`.
    pub name: &'static str,
    /// `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// One line.
    pub about: &'static str,
}

/// Where a daemon finds its things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Args {
    /// `--config`, `--config-dir`.
    pub config: Paths,
    /// `--socket`; None: the one that systemd hands over.
    pub socket: Option<PathBuf>,
    /// `--state-dir`, else `$RUNTIME_DIRECTORY`, else `/run/guppy-NAME`.
    pub state_dir: PathBuf,
    /// `--check-config`.
    pub check_config: bool,
}

impl Daemon {
    /// Reads the command line.
    ///
    /// # Errors
    /// The status to exit with: `--help` and `--version` were answered, or the usage was wrong and
    /// stderr says how.
    pub fn args(&self) -> Result<Args, ExitCode> {
        let runtime = std::env::var("RUNTIME_DIRECTORY").ok();
        match self.parse(lexopt::Parser::from_env(), runtime) {
            Ok(Asked::Run(args)) => Ok(args),
            Ok(Asked::Text(text)) => {
                println!("{text}");
                Err(ExitCode::SUCCESS)
            }
            Err(error) => {
                let name = self.name;
                eprintln!("guppy-{name}: {error}\nTry: guppy-{name} --help");
                Err(ExitCode::from(USAGE))
            }
        }
    }

    /// The `main` of a daemon: reads the command line, answers `--check-config`, opens the journal,
    /// and runs `run` on a runtime of one thread. Why it ended early is a line of the journal, and
    /// exit status 1.
    pub fn main<T, R>(&self, run: impl FnOnce(Args) -> R) -> ExitCode
    where
        T: DeserializeOwned + Default + Validate,
        R: Future<Output = Result<(), String>>,
    {
        let args = match self.args() {
            Ok(args) => args,
            Err(status) => return status,
        };
        if args.check_config {
            return args.check_config::<T>();
        }
        crate::journal::init(&format!("guppy-{}", self.name));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let ended = match runtime {
            Ok(runtime) => runtime.block_on(run(args)),
            Err(error) => Err(error.to_string()),
        };
        match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(why) => {
                tracing::error!("{why}");
                ExitCode::FAILURE
            }
        }
    }

    fn parse(
        &self,
        mut parser: lexopt::Parser,
        runtime: Option<String>,
    ) -> Result<Asked, lexopt::Error> {
        use lexopt::prelude::*;

        // With several in RuntimeDirectory= they are separated by colons (systemd.exec(5)).
        let runtime = runtime.as_deref().and_then(|all| all.split(':').next());
        let state_dir = match runtime {
            Some(folder) if !folder.is_empty() => folder.into(),
            _ => format!("/run/guppy-{}", self.name).into(),
        };
        let mut args =
            Args { config: Paths::of(self.name), socket: None, state_dir, check_config: false };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("config") => {
                    args.config.file = parser.value()?.into();
                    args.config.role = PathBuf::new();
                }
                Long("config-dir") => args.config.dropins = parser.value()?.into(),
                Long("socket") => args.socket = Some(parser.value()?.into()),
                Long("state-dir") => args.state_dir = parser.value()?.into(),
                Long("check-config") => args.check_config = true,
                Long("version") => {
                    return Ok(Asked::Text(format!("guppy-{} {}", self.name, self.version)));
                }
                Long("help") | Short('h') => return Ok(Asked::Text(self.help())),
                other => return Err(other.unexpected()),
            }
        }
        Ok(Asked::Run(args))
    }

    fn help(&self) -> String {
        let Self { name, about, .. } = self;
        format!(
            "{about}

Usage: guppy-{name} [OPTIONS]

  --config PATH      the config [default: /etc/guppy/{name}.toml over what packages ship
                     in /usr/lib/guppy/{name}.d]
  --config-dir PATH  its drop-ins, *.toml [default: /etc/guppy/{name}.d]
  --socket PATH      listen here [default: the socket handed over by systemd]
  --state-dir PATH   own state [default: $RUNTIME_DIRECTORY, else /run/guppy-{name}]
  --check-config     say whether the config is valid, then exit 0 or 1
  --version          print the version
  --help             print this"
        )
    }
}

impl Args {
    /// Does what `--check-config` asks for: says OK or what is wrong; exits 0 or 1.
    pub fn check_config<T>(&self) -> ExitCode
    where
        T: DeserializeOwned + Default + Validate,
    {
        // The usual file may be absent; one that `--config` names is meant to be there.
        let named = self.config.role.as_os_str().is_empty();
        if named && let Err(error) = std::fs::metadata(&self.config.file) {
            eprintln!("--config {}: {error}", self.config.file.display());
            return ExitCode::FAILURE;
        }
        match config::load::<T>(&self.config) {
            Ok(_) => {
                println!("OK");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
enum Asked {
    Run(Args),
    Text(String),
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const DAEMON: Daemon = Daemon { name: "idle-stopper", version: "1.2", about: "Stops." };

    fn parse(line: &str, runtime: Option<&str>) -> Result<Asked, lexopt::Error> {
        DAEMON.parse(lexopt::Parser::from_args(line.split_whitespace()), runtime.map(Into::into))
    }

    fn args(line: &str, runtime: Option<&str>) -> Args {
        match parse(line, runtime).unwrap() {
            Asked::Run(args) => args,
            Asked::Text(text) => panic!("{text}"),
        }
    }

    #[test]
    fn the_name_gives_the_defaults() {
        let args = args("", None);
        assert_eq!(args.config.file, PathBuf::from("/etc/guppy/idle-stopper.toml"));
        assert_eq!(args.config.dropins, PathBuf::from("/etc/guppy/idle-stopper.d"));
        assert_eq!(args.state_dir, PathBuf::from("/run/guppy-idle-stopper"));
        assert_eq!((args.socket, args.check_config), (None, false));
    }

    #[test]
    fn every_path_can_be_said() {
        let line = "--config a --config-dir=b --socket c --state-dir d --check-config";
        let args = args(line, Some("/run/other"));
        assert_eq!(
            args.config,
            Paths { role: PathBuf::new(), file: "a".into(), dropins: "b".into() }
        );
        assert_eq!((args.socket, args.state_dir), (Some("c".into()), "d".into()));
        assert!(args.check_config);
    }

    #[test]
    fn systemd_names_the_runtime_folder() {
        assert_eq!(args("", Some("/run/x")).state_dir, PathBuf::from("/run/x"));
        assert_eq!(args("", Some("/run/x:/run/y")).state_dir, PathBuf::from("/run/x"));
    }

    #[test]
    fn wrong_usage_is_an_error_and_questions_are_answered() {
        for line in ["--confg x", "x", "--config", "-x", "--check-config=yes"] {
            assert!(parse(line, None).is_err(), "{line}");
        }
        let text = |line| match parse(line, None) {
            Ok(Asked::Text(text)) => text,
            other => panic!("{other:?}"),
        };
        assert_eq!(text("--version"), "guppy-idle-stopper 1.2");
        assert!(text("--help").contains("/etc/guppy/idle-stopper.d"));
    }
}
