//! The keeper, its shims and a real tmux server: an agent's whole life, without systemd.

#![allow(clippy::unwrap_used)]

mod cuts;
mod kills;
mod life;
mod parked;
mod places;
mod tracer;
mod verbs;
mod world;
