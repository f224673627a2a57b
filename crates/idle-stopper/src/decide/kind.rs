//! The kinds of evidence, in the order of the manual.

use serde::{Deserialize, Serialize};

use crate::config::Kinds;

/// One kind of evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "config::Kinds documents each")]
pub enum Kind {
    Terminals,
    Commands,
    Tcp,
    Cpu,
    Disk,
    Network,
    Builds,
    Inhibitors,
    Packages,
    Holds,
    Checks,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Terminals,
        Self::Commands,
        Self::Tcp,
        Self::Cpu,
        Self::Disk,
        Self::Network,
        Self::Builds,
        Self::Inhibitors,
        Self::Packages,
        Self::Holds,
        Self::Checks,
    ];

    /// Its name in the config and on the screen.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminals => "terminals",
            Self::Commands => "commands",
            Self::Tcp => "tcp",
            Self::Cpu => "cpu",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Builds => "builds",
            Self::Inhibitors => "inhibitors",
            Self::Packages => "packages",
            Self::Holds => "holds",
            Self::Checks => "checks",
        }
    }

    /// Whether the config has it switched on.
    pub const fn is_on(self, kinds: &Kinds) -> bool {
        match self {
            Self::Terminals => kinds.terminals,
            Self::Commands => kinds.commands,
            Self::Tcp => kinds.tcp,
            Self::Cpu => kinds.cpu,
            Self::Disk => kinds.disk,
            Self::Network => kinds.network,
            Self::Builds => kinds.builds,
            Self::Inhibitors => kinds.inhibitors,
            Self::Packages => kinds.packages,
            Self::Holds => kinds.holds,
            Self::Checks => kinds.checks,
        }
    }

    /// Whether it says that somebody is there or has asked for the box, rather than that bytes or
    /// cycles moved: the pre-stop hooks make those move themselves.
    pub const fn is_presence(self) -> bool {
        matches!(
            self,
            Self::Terminals
                | Self::Commands
                | Self::Builds
                | Self::Inhibitors
                | Self::Packages
                | Self::Holds
                | Self::Checks
        )
    }
}
