//! A box that is an exit node, two devices that use it, a customer with a VPN, and an internet.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use lab::capture::Capture;
use lab::customer::{self, Customer, Vpn};
use lab::internet::{self, Internet, address6};
use lab::process::Output;
use lab::tailnet::{self, Device, Tailnet};
use lab::{AptRepo, Release, Switch, debian, wait};
use serde_json::Value;

use crate::guppy::Guppy;
use crate::traffic::Traffic;

/// For what takes as long as it takes, on a machine that has other things to do.
pub(crate) const LONG: Duration = Duration::from_secs(300);
/// For an answer that comes at once or not at all.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// The name of the box in the tailnet.
pub(crate) const BOX: &str = "guppy";
/// The customer's name.
pub(crate) const ACME: &str = "acme";
/// What an exit node is approved for.
const EXIT: [&str; 2] = ["0.0.0.0/0", "::/0"];
/// Programs of Debian's that the box gets besides our packages.
const DEBIAN: [&str; 4] = ["openvpn", "wireguard-tools", "wireguard-go", "conntrack"];

/// All of them.
pub(crate) struct World {
    pub(crate) guppy: Guppy,
    pub(crate) customer: Customer,
    pub(crate) tailnet: Tailnet,
    pub(crate) laptop: Device,
    pub(crate) tablet: Device,
    pub(crate) internet: Internet,
    pub(crate) repository: AptRepo,
    pub(crate) switch: Switch,
}

impl World {
    /// A box in the tailnet, advertised and approved as an exit node, without our packages. `more`
    /// are further packages of Debian's that its repository has.
    pub(crate) fn without_agent(
        release: Release,
        boot: impl FnOnce(Release, &Switch) -> Result<Guppy>,
        more: &[&str],
    ) -> Result<Self> {
        let switch = Switch::new()?;
        let mut debs: Vec<PathBuf> = lab::apt_repo::built()?;
        debs.extend(debian::packages(release, &[&DEBIAN, more].concat())?);
        let repository = AptRepo::serve(&switch, &debs)?;
        let internet = Internet::on(&switch)?;
        let tailnet = Tailnet::start(switch.host()?)?;
        let customer = Customer::on(&switch, &internet)?;
        let guppy = boot(release, &switch)?;
        let [laptop, tablet] = ["laptop", "tablet"].map(|name| {
            let host = switch.host()?;
            host.sh(&internet.way_for(host.address())?)?.ok()?;
            Device::join(&tailnet, host, name)
        });
        let it = Self {
            guppy,
            customer,
            tailnet,
            laptop: laptop?,
            tablet: tablet?,
            internet,
            repository,
            switch,
        };
        it.guppy.sh(&it.internet.way_for(it.guppy.address())?)?;
        it.guppy.sh(&format!(
            "echo '{}' >/etc/apt/sources.list.d/guppy.list && apt-get -qq update",
            it.repository.source()
        ))?;
        // The box's own lookups, tailscaled's among them, go to the switch, where nobody answers.
        it.guppy.sh("rm -f /etc/resolv.conf; echo nameserver 10.99.0.1 >/etc/resolv.conf")?;
        // As any exit node is told to by Tailscale's own instructions.
        it.guppy.sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        it.guppy.sh(&format!(
            "curl -sSf {} | tar -xC / && systemctl daemon-reload && systemctl enable --now tailscaled \
             && tailscale {} --hostname={BOX} --advertise-exit-node",
            it.tailnet.archive(),
            it.tailnet.up()
        ))?;
        it.tailnet.approve(BOX, &EXIT)?;
        Ok(it)
    }

    /// The same with our packages.
    pub(crate) fn new(release: Release) -> Result<Self> {
        Self::with(release, &[])
    }

    /// The same with further packages of Debian's in the repository.
    pub(crate) fn with(release: Release, more: &[&str]) -> Result<Self> {
        let it = Self::without_agent(release, Guppy::container, more)?;
        it.install()?;
        Ok(it)
    }

    /// A box with a profile that is up, whose customer the laptop reaches.
    pub(crate) fn up(release: Release, vpn: Vpn) -> Result<Self> {
        let mut it = Self::new(release)?;
        it.raise(vpn)?;
        Ok(it)
    }

    /// Installs our packages.
    pub(crate) fn install(&self) -> Result<()> {
        let packages = "guppy-exit-router openvpn wireguard-tools wireguard-go conntrack";
        self.guppy.apt(&format!("install -y {packages}")).context("cannot install the agent")?;
        self.until("the agent to be ready", |it| {
            Ok(it.guppy.try_sh("systemctl is-active guppy-exit-router.service")?.status == 0)
        })
    }

    /// Starts the customer's server, adds the customer and raises the tunnel; then the laptop uses
    /// the box as its exit node.
    pub(crate) fn raise(&mut self, vpn: Vpn) -> Result<()> {
        self.customer.serve(vpn, "")?;
        self.add_customer(vpn, 1420)?;
        let up = self.vpn(&format!("up {ACME} --wait-healthy --timeout 4min"))?;
        ensure!(of(&up, "/healthy") == true, "{up:#}");
        self.approve(&customer::PREFIXES)?;
        self.exit_by_box()?;
        self.until_egress(&self.customer.addresses()?)
    }

    /// The five lines of README: how a customer is added.
    pub(crate) fn add_customer(&self, vpn: Vpn, mtu: u32) -> Result<()> {
        self.profile(vpn.kind(), &format!("prefixes = {:?}\n", customer::PREFIXES))?;
        self.secret(&self.customer.config(vpn, mtu)?)
    }

    /// Writes the profile of the customer, with a probe that shows the egress.
    pub(crate) fn profile(&self, kind: &str, more: &str) -> Result<()> {
        let probe = format!("probe = {{ http = \"http://{}/\" }}\n", internet::PROBE[0]);
        let text = format!(
            "kind = \"{kind}\"\n{more}{}",
            if more.contains("probe") { "" } else { &probe }
        );
        self.guppy.write(&format!("/etc/guppy/vpn.d/{ACME}.toml"), &text)
    }

    /// Gives the box what the customer has mailed.
    pub(crate) fn secret(&self, config: &str) -> Result<()> {
        let path = format!("/etc/credstore/guppy-vpn-{ACME}.conf");
        self.guppy.sh("mkdir -p -m 700 /etc/credstore")?;
        self.guppy.write(&path, config)?;
        self.guppy.sh(&format!("chmod 600 {path}")).map(drop)
    }

    /// Approves what an exit node wants, and these prefixes.
    pub(crate) fn approve(&self, prefixes: &[&str]) -> Result<()> {
        self.tailnet.approve(BOX, &[&EXIT, prefixes].concat())
    }

    /// The laptop takes the box as its exit node, once it is offered as one.
    pub(crate) fn exit_by_box(&self) -> Result<()> {
        self.laptop.tailscale("set --accept-routes")?;
        self.until("the exit node to be offered", |it| {
            Ok(it.laptop.tailscale(&format!("set --exit-node={BOX}")).is_ok())
        })?;
        // The command returns before both families have their routes, and a socket that is made
        // meanwhile keeps its source address.
        let [v4, v6] = internet::PEERS;
        self.until("the laptop's routes", |it| {
            let routes =
                it.laptop.host.sh(&format!("ip route get {v4}; ip route get {v6}"))?.stdout;
            Ok(routes.matches("dev tailscale0").count() == 2)
        })
    }

    /// The laptop goes its own way again.
    pub(crate) fn own_exit(&self) -> Result<()> {
        self.laptop.tailscale("set --exit-node=").map(drop)
    }

    /// `guppy vpn WORDS --json`: its document.
    pub(crate) fn vpn(&self, words: &str) -> Result<Value> {
        let out = self.try_vpn(words)?;
        ensure!(
            out.status == 0,
            "guppy vpn {words}: exit {}: {}{}",
            out.status,
            out.stdout,
            out.stderr
        );
        serde_json::from_str(&out.stdout)
            .with_context(|| format!("guppy vpn {words}: {}", out.stdout))
    }

    /// The same however it ends.
    pub(crate) fn try_vpn(&self, words: &str) -> Result<Output> {
        self.guppy.try_sh(&format!("guppy vpn {words} --json"))
    }

    /// `guppy vpn status --json`.
    pub(crate) fn status(&self) -> Result<Value> {
        self.vpn("status")
    }

    /// Waits for a condition.
    pub(crate) fn until(
        &self,
        what: &str,
        mut look: impl FnMut(&Self) -> Result<bool>,
    ) -> Result<()> {
        let ended = wait::until_true(what, LONG, || look(self));
        ended.map_err(|error| error.context(self.story()))
    }

    /// What a person would look at when something is wrong.
    pub(crate) fn story(&self) -> String {
        let mut text = String::new();
        for command in [
            "guppy vpn status",
            "ip rule",
            "ip -6 rule",
            "ip route show table 5310",
            "ip -6 route show table 5310",
            "ip -brief address",
            "journalctl --no-pager -o short-monotonic -n 60 -u guppy-exit-router -u 'guppy-vpn@*'",
        ] {
            let out = self.guppy.try_sh(command);
            let said =
                out.map_or_else(|error| format!("{error:#}"), |out| out.stdout + &out.stderr);
            // A string takes whatever is written to it.
            let _ = writeln!(text, "$ {command}\n{said}");
        }
        text
    }

    /// Waits until nothing differs from what the box's agent wants to hold.
    pub(crate) fn until_converged(&self) -> Result<()> {
        self.until("the kernel to be as planned", |it| {
            let plan = it.try_vpn("plan")?;
            let plan: Value = serde_json::from_str(&plan.stdout).unwrap_or_default();
            Ok(of(&plan, "/actions").as_array().is_some_and(Vec::is_empty))
        })
    }

    /// Waits until both layers that every kernel has keep peers from the uplink, as the kernel says.
    pub(crate) fn until_layers(&self) -> Result<()> {
        let hold = "nft list chain inet guppy_exit_router forward | grep -q tailscale0 &&
             test $({ ip rule; ip -6 rule; } | grep -c '^53[12]0:.*iif tailscale0 ') = 4";
        self.until("both layers to be there", |it| Ok(it.guppy.try_sh(hold)?.status == 0))
    }

    /// What the internet sees of the laptop, per family; nothing where no answer comes.
    pub(crate) fn egress(&self) -> Result<[Option<String>; 2]> {
        let [v4, v6] = internet::PEERS.map(|to| self.laptop.get(&url(to), SOON));
        Ok([v4?, v6?])
    }

    /// Waits until the internet sees the laptop under these addresses.
    pub(crate) fn until_egress(&self, addresses: &[String; 2]) -> Result<()> {
        self.until(&format!("the laptop to be seen as {addresses:?}"), |it| {
            Ok(it.egress()? == addresses.clone().map(Some))
        })
    }

    /// What the internet sees of the box itself.
    pub(crate) fn own_egress(&self) -> Result<[Option<String>; 2]> {
        let ask = |to| tailnet::get(&url(to), SOON, |command| self.guppy.try_sh(command));
        let [v4, v6] = internet::OWN.map(ask);
        Ok([v4?, v6?])
    }

    /// The box's own requests show its own addresses.
    pub(crate) fn own_way_is_untouched(&self) -> Result<()> {
        let (seen, own) = (self.own_egress()?, self.own_addresses()?.map(Some));
        if seen != own {
            bail!("the box is seen as {seen:?}, not {own:?}\n{}", self.story());
        }
        Ok(())
    }

    /// The addresses that are the box's own.
    pub(crate) fn own_addresses(&self) -> Result<[String; 2]> {
        Ok([self.guppy.address().to_owned(), address6(self.guppy.address())?])
    }

    /// The laptop's own.
    pub(crate) fn laptop_addresses(&self) -> Result<[String; 2]> {
        let own = self.laptop.host.address();
        Ok([own.to_owned(), address6(own)?])
    }

    /// The judge of what leaves the box by its uplink. What it may send for itself goes to hosts and
    /// ports that no peer of these stories ever asks for.
    pub(crate) fn judge(&self) -> Result<Capture> {
        let [internet4, internet6] = internet::OWN;
        let (wireguard, openvpn) = (customer::WIREGUARD_PORT, customer::OPENVPN_PORT);
        // Where its client is gone the kernel refuses what still comes: to a server, from the port that
        // what it quotes has come from.
        let unreachable = "icmp[0] == 3 and icmp[1] == 3";
        let refused =
            format!("{unreachable} and (icmp[28:2] == {wireguard} or icmp[28:2] == {openvpn})");
        let mut allowed = format!(
            "dst host {} or dst host {internet4} or dst host {internet6} or \
             (dst host {} and (udp dst port {wireguard} or udp dst port {openvpn} or ({refused})))",
            self.tailnet.address(),
            self.customer.host.address(),
        );
        // Between the tailnet's members: WireGuard, and that tailscaled is gone.
        for device in [&self.laptop, &self.tablet] {
            let v4 = device.host.address();
            allowed += &format!(
                " or (dst host {v4} and (udp or ({unreachable}))) or \
                 (dst host {} and (udp or (icmp6 and ip6[40] == 1)))",
                address6(v4)?
            );
        }
        // Tailscale asks the gateway to open a port for it (net/portmapper), and where the way back to a
        // peer is gone the kernel refuses what tailscaled's own service address has sent there.
        let [gateway, _] = self.internet.gateways()?;
        allowed += &format!(
            " or (dst host {gateway} and (udp dst port 5351 or udp dst port 1900)) or \
             (dst host 100.100.100.100 and icmp[0] == 3 and icmp[1] == 1)"
        );
        // Where no name resolves, tailscaled asks Tailscale's relays for one (net/dnsfallback).
        let peers = internet::PEERS.map(|peer| format!("dst host {peer}")).join(" or ");
        allowed += &format!(" or (tcp dst port 443 and not ({peers}))");
        // A host is known on the switch by what it sends.
        self.guppy.sh("ping -c 1 -w 60 10.99.0.1")?;
        Capture::of(&self.switch, &self.guppy.mac()?, &allowed)
    }

    /// What the judge has seen since he was last asked.
    pub(crate) fn leaks(&self, judge: &mut Capture) -> Result<Vec<String>> {
        judge.leaks(|mark| self.guppy.sh(&format!("bash -c '{mark}'")).map(drop))
    }

    /// CPU seconds that the agent has used since its start.
    pub(crate) fn cpu_seconds(&self) -> Result<f64> {
        let text = self.guppy.sh("p=$(systemctl show -P MainPID guppy-exit-router.service)
             awk '{ print $14 + $15 }' /proc/$p/stat; getconf CLK_TCK")?;
        let (ticks, second) = text.split_once('\n').context("no times of the agent")?;
        Ok(ticks.parse::<f64>()? / second.parse::<f64>()?)
    }

    /// Ten thousand changes of the rules, none of them ours.
    pub(crate) fn rule_events(&self) -> Result<()> {
        let script = "seq 5000 | sed 's/.*/rule add pref 20000 from 192.0.2.1 lookup &/' >/tmp/add
             sed s/add/del/ /tmp/add >/tmp/del
             ip -batch /tmp/add && ip -batch /tmp/del";
        self.guppy.sh(script).map(drop)
    }

    /// A peer that sends every kind of packet, over both families, and does not stop.
    pub(crate) fn traffic(&self) -> Result<Traffic> {
        Traffic::start(&self.laptop, &internet::PEERS)
    }
}

/// A web server's address as a URL.
pub(crate) fn url(address: &str) -> String {
    if address.contains(':') {
        format!("http://[{address}]/")
    } else {
        format!("http://{address}/")
    }
}

/// A field of a document by its JSON pointer (RFC 6901); null where there is none.
pub(crate) fn of<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    document.pointer(pointer).unwrap_or(&NULL)
}
