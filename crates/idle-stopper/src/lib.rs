//! guppy-idle-stopper: stops its own box after half an hour in which nothing worked and nobody
//! typed. Three rooms: [`sense`] reads, [`decide`] judges, [`act`] does.

pub mod api;
pub mod config;
pub mod sense;
