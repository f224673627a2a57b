//! The command line: its verbs, their arguments, and the text of their help, from which the man
//! pages and the completions are made too.

mod session;
mod vpn;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::span;

pub use session::{Agents, AgentsVerb, New, SessionVerb, Setup};
pub use vpn::{Up, VpnVerb};

/// What the guppy agents of this box do, and why.
#[derive(Debug, Parser)]
#[command(
    name = "guppy",
    version,
    about = "What the guppy agents of this box do, and why",
    after_help = "Exit status: 0 done or already so; 1 failed, stderr says what and what to do; \
                  2 wrong usage; 3 not healthy in time; 4 refused by policy."
)]
pub struct Cli {
    /// Print one JSON document, on failure {"error": "..."}
    #[arg(long, global = true)]
    pub json: bool,

    /// Socket of the agent, instead of the one in /run/guppy
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,

    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Every agent of this box, one line each
    Status,

    /// Why this box is up, and when it would stop
    #[command(long_about = "Why this box is up, and when it would stop.\n\nShows each kind of \
        evidence, since when it has been as it is, the holds in force, and at the end what would \
        stop the box and at what time.")]
    Idle,

    /// Keep this box up for a while, or while a command runs
    #[command(
        long_about = "Keep this box up for a while, or while a command runs.\n\nWith COMMAND, \
            guppy becomes it: pid, terminal, signals and exit status are the command's own, and \
            the hold ends with it. If the hold cannot be placed the command is not run.\n\nThe \
            configuration bounds every hold (hold_at_most, 24 h by default). A hold survives a \
            restart of the agent and ends with the boot.",
        override_usage = "guppy hold [OPTIONS] [DURATION] [-- COMMAND...]",
        after_help = "Examples:\n  guppy hold 4h --why \"demo for the board\"\n  guppy hold -- make -j8 \
            test\n  guppy hold 2h -- ./train.sh    whichever ends first"
    )]
    Hold(Hold),

    /// End a hold
    Release {
        /// The number that `guppy hold` and `guppy idle` show
        id: u64,
    },

    /// Is this box set up so that its agents can do what they are for?
    #[command(
        long_about = "Is this box set up so that its agents can do what they are for?\n\nExits \
        with 1 if something is bad. Run as root it sees a little more: what sshd really does."
    )]
    Doctor,

    /// Customers' VPNs, for the peers of this box's tailnet
    #[command(subcommand)]
    Vpn(VpnVerb),

    /// Sessions of agents.
    #[command(flatten)]
    Session(SessionVerb),
}

/// Arguments of `guppy hold`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").args(["span", "command"]).required(true).multiple(true))]
pub struct Hold {
    /// How long, e.g. 45min, 4h, "1h 30min"
    #[arg(value_name = "DURATION", value_parser = span::parse)]
    pub span: Option<Duration>,

    /// Why, for whoever asks what keeps this box up
    #[arg(long, value_name = "TEXT")]
    pub why: Option<String>,

    /// The command that the box is kept up for
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<OsString>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn hold(words: &[&str]) -> Result<Hold, String> {
        let cli =
            Cli::try_parse_from([&["guppy", "hold"], words].concat()).map_err(|e| e.to_string())?;
        match cli.verb {
            Verb::Hold(hold) => Ok(hold),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_hold_has_a_duration_a_command_or_both() {
        let timed = hold(&["4h", "--why", "demo"]).expect("timed");
        assert_eq!(timed.span, Some(Duration::from_secs(4 * 3600)));
        assert_eq!(timed.why.as_deref(), Some("demo"));
        assert!(timed.command.is_empty());

        let bound = hold(&["--", "make", "-j8", "--json"]).expect("bound to a command");
        assert_eq!(bound.span, None);
        assert_eq!(bound.command, ["make", "-j8", "--json"]);

        let both = hold(&["2h", "--", "./train.sh"]).expect("both");
        assert_eq!(both.span, Some(Duration::from_secs(2 * 3600)));
        assert_eq!(both.command, ["./train.sh"]);

        assert!(hold(&[]).is_err());
        assert!(hold(&["--why", "demo"]).is_err());
        assert!(hold(&["--"]).is_err());
    }

    #[test]
    fn a_command_without_dashes_is_told_where_they_go() {
        let said = hold(&["make"]).expect_err("make is no duration");
        assert!(said.contains("guppy hold -- make"), "{said}");
        let said = hold(&["make", "test"]).expect_err("two words are no duration");
        assert!(said.contains("[-- COMMAND...]"), "{said}");
    }

    #[test]
    fn json_and_socket_may_stand_before_or_after_the_verb() {
        for words in [["guppy", "--json", "idle"], ["guppy", "idle", "--json"]] {
            assert!(Cli::try_parse_from(words).expect("valid").json);
        }
        let cli = Cli::try_parse_from(["guppy", "idle", "--socket", "/tmp/s"]).expect("valid");
        assert_eq!(cli.socket, Some(PathBuf::from("/tmp/s")));
    }

    #[test]
    fn an_id_is_a_number() {
        assert!(Cli::try_parse_from(["guppy", "release", "7"]).is_ok());
        assert!(Cli::try_parse_from(["guppy", "release", "seven"]).is_err());
    }
}
