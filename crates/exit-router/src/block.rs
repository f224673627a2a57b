//! The block without the daemon: before the network is up, and again after somebody has flushed
//! nftables. It only adds, so it never opens what is closed and takes no tunnel's route away; the
//! daemon then finds what is missing.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use service::clock::Clock;
use service::config::{Live, Paths};
use tracing::{error, warn};

use crate::act;
use crate::config::Config;
use crate::decide::{self, Action, Input, State};
use crate::intent::{self, Intent};
use crate::kernel::Address;
use crate::profile::INTERFACE_PREFIX;
use crate::rtnl::Handle;
use crate::sense::{Evidence, Network, Reading, netlink, nft};

/// What is to be there afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// At least the block, unless somebody has disabled it.
    Closed,
    /// Nothing of ours.
    Nothing,
}

/// Brings it about; the status says whether all of it is.
pub fn main(want: Want) -> ExitCode {
    service::journal::init("guppy-exit-router-block");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let faults = match runtime {
        Ok(runtime) => runtime.block_on(run(want)),
        Err(error) => vec![error.to_string()],
    };
    for fault in &faults {
        error!(guppy_event = "block-failed", "{fault}");
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says which forwarding of this box's the block will cut, for whoever installs it.
pub fn cuts() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let network = match runtime {
        Ok(runtime) => runtime.block_on(async {
            let handle = Handle::connect().map_err(|error| format!("netlink: {error}"))?;
            netlink::read(&handle).await
        }),
        Err(error) => Err(error.to_string()),
    };
    match network {
        Ok(network) => {
            let config = Live::<Config>::start(Paths::of("exit-router"), None);
            for line in cut(config.config(), &network) {
                println!("guppy-exit-router: {line}");
            }
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("guppy-exit-router: {why}");
            ExitCode::FAILURE
        }
    }
}

/// An interface with a network behind it that is no uplink may be forwarded for today.
fn cut(config: &Config, network: &Network) -> Vec<String> {
    let via = network
        .uplinks
        .first()
        .and_then(|uplink| network.links.iter().find(|link| link.index == *uplink));
    let via = via.map_or("eth0", |link| &link.name);
    let named = |name: &str| {
        name == "lo"
            || name == config.tailscale_interface
            || name.starts_with(INTERFACE_PREFIX)
            || config.also_forward.iter().any(|also| also.from.as_deref() == Some(name))
    };
    network
        .links
        .iter()
        .filter(|link| link.up && !named(&link.name) && !network.uplinks.contains(&link.index))
        .filter(|link| {
            let own = |address: &&Address| address.index == link.index && address.usable;
            network.addresses.iter().any(|address| own(&address))
        })
        .map(|link| {
            let name = &link.name;
            format!(
                "what comes in by {name} is forwarded to the uplink no more; to keep it, say in \
                 /etc/guppy/exit-router.toml: also_forward = [{{ from = \"{name}\", to = \
                 \"0.0.0.0/0\", via = \"{via}\" }}]"
            )
        })
        .collect()
}

async fn run(want: Want) -> Vec<String> {
    let intent = match want {
        Want::Nothing => Intent { enabled: false, ..Intent::default() },
        Want::Closed => match Intent::read(Path::new(intent::FILE)) {
            // No tunnel: the daemon opens when it has seen one.
            Ok(intent) => Intent { profile: None, ..intent },
            Err(why) => {
                warn!("{why}");
                Intent::default()
            }
        },
    };
    if want == Want::Closed && !intent.enabled {
        return Vec::new();
    }
    let config = Live::<Config>::start(Paths::of("exit-router"), None);
    if let Some(wrong) = config.error() {
        warn!(guppy_event = "config-error", "{wrong}");
    }
    let handle = match Handle::connect() {
        Ok(handle) => handle,
        Err(error) => return vec![format!("netlink: {error}")],
    };
    let mut faults = Vec::new();
    // Where the kernel cannot be read, the chain that knows no uplink still closes.
    let network = netlink::read(&handle).await.unwrap_or_else(|why| {
        faults.push(why);
        Network::default()
    });
    let evidence = Evidence {
        network: Reading::Known(network),
        table: nft::table().await.into(),
        units: Reading::Unknown("not asked".to_owned()),
    };
    let profiles = BTreeMap::new();
    let input = Input {
        config: config.config(),
        intent: &intent,
        profiles: &profiles,
        attended: None,
        evidence: &evidence,
        now: Clock::Kernel.now(),
    };
    // In the order of the plan, each whatever came of the one before: one layer is better than none.
    for action in decide::decide(State::default(), &input).actions {
        let takes_away = match &action {
            Action::DeleteRule(_) | Action::DeleteRoute(_) => true,
            Action::Filters { filters, .. } => filters.is_empty(),
            _ => false,
        };
        if want == Want::Closed && takes_away {
            continue;
        }
        match (act::perform(&action, &handle).await, &action) {
            (Ok(()), _) => {}
            // A kernel without their modules; the daemon and guppy doctor say so too.
            (Err(why), Action::Filters { .. }) => warn!("{why}; the other two layers hold"),
            (Err(why), _) => faults.push(why),
        }
    }
    faults
}
