//! The VPN client as its unit runs it, against real servers: wireguard-go and OpenVPN, in network
//! namespaces of their own. It needs root, for those.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod openvpn;
mod unit;
mod wireguard;
mod world;
