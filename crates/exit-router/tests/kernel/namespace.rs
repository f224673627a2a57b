//! A box in a network namespace of its own: an uplink with an internet behind it, a tailnet with a peer
//! behind it, and a tunnel with a customer behind it; each of the others is a namespace too.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use exit_router::act;
use exit_router::config::Config;
use exit_router::decide::{Action, Decision, Input, State, decide};
use exit_router::intent::Intent;
use exit_router::profile::Profile;
use exit_router::rtnl::Handle;
use exit_router::sense::{Evidence, Reading, netlink, nft};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use service::clock::Clock;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Runs a command that must succeed; its stdout.
pub(crate) fn run(line: &str) -> String {
    let output = Command::new("/bin/sh").args(["-ec", line]).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{line}\n{}", text(&output.stderr));
    text(&output.stdout)
}

/// Whether a command succeeds.
pub(crate) fn succeeds(line: &str) -> bool {
    Command::new("/bin/sh").args(["-ec", line]).output().unwrap().status.success()
}

/// The box; the namespaces go when it is dropped.
pub(crate) struct World {
    tag: String,
    pub(crate) config: Config,
    pub(crate) intent: Intent,
    pub(crate) profiles: BTreeMap<String, Result<Profile, String>>,
    pub(crate) state: State,
}

impl Drop for World {
    fn drop(&mut self) {
        for name in ["box", "internet", "peer", "customer"] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(name)]).output();
        }
    }
}

impl World {
    /// The calling thread lives in the box from now on.
    pub(crate) fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let tag = format!("ger{}-{number}", std::process::id());
        let profile = "kind = \"wireguard\"\nprobe = { icmp = \"10.20.0.1\" }";
        let world = Self {
            tag,
            config: Config::default(),
            intent: Intent::default(),
            profiles: BTreeMap::from([("acme".to_owned(), Ok(toml::from_str(profile).unwrap()))]),
            state: State::default(),
        };
        for name in ["box", "internet", "peer", "customer"] {
            run(&format!("ip netns add {0}; ip -n {0} link set lo up", world.name(name)));
        }
        world.connect("eth0", "internet", "198.51.100.10/24", "198.51.100.1/24");
        world.connect("tailscale0", "peer", "100.64.0.1/10", "100.64.0.2/10");
        let space = File::open(format!("/run/netns/{}", world.name("box"))).unwrap();
        move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
        run("ip route add default via 198.51.100.1 && ip -6 route add default via fd98::1 \
             && sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        for (name, address) in [("internet", "203.0.113.80/32"), ("internet", "2001:db8:80::1/128")]
        {
            world.within(name, &format!("ip addr add {address} dev lo"));
        }
        world.within(
            "peer",
            "ip route add default via 100.64.0.1; ip -6 route add default via fd64::1",
        );
        // The internet knows the way back to peers: a leak is answered, and so seen.
        world.within(
            "internet",
            "ip route add 100.64.0.0/10 via 198.51.100.10; \
                                  ip -6 route add fd64::/64 via fd98::10",
        );
        world
    }

    pub(crate) fn name(&self, of: &str) -> String {
        format!("{}-{of}", self.tag)
    }

    /// Runs a command in another of the namespaces.
    pub(crate) fn within(&self, name: &str, line: &str) -> String {
        run(&format!("ip netns exec {} /bin/sh -ec '{line}'", self.name(name)))
    }

    /// Whether a peer gets an answer from an address.
    pub(crate) fn peer_reaches(&self, address: &str) -> bool {
        let name = self.name("peer");
        succeeds(&format!("ip netns exec {name} ping -n -c 1 -W 1 {address}"))
    }

    /// The control: without us a peer gets an answer, as soon as neighbours have found each other.
    pub(crate) fn leaks_to(&self, address: &str) {
        let answered = (0..60).any(|_| self.peer_reaches(address));
        assert!(answered, "{address} must be reached without us, or nothing here is proven");
    }

    /// A veth from the box, with IPv6 addresses that go with the IPv4 ones.
    fn connect(&self, device: &str, to: &str, own: &str, other: &str) {
        let (space, far) = (self.name("box"), self.name(to));
        run(&format!("ip -n {space} link add {device} type veth peer name eth0 netns {far}"));
        let (own6, other6) = match to {
            "internet" => ("fd98::10/64", "fd98::1/64"),
            "peer" => ("fd64::1/64", "fd64::2/64"),
            _ => ("fd08::2/64", "fd08::1/64"),
        };
        for (space, device, four, six) in
            [(&space, device, own, own6), (&far, "eth0", other, other6)]
        {
            run(&format!(
                "ip -n {space} addr add {four} dev {device}; \
                 ip -n {space} addr add {six} dev {device} nodad; ip -n {space} link set {device} up"
            ));
        }
    }

    /// The tunnel: a veth to the customer, who has the internet's address too, so that each end tells
    /// by which way it was reached.
    pub(crate) fn raise_tunnel(&mut self) {
        self.intent.profile = Some("acme".to_owned());
        self.connect("vpn-acme", "customer", "10.8.0.2/24", "10.8.0.1/24");
        self.within(
            "customer",
            "ip addr add 203.0.113.80/32 dev lo; \
            ip addr add 2001:db8:80::1/128 dev lo; ip addr add 10.20.0.1/32 dev lo",
        );
        // A veth is no tunnel: who is asked for on it is told here, since nobody may ask.
        let mac = |shown: String| {
            let mut words = shown.split_whitespace();
            words.find(|word| *word == "link/ether").and_then(|_| words.next()).unwrap().to_owned()
        };
        let far = mac(self.within("customer", "ip -o link show eth0"));
        for address in ["203.0.113.80", "2001:db8:80::1", "10.20.0.1", "10.8.0.1"] {
            run(&format!("ip neigh add {address} lladdr {far} dev vpn-acme nud permanent"));
        }
        let own = mac(run("ip -o link show vpn-acme"));
        for address in ["10.8.0.2", "fd08::2"] {
            let line = format!("ip neigh add {address} lladdr {own} dev eth0 nud permanent");
            self.within("customer", &line);
        }
        run("ip link set vpn-acme group 5310");
    }

    /// Reads, decides and performs, until nothing is left to do.
    pub(crate) async fn converge(&mut self) -> Decision {
        let handle = Handle::connect().unwrap();
        for _ in 0..6 {
            let decision = self.decide(&handle).await;
            self.state = decision.state.clone();
            let actions: Vec<Action> =
                decision.actions.iter().filter(|action| is_here(action)).cloned().collect();
            if actions.is_empty() {
                return decision;
            }
            for action in actions {
                act::perform(&action, &handle).await.unwrap();
                if let Action::ReplaceTable(text) = action {
                    let listed = nft::table().await.unwrap();
                    self.state.applied = Some((text, listed.unwrap()));
                }
            }
        }
        panic!("it does not converge: {:#?}", self.decide(&handle).await.actions);
    }

    async fn decide(&self, handle: &Handle) -> Decision {
        let evidence = Evidence {
            network: Reading::Known(netlink::read(handle).await.unwrap()),
            table: nft::table().await.into(),
            units: Reading::Known(Vec::new()),
        };
        let input = Input {
            config: &self.config,
            intent: &self.intent,
            profiles: &self.profiles,
            attended: None,
            evidence: &evidence,
            now: Clock::Kernel.now(),
        };
        decide(self.state.clone(), &input)
    }
}

fn is_here(action: &Action) -> bool {
    !matches!(action, Action::Filters { .. } | Action::StartUnit(_) | Action::StopUnit(_))
}

/// Runs a test in a thread of its own, since the namespace is the thread's.
pub(crate) fn in_a_box(test: impl AsyncFnOnce(World) + Send + 'static) {
    std::thread::spawn(move || {
        let world = World::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(test(world));
    })
    .join()
    .unwrap();
}
