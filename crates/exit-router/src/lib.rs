//! guppy-exit-router: sends what peers of a tailnet send through this box into a customer's VPN, or
//! nowhere. Three rooms: [`sense`] reads, [`decide`] judges, [`act`] does. [`client`] is what
//! `guppy-vpn@NAME.service` runs.

#![forbid(unsafe_code)]

pub mod act;
pub mod api;
pub mod block;
pub mod client;
pub mod config;
pub mod daemon;
pub mod decide;
pub mod intent;
pub mod kernel;
pub mod prefix;
pub mod profile;
pub mod report;
pub mod round;
pub mod rtnl;
pub mod sense;
pub mod serve;
