//! What the template hands over: environment variables, read once at the start.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

/// The settings of one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The stack's name, which is the function's own (`AWS_LAMBDA_FUNCTION_NAME`).
    pub stack: String,
    /// The region that it is in (`AWS_REGION`).
    pub region: String,
    /// The account whose budget is asked, twelve digits (`GUPPY_ACCOUNT`).
    pub account: String,
    /// The budget's name (`GUPPY_BUDGET`).
    pub budget: String,
    /// The one topic whose messages make the function ask (`GUPPY_BUDGET_TOPIC`, an ARN).
    pub budget_topic: String,
    /// Where reports go (`GUPPY_REPORT_TOPIC`, an ARN).
    pub report_topic: String,
    /// Whether DisableApiStop is lifted from a tagged instance (`GUPPY_OVERRIDE_STOP_PROTECTION`).
    pub override_stop_protection: bool,
    /// The function's timeout (`GUPPY_TIMEOUT_SECONDS`), for a deadline that cannot be meant.
    pub timeout: Duration,
}

impl Config {
    /// Reads the settings through `look_up`, which stands for the environment.
    ///
    /// Fails on the first that is missing or makes no sense, and names it.
    pub fn read(look_up: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let text = |name: &str| {
            look_up(name).filter(|value| !value.is_empty()).with_context(|| {
                format!("{name} is not set: Lambda or template.yaml sets it, deploy again")
            })
        };
        let report_topic = text("GUPPY_REPORT_TOPIC")?;
        let budget_topic = text("GUPPY_BUDGET_TOPIC")?;
        if report_topic == budget_topic {
            bail!(
                "GUPPY_REPORT_TOPIC is GUPPY_BUDGET_TOPIC: each report would invoke the function again"
            );
        }
        let override_stop_protection = match text("GUPPY_OVERRIDE_STOP_PROTECTION")?.as_str() {
            "true" => true,
            "false" => false,
            other => bail!("GUPPY_OVERRIDE_STOP_PROTECTION is '{other}': say true or false"),
        };
        let seconds = text("GUPPY_TIMEOUT_SECONDS")?;
        let timeout = match seconds.parse() {
            Ok(seconds @ 1..=900) => Duration::from_secs(seconds),
            _ => bail!("GUPPY_TIMEOUT_SECONDS is '{seconds}': say 1 to 900"),
        };
        Ok(Self {
            stack: text("AWS_LAMBDA_FUNCTION_NAME")?,
            region: text("AWS_REGION")?,
            account: text("GUPPY_ACCOUNT")?,
            budget: text("GUPPY_BUDGET")?,
            budget_topic,
            report_topic,
            override_stop_protection,
            timeout,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    fn read(change: &[(&str, &str)]) -> anyhow::Result<Config> {
        let mut all = vec![
            ("AWS_LAMBDA_FUNCTION_NAME", "guppy-budget-stop"),
            ("AWS_REGION", "us-east-1"),
            ("GUPPY_ACCOUNT", "123456789012"),
            ("GUPPY_BUDGET", "guppy"),
            ("GUPPY_BUDGET_TOPIC", "arn:aws:sns:us-east-1:123456789012:alarm"),
            ("GUPPY_REPORT_TOPIC", "arn:aws:sns:us-east-1:123456789012:report"),
            ("GUPPY_OVERRIDE_STOP_PROTECTION", "false"),
            ("GUPPY_TIMEOUT_SECONDS", "300"),
        ];
        all.extend(change);
        Config::read(|name| {
            let found = all.iter().rev().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn what_is_wrong_is_named_with_its_value() {
        assert_eq!(read(&[]).expect("all is set").timeout.as_secs(), 300);
        for (name, value, said) in [
            ("GUPPY_BUDGET", "", "GUPPY_BUDGET is not set"),
            ("GUPPY_OVERRIDE_STOP_PROTECTION", "yes", "'yes': say true or false"),
            ("GUPPY_TIMEOUT_SECONDS", "5m", "'5m': say 1 to 900"),
            (
                "GUPPY_REPORT_TOPIC",
                "arn:aws:sns:us-east-1:123456789012:alarm",
                "invoke the function",
            ),
        ] {
            let error = read(&[(name, value)]).expect_err(name).to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
