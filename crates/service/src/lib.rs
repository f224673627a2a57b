//! What every guppy daemon shares, and nothing else. A daemon's `main` is
//! [`args::Daemon::main`]; what it runs uses [`socket`], [`config`], [`notify`], then its loop.

pub mod args;
pub mod clock;
pub mod cmdline;
pub mod config;
pub mod journal;
pub mod memory;
pub mod notify;
pub mod signals;
pub mod socket;
pub mod state;
