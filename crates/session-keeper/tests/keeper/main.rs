//! The keeper, its shims and a real tmux server: an agent's whole life, without systemd.

#![allow(clippy::unwrap_used)]

mod cuts;
mod disk;
mod frozen;
mod gone;
mod hung;
mod kills;
mod life;
mod parked;
mod places;
mod resumes;
mod sends;
mod tracer;
mod turns;
mod verbs;
mod world;
