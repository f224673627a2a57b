//! Whether the cap is reached.

use std::fmt;

use anyhow::{Context as _, Result, bail};

/// An amount of money as AWS Budgets says it: a decimal number and its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Amount {
    /// The number.
    pub value: f64,
    /// The unit, e.g. USD.
    pub unit: String,
}

impl Amount {
    /// Reads what AWS Budgets says. Fails on what is no finite number.
    pub fn read(value: &str, unit: &str) -> Result<Self> {
        match value.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Self { value: number, unit: unit.to_owned() }),
            _ => bail!("AWS Budgets says an amount of '{value}' {unit}, which is no number"),
        }
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.2} {}", self.value, self.unit)
    }
}

/// What AWS Budgets says of the month.
#[derive(Debug, Clone, PartialEq)]
pub struct Budget {
    /// The actual cost so far, as far as AWS knows it by now. None: a new budget has none yet.
    pub spend: Option<Amount>,
    /// The cap.
    pub cap: Amount,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.cost(), self.cap)
    }
}

impl Budget {
    /// The cost, for people.
    #[must_use]
    pub fn cost(&self) -> String {
        self.spend.as_ref().map_or_else(|| "not known yet".to_owned(), Amount::to_string)
    }

    /// Whether the actual cost is at the cap or over it. Fails if they cannot be compared.
    pub fn is_reached(&self) -> Result<bool> {
        let spend = self.spend.as_ref().context("AWS Budgets has no cost for this budget yet")?;
        if spend.unit != self.cap.unit {
            bail!("the cost is in {} and the cap in {}", spend.unit, self.cap.unit);
        }
        Ok(spend.value >= self.cap.value)
    }
}

#[cfg(test)]
mod tests {
    use super::{Amount, Budget};

    #[test]
    fn the_cap_is_reached_at_the_cap() {
        for (spend, reached) in [
            ("0", false),
            ("199.99", false),
            ("200", true),
            ("200.0000000001", true),
            ("1e3", true),
            ("-5", false),
        ] {
            let amount = |value| Amount::read(value, "USD").expect("a number");
            let budget = Budget { spend: Some(amount(spend)), cap: amount("200.0") };
            assert_eq!(budget.is_reached().expect("one unit"), reached, "{spend}");
        }
    }

    #[test]
    fn what_cannot_be_compared_is_no_answer() {
        for value in ["", "NaN", "inf", "two", "1,000"] {
            assert!(Amount::read(value, "USD").is_err(), "{value}");
        }
        let spend = Amount::read("300", "EUR").expect("a number");
        let cap = Amount::read("200", "USD").expect("a number");
        assert!(Budget { spend: None, cap: cap.clone() }.is_reached().is_err());
        assert!(Budget { spend: Some(spend), cap }.is_reached().is_err());
    }
}
