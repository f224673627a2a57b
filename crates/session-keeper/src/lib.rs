//! guppy-session-keeper: every agent in a durable tmux session, and back in its own conversation,
//! once, after a reboot. Three rooms: sense reads, [`decide`] judges, act does.

pub mod agents;
pub mod config;
pub mod conversation;
pub mod decide;
pub mod intent;
pub mod launch;
pub mod learned;
pub mod name;
pub mod sense;
pub mod size;
