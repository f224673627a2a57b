//! The keeper, its shims and a real tmux server: an agent's whole life, without systemd.

#![allow(clippy::unwrap_used)]

mod life;
mod verbs;
mod world;
