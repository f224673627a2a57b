//! budget-stop: stops every box tagged `role=devorch` when the month's cost reaches a cap.
//!
//! Each invocation is a run of the three rooms, and keeps nothing for the next one:
//!
//! * `sense` asks AWS Budgets, and each region for what is tagged and runs.
//! * [`decide`] judges: whether the cap is reached, what is stopped together, what follows a refusal,
//!   whether anybody is told. No I/O, no clock.
//! * `act` suspends Auto Scaling groups, stops instances, publishes the report.
//!
//! **Architecture Invariant:** AWS Budgets alone says whether the cap is reached. An event only makes
//! the function ask; what it says of money is never read.

pub mod config;
pub mod decide;
pub mod event;
pub mod outcome;
pub mod report;

#[cfg(feature = "aws")]
mod act;
#[cfg(feature = "aws")]
mod call;
#[cfg(feature = "aws")]
mod clients;
#[cfg(feature = "aws")]
mod region;
#[cfg(feature = "aws")]
pub mod run;
#[cfg(feature = "aws")]
mod sense;

/// The tag's key by which a box is selected. Exactly this: AWS tells keys by case.
pub const TAG_KEY: &str = "role";
/// The tag's value by which a box is selected. The policies in template.yaml name the same.
pub const TAG_VALUE: &str = "devorch";
