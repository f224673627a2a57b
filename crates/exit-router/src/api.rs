//! `dev.guppy.ExitRouter`, the Varlink interface of this daemon: its types, its errors and the proxy
//! that the CLI calls it with. Served at `/run/guppy/exit-router.sock`.

use serde::{Deserialize, Serialize};
use zlink::{ReplyError, introspect, proxy};

/// Where the socket is, unless told otherwise.
pub const SOCKET: &str = "/run/guppy/exit-router.sock";

/// How everything is now.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Status {
    /// Whether peers are kept from the uplink.
    pub enabled: bool,
    /// The profile that is asked for.
    pub profile: Option<String>,
    /// `ending`, `off`, `connecting`, `up`, `parked`, `failed` or `disabled`.
    pub state: String,
    /// Why, for people.
    pub detail: String,
    /// The tunnel's interface, while it is there.
    pub interface: Option<String>,
    /// Whether the probe was answered just now; None: there is nothing to ask through.
    pub healthy: Option<bool>,
    /// What was asked through the tunnel, and what came of it.
    pub probe: Option<String>,
    /// The address that the probe's server saw.
    pub egress: Option<String>,
    /// Who was forwarded in the last ten minutes.
    pub peers: Vec<Peer>,
    /// Packets kept from the uplink since the table was put.
    pub blocked_packets: u64,
    /// Their bytes.
    pub blocked_bytes: u64,
    /// Packets from the customer's network that nobody had asked for.
    pub hostile_packets: u64,
    /// How names that tailscaled resolves for peers leave today.
    pub dns: String,
    /// Routes that tailscaled offers.
    pub advertised: Vec<String>,
    /// Those that the tailnet has approved.
    pub approved: Vec<String>,
    /// The customer's networks that are not both.
    pub missing_routes: Vec<String>,
    /// Whether this box is offered as exit node, and approved; None: tailscaled cannot be asked.
    pub exit_node: Option<bool>,
    /// What others have done that stands against this.
    pub foreign: Vec<String>,
    /// Which layers hold.
    pub layers: Layers,
    /// What is wrong with the config in the files, if the daemon runs on another one.
    pub config_error: Option<String>,
}

/// Each of them keeps peers from the uplink by itself.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Layers {
    /// Policy rules and our table.
    pub rules: bool,
    /// Our nft table.
    pub nft: bool,
    /// Filters on the uplink's way out.
    pub tc: bool,
}

/// One device of the tailnet.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Peer {
    /// In the tailnet.
    pub address: String,
    /// Both ways.
    pub packets: u64,
    /// Both ways.
    pub bytes: u64,
}

/// What must hold, and what differs from it now.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Plan {
    /// As ip(8), tc(8) and nft(8) write it.
    pub plan: String,
    /// What is about to be done; empty: all of it holds.
    pub actions: Vec<String>,
}

/// A profile.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct ProfileLine {
    /// Its name.
    pub name: String,
    /// `wireguard`, `openvpn` or `unit`; None: its file is wrong.
    pub kind: Option<String>,
    /// The tunnel's interface.
    pub interface: Option<String>,
    /// The customer's private networks.
    pub prefixes: Vec<String>,
    /// What healthy means.
    pub probe: Option<String>,
    /// It asks for one-time codes.
    pub interactive: bool,
    /// It is the one that is asked for.
    pub active: bool,
    /// What is wrong with its file.
    pub error: Option<String>,
}

/// All profiles.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Profiles {
    /// By name.
    pub profiles: Vec<ProfileLine>,
}

/// What a call has changed.
#[derive(Clone, Debug, Serialize, Deserialize, introspect::Type)]
pub struct Changed {
    /// The profile it was about.
    pub profile: Option<String>,
    /// False: it was so already.
    pub changed: bool,
    /// The routes that `guppy vpn up` had advertised: whoever ends the tunnel withdraws them.
    pub advertised: Vec<String>,
}

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, ReplyError, introspect::ReplyError)]
#[zlink(interface = "dev.guppy.ExitRouter")]
pub enum Error {
    /// The caller may not, or nobody may: networks that overlap this box's own (exit status 4).
    Refused {
        /// Why, and what to do.
        message: String,
    },
    /// The daemon could not do it.
    Failed {
        /// Why, and what to do.
        message: String,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused { message } | Self::Failed { message } => f.write_str(message),
        }
    }
}

impl std::error::Error for Error {}

/// The daemon, seen from a client.
#[proxy("dev.guppy.ExitRouter")]
pub trait ExitRouter {
    /// How everything is; asks through the tunnel for it.
    async fn status(&mut self) -> zlink::Result<Result<Status, Error>>;

    /// What must hold, without touching anything.
    async fn plan(&mut self) -> zlink::Result<Result<Plan, Error>>;

    /// The profiles.
    async fn list(&mut self) -> zlink::Result<Result<Profiles, Error>>;

    /// Asks for a profile. `advertised`: the routes that the caller has advertised for it.
    async fn up(
        &mut self,
        profile: &str,
        advertised: &[&str],
    ) -> zlink::Result<Result<Changed, Error>>;

    /// Ends the tunnel; peers' packets then go nowhere.
    async fn down(&mut self) -> zlink::Result<Result<Changed, Error>>;

    /// Ends the tunnel and takes the block away: peers' packets then leave by the uplink.
    async fn disable(&mut self) -> zlink::Result<Result<Changed, Error>>;
}
