//! guppy-exit-router with real Tailscale, real VPNs, and a judge on the box's uplink.

mod control;
mod disturbances;
mod foreign;
mod forward;
mod guppy;
mod headline;
mod hunt;
mod load;
mod machine;
mod private;
mod profiles;
mod restarts;
mod scan;
mod traffic;
mod world;
