//! guppy-session-keeper: every agent in a durable tmux session, and back in its own conversation,
//! once, after a reboot. Three rooms: [`sense`] reads, [`decide`] judges, act does.
//!
//! The keeper runs beside what it keeps: the tmux server is a unit of its own ([`tmux_server`]
//! starts it), and each agent is the child of a [`shim`], which is the first process of its pane.

pub mod act;
pub mod agents;
pub mod alone;
pub mod api;
pub mod beside;
pub mod cgroup;
pub mod config;
pub mod conversation;
pub mod decide;
pub mod hook;
pub mod intent;
pub mod keeper;
pub mod launch;
pub mod learned;
pub mod name;
pub mod paths;
pub mod patience;
pub mod process;
pub mod report;
pub mod round;
pub mod sense;
pub mod serve;
pub mod shim;
pub mod size;
pub mod tmux;
pub mod tmux_server;
