//! guppy-idle-stopper: stops its own box after half an hour in which nothing worked and nobody
//! typed. Three rooms: [`sense`] reads, [`decide`] judges, [`act`] does.

#![forbid(unsafe_code)]

pub mod act;
pub mod api;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod helper;
pub mod hold_lines;
pub mod holds;
pub mod round;
pub mod sense;
pub mod serve;
