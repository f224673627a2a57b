//! guppy: the verbs that people and agents call. One file per verb in [`verbs`]; everything that
//! a verb says goes through [`report`], so that `--json` is one document whatever happens.

#![forbid(unsafe_code)]

pub mod agent;
pub mod bus;
pub mod cli;
pub mod keeper;
pub mod report;
pub mod span;
pub mod table;
pub mod verbs;
pub mod wall;
