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
        let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
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

    fn parse(
        &self,
        mut parser: lexopt::Parser,
        runtime: Option<PathBuf>,
    ) -> Result<Asked, lexopt::Error> {
        use lexopt::prelude::*;

        let mut args = Args {
            config: Paths::of(self.name),
            socket: None,
            state_dir: runtime.unwrap_or_else(|| format!("/run/guppy-{}", self.name).into()),
            check_config: false,
        };
        while let Some(argument) = parser.next()? {
            match argument {
                Long("config") => args.config.file = parser.value()?.into(),
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

  --config PATH      the config [default: /etc/guppy/{name}.toml]
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
