//! guppy-exit-router with real Tailscale, real VPNs, and a judge on the box's uplink.

mod control;
mod disturbances;
mod guppy;
mod headline;
mod hunt;
mod machine;
mod traffic;
mod world;
