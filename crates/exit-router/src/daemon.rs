//! What the loop and the Varlink service share: what people want, what was read last, and what must
//! hold.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use service::clock::Clock;
use service::config::Live;
use tracing::{info, warn};

use crate::config::Config;
use crate::decide::plan::Plan;
use crate::decide::{self, Action, Decision, Input, Phase, State};
use crate::intent::Intent;
use crate::prefix::Prefix;
use crate::profile::{self, Profile};
use crate::sense::{Evidence, Network, Reading};

/// Every profile by name, or what is wrong with it.
pub type Profiles = BTreeMap<String, Result<Profile, String>>;

/// All that the daemon knows.
#[derive(Debug)]
pub struct Daemon {
    /// The time.
    pub clock: Clock,
    /// The config in force.
    pub config: Live<Config>,
    /// What people have asked for.
    pub intent: Intent,
    /// As of the last time that one was asked for, or the config was read.
    pub profiles: Profiles,
    /// What must not be asked of the world again.
    pub state: State,
    /// What was read last.
    pub evidence: Evidence,
    /// What must hold; None: the kernel could not be read.
    pub plan: Option<Plan>,
    /// What was to be done at the last look.
    pub actions: Vec<Action>,
    /// How the tunnel is.
    pub phase: Phase,
    /// Whether the peers' interface is there; None: not known yet.
    peers: Option<bool>,
    attended: Option<u64>,
    intent_file: PathBuf,
    profiles_folder: PathBuf,
}

impl Daemon {
    /// Begins with what people have asked for in earlier boots.
    pub fn start(
        clock: Clock,
        config: Live<Config>,
        intent_file: &Path,
        profiles_folder: &Path,
    ) -> Self {
        let intent = Intent::read(intent_file).unwrap_or_else(|why| {
            warn!(guppy_event = "intent-error", "{why}; no tunnel is brought up");
            Intent::default()
        });
        let unread = || "not read yet".to_owned();
        let mut daemon = Self {
            clock,
            config,
            intent,
            profiles: Profiles::new(),
            state: State::default(),
            evidence: Evidence {
                network: Reading::Unknown(unread()),
                table: Reading::Unknown(unread()),
                units: Reading::Unknown(unread()),
            },
            plan: None,
            actions: Vec::new(),
            phase: Phase::Off,
            peers: None,
            attended: None,
            intent_file: intent_file.to_owned(),
            profiles_folder: profiles_folder.to_owned(),
        };
        daemon.read_profiles();
        daemon
    }

    /// Reads all profiles anew.
    pub fn read_profiles(&mut self) {
        let folder = &self.profiles_folder;
        let names = profile::names(folder).unwrap_or_else(|error| {
            warn!("{}: {error}; no profile is known", folder.display());
            Vec::new()
        });
        self.profiles =
            names.into_iter().map(|name| (name.clone(), profile::load(folder, &name))).collect();
    }

    /// Judges what was read, and returns what is to be done, and when to judge anew at the latest.
    pub fn decide(&mut self, evidence: Evidence) -> (Vec<Action>, Option<Duration>) {
        self.evidence = evidence;
        let input = Input {
            config: self.config.config(),
            intent: &self.intent,
            profiles: &self.profiles,
            attended: self.attended,
            evidence: &self.evidence,
            now: self.clock.now(),
        };
        let Decision { state, actions, plan, phase, again } =
            decide::decide(std::mem::take(&mut self.state), &input);
        self.state = state;
        self.plan = plan;
        if phase != self.phase {
            tell(self.intent.profile.as_deref(), &phase);
            self.phase = phase;
        }
        self.look_for_peers();
        self.actions = actions.clone();
        (actions, again)
    }

    /// The kernel's routing as of the last look.
    pub fn network(&self) -> Option<&Network> {
        self.evidence.network.known()
    }

    /// The wanted profile, if there is one and its file is right.
    pub fn profile(&self) -> Option<(&str, &Profile)> {
        let name = self.intent.profile.as_deref()?;
        Some((name, self.profiles.get(name)?.as_ref().ok()?))
    }

    /// The tunnel's interface and its addresses, while it is there.
    pub fn tunnel(&self) -> Option<(String, Vec<IpAddr>)> {
        let (name, profile) = self.profile()?;
        let network = self.network()?;
        let link = network.link(&profile.interface(name))?;
        let of_link = network.addresses.iter().filter(|address| address.index == link.index);
        Some((link.name.clone(), of_link.map(|address| address.address).collect()))
    }

    /// Asks for a profile; whether that is something new.
    ///
    /// # Errors
    /// `Err(true)`: refused by policy; `Err(false)`: it cannot be done.
    pub fn up(&mut self, name: &str, advertised: Vec<Prefix>) -> Result<bool, (bool, String)> {
        self.read_profiles();
        let profile = match self.profiles.get(name) {
            Some(Ok(profile)) => profile,
            Some(Err(why)) => return Err((false, why.clone())),
            None => {
                let known: Vec<&str> = self.profiles.keys().map(String::as_str).collect();
                let known = if known.is_empty() {
                    format!("there is none in {}", self.profiles_folder.display())
                } else {
                    format!("there are: {}", known.join(", "))
                };
                return Err((false, format!("there is no profile {name}; {known}")));
            }
        };
        if let Some(network) = self.network()
            && let Some(why) = decide::overlap(profile, &profile.interface(name), network)
        {
            return Err((true, why));
        }
        let already = self.intent.profile.as_deref() == Some(name)
            && self.intent.enabled
            && matches!(self.phase, Phase::Up | Phase::Connecting(_));
        let mut all = self.intent.advertised.clone();
        all.extend(
            advertised.into_iter().filter(|prefix| !self.intent.advertised.contains(prefix)),
        );
        let asked = if already { self.intent.asked } else { self.intent.asked + 1 };
        let intent =
            Intent { enabled: true, profile: Some(name.to_owned()), asked, advertised: all };
        if intent != self.intent {
            intent.write(&self.intent_file).map_err(|why| (false, why))?;
            self.intent = intent;
        }
        if !already {
            // Whoever looks before the loop does must not be told of what was before.
            self.phase = Phase::Connecting("asked for".to_owned());
        }
        self.attended = Some(asked);
        Ok(!already)
    }

    /// Ends the tunnel, and with `disable` the block; what had been asked for.
    ///
    /// # Errors
    /// What people want cannot be written down.
    pub fn down(&mut self, disable: bool) -> Result<Intent, String> {
        let before = self.intent.clone();
        let after = Intent {
            enabled: before.enabled && !disable,
            profile: None,
            asked: before.asked,
            advertised: Vec::new(),
        };
        if after != before {
            after.write(&self.intent_file)?;
            self.intent = after;
        }
        Ok(before)
    }

    /// Says once when the peers' interface is not there, and once when it has come.
    fn look_for_peers(&mut self) {
        let Some(network) = self.evidence.network.known() else { return };
        let name = &self.config.config().tailscale_interface;
        let there = network.link(name).is_some();
        match (self.peers, there) {
            (Some(before), now) if before == now => return,
            (None, true) => {}
            (_, true) => info!(guppy_event = "peers", "there is {name}: peers may come in by it"),
            (_, false) => {
                info!(guppy_event = "no-peers", "there is no {name}: waiting for tailscaled")
            }
        }
        self.peers = Some(there);
    }

    /// What there is to say of the tunnel, and of the peers' interface while it is not there.
    pub fn detail(&self) -> String {
        let missing = (self.peers == Some(false))
            .then(|| format!("there is no {} yet", self.config.config().tailscale_interface));
        let phase = Some(self.phase.detail().to_owned()).filter(|detail| !detail.is_empty());
        phase.into_iter().chain(missing).collect::<Vec<_>>().join("; ")
    }

    /// The line for `systemctl status`.
    pub fn status(&self) -> String {
        let name = self.intent.profile.as_deref().unwrap_or("no tunnel");
        let detail = self.detail();
        if detail.is_empty() {
            format!("{name}: {}", self.phase.name())
        } else {
            format!("{name}: {}: {detail}", self.phase.name())
        }
    }
}

fn tell(profile: Option<&str>, phase: &Phase) {
    let name = profile.unwrap_or("no tunnel");
    let word = phase.name();
    match phase {
        Phase::Up => info!(guppy_event = "up", "{name} is up: peers' packets go into it"),
        Phase::Connecting(why) => {
            info!(
                guppy_event = "connecting",
                "{name} is not up ({why}): peers' packets are dropped"
            );
        }
        Phase::Ending(why) => info!(guppy_event = "ending", "no tunnel is asked for: {why}"),
        Phase::Off => info!(guppy_event = "off", "{}", phase.detail()),
        Phase::Disabled => warn!(guppy_event = "disabled", "the block is gone: {}", phase.detail()),
        Phase::Parked(why) | Phase::Failed(why) => {
            warn!(guppy_event = word, guppy_reason = why, "{name} is {word}: {why}");
        }
    }
}
