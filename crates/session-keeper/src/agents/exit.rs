//! What the end of an agent means: by its status and the last words on its screen.

use serde::Deserialize;

/// `[[exits]]`: all that it says must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Exit {
    /// The exit status.
    pub code: Option<i32>,
    /// Any exit status, but no signal.
    pub any_code: bool,
    /// A text among the last lines of its screen, in any case. One that was ended by a signal has
    /// said no last words, whatever stands there.
    pub text: String,
    /// What it means.
    pub means: Meaning,
}

/// What an end means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meaning {
    /// A person or the agent itself wanted it: it stays stopped.
    Clean,
    /// The conversation to resume was not found.
    NotFound,
    /// The conversation is open elsewhere.
    Busy,
    /// The provider's usage limit.
    Limit,
    /// It is not logged in.
    Login,
    /// Anything else.
    #[default]
    Crash,
}

/// What an end means by these rules. `code` is None for a signal. Without a rule that fits, 0 is
/// clean and all else a crash.
pub fn meaning(rules: &[Exit], code: Option<i32>, screen: &str) -> Meaning {
    let screen = screen.to_lowercase();
    let fits = |rule: &&Exit| {
        rule.code.is_none_or(|wanted| code == Some(wanted))
            && ((!rule.any_code && rule.text.is_empty()) || code.is_some())
            && screen.contains(&rule.text.to_lowercase())
    };
    match (rules.iter().find(fits), code) {
        (Some(rule), _) => rule.means,
        (None, Some(0)) => Meaning::Clean,
        (None, _) => Meaning::Crash,
    }
}

/// When a usage limit ends, in seconds of the wall clock since 1970, where the screen says it as
/// `|1750000000`; None: it does not.
pub fn reset_of(screen: &str) -> Option<u64> {
    let digits = |text: &str| text.chars().take_while(char::is_ascii_digit).collect::<String>();
    let plausible = |seconds: &u64| (1_500_000_000..5_000_000_000).contains(seconds);
    screen.split('|').skip(1).filter_map(|rest| digits(rest).parse().ok()).find(plausible)
}
