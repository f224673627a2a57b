//! guppy-idle-stopper on real machines: installed by cloud-init from the packages under test, with
//! real ssh, tmux, docker, make and systemd around it.

mod blindness;
mod boundaries;
mod crashes;
mod machine;
mod package;
mod quiet;
mod remote_build;
mod soak;
mod stops;
mod survives;
mod tailscale;
mod time;
mod warning;
mod watcher;
