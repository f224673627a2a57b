//! What every guppy daemon shares, and nothing else. A daemon's `main` uses the modules in this
//! order: [`args`], [`journal`], [`config`], [`socket`], [`notify`], then its loop.

pub mod args;
pub mod clock;
pub mod config;
pub mod journal;
pub mod notify;
pub mod signals;
pub mod socket;
pub mod state;
