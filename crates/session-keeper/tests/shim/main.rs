//! The shim and the tmux server's start, as real processes: a real tmux, real terminals, a real
//! delegated control group, another user. What they need of systemd is played by the test.
#![allow(clippy::unwrap_used)]

mod ends;
mod environment;
mod locks;
mod server;
mod starts;
mod world;
