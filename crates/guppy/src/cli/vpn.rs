//! The verbs for customers' VPNs.

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::span;

/// What can be done with VPNs.
#[derive(Debug, Subcommand)]
pub enum VpnVerb {
    /// Raise a customer's VPN; peers' packets then go into it
    #[command(
        long_about = "Raise a customer's VPN; peers' packets then go into it.\n\nThe customer's \
            private networks are advertised as subnet routes, together with what is advertised \
            already; where the caller may not do that, the command to run is printed. Another VPN \
            that is up is ended first. It comes back after a reboot, unless it asks for codes."
    )]
    Up(Up),

    /// End the VPN, and withdraw what `up` has advertised; peers' packets then go nowhere
    Down,

    /// How the tunnel is, who goes through it, and what stands against it
    Status,

    /// What must hold in the kernel, and what differs from it; nothing is touched
    Plan,

    /// The customers' VPNs that this box knows
    List,

    /// End the VPN and let peers leave by this box's own uplink (root)
    Disable,
}

/// Arguments of `guppy vpn up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The profile, /etc/guppy/vpn.d/NAME.toml; may be left out where there is only one
    pub name: Option<String>,
    /// Wait until its probe is answered through the tunnel
    #[arg(long)]
    pub wait_healthy: bool,
    /// How long to wait at most
    #[arg(long, value_name = "DURATION", default_value = "1min", value_parser = span::parse)]
    pub timeout: Duration,
}
