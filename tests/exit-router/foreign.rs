//! Other programs and people that have a say in a box's packets: each is named in status, and
//! survived or refused. Nothing leaks meanwhile.

use anyhow::{Context as _, Result, ensure};
use lab::capture::Capture;
use lab::customer::Vpn;
use lab::{Release, say, scenario};

use crate::traffic::{Traffic, kinds};
use crate::world::{ACME, World, of};

struct Watched {
    it: World,
    judge: Capture,
    traffic: Traffic,
}

impl Watched {
    fn new(more: &[&str]) -> Result<Self> {
        let mut it = World::with(Release::Trixie, more)?;
        it.raise(Vpn::WireGuard)?;
        let judge = it.judge()?;
        let mut traffic = it.traffic()?;
        traffic.until_answered(&kinds(&["v4", "v6"]))?;
        Ok(Self { it, judge, traffic })
    }

    /// Runs it; packets go on, none leaks.
    fn meets(&mut self, shell: &str) -> Result<()> {
        self.it.guppy.sh(shell)?;
        self.traffic.until_sent(&kinds(&["v4", "v6"]))?;
        self.closed(shell)
    }

    fn closed(&mut self, what: &str) -> Result<()> {
        let leaks = self.it.leaks(&mut self.judge)?;
        ensure!(leaks.is_empty(), "{what}: {leaks:#?}");
        Ok(())
    }

    /// The customer is reached over both families.
    fn works(&mut self, what: &str) -> Result<()> {
        let answered = self.traffic.until_answered(&kinds(&["v4", "v6"]));
        answered.with_context(|| self.it.story()).with_context(|| what.to_owned())?;
        self.closed(what)
    }

    /// Status names it by this word.
    fn named(&self, word: &str) -> Result<()> {
        self.it.until(&format!("status to name {word:?}"), |it| Ok(foreign(it)?.contains(word)))?;
        say(format_args!("named: {}", foreign(&self.it)?));
        Ok(())
    }

    fn nothing_is_named(&self) -> Result<()> {
        self.it.until("status to name nothing", |it| {
            Ok(of(&it.status()?, "/foreign").as_array().is_some_and(Vec::is_empty))
        })
    }
}

fn foreign(it: &World) -> Result<String> {
    Ok(of(&it.status()?, "/foreign").to_string())
}

#[test]
fn routes_rules_and_switches_of_others_are_survived() {
    scenario(|| {
        let mut it = Watched::new(&[])?;
        it.nothing_is_named()?;

        // What wg-quick does without Table=off: it lands before tailscaled's rules.
        it.meets(
            "ip route add default via $(ip route show default | awk '{ print $3 }') dev eth0 table 51820
             ip rule add not fwmark 51820 table 51820
             ip rule add table main suppress_prefixlength 0",
        )?;
        it.named("51820")?;
        it.meets(
            "ip rule del not fwmark 51820 table 51820; ip rule del table main suppress_prefixlength 0
             ip route flush table 51820",
        )?;
        it.works("without wg-quick's rules")?;
        it.nothing_is_named()?;

        it.meets(
            "for each in all default eth0 tailscale0 vpn-acme; do
                 sysctl -qw net.ipv4.conf.$each.rp_filter=1
             done",
        )?;
        it.works("with a strict rp_filter")?;
        it.it.until("the probe to answer", |it| Ok(of(&it.status()?, "/healthy") == true))?;

        it.meets("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0")?;
        it.named("forward")?;
        it.meets("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
        it.works("with forwarding on again")?;

        // tailscaled repairs its IPv4 rules alone, and at its next start all.
        it.meets("ip rule del pref 5270")?;
        it.works("tailscaled's rule is repaired")?;
        it.meets("tailscale set --netfilter-mode=off")?;
        it.works("--netfilter-mode=off")?;
        it.meets("tailscale set --netfilter-mode=on; systemctl restart tailscaled")?;
        it.works("--netfilter-mode=on")?;
        it.meets(
            "echo TS_DEBUG_FIREWALL_MODE=nftables >>/etc/default/tailscaled
             systemctl restart tailscaled",
        )?;
        it.works("tailscaled with nftables")?;
        networkd(&mut it)
    });
}

/// It removes rules that it did not make, unless told otherwise; the agent is not there to mend it.
fn networkd(it: &mut Watched) -> Result<()> {
    // ip(8) takes a protocol for rules too, and heeds it only when it flushes.
    let rules = "{ ip rule; ip -6 rule; } | grep 'proto 173'
                 ip route show table 5310; ip -6 route show table 5310";
    let before = it.it.guppy.sh(rules)?;
    it.it.guppy.sh("systemctl stop guppy-exit-router.service")?;
    it.it.guppy.write(
        "/etc/systemd/network/10-eth0.network",
        "[Match]\nName=eth0\n[Network]\nKeepConfiguration=yes\nDHCP=no\nIPv6AcceptRA=no\n\
         [RoutingPolicyRule]\nFrom=192.0.2.7\nTable=77\nPriority=7777\n",
    )?;
    it.meets("systemctl restart systemd-networkd; networkctl reload")?;
    it.it.until("networkd's own rule", |it| Ok(it.guppy.sh("ip rule")?.contains("7777")))?;
    let after = it.it.guppy.sh(rules)?;
    ensure!(after == before, "networkd has changed\n{before}\nto\n{after}");
    it.it.guppy.sh("systemctl start guppy-exit-router.service")?;
    it.works("networkd restarted")
}

#[test]
fn docker_and_ufw_are_survived_and_firewalld_is_named() {
    scenario(|| {
        let mut it = Watched::new(&["ufw", "firewalld"])?;
        it.meets("systemctl start docker.service")?;
        it.works("docker started")?;
        it.meets("systemctl restart docker.service")?;
        it.works("docker restarted")?;
        it.meets("systemctl stop docker.service docker.socket")?;

        it.it.guppy.apt("install -y ufw")?;
        it.meets("ufw --force enable && ufw reload")?;
        it.works("ufw enabled")?;
        it.meets("ufw --force disable")?;
        it.works("ufw disabled")?;

        // Its last word on forwarded packets is no, whatever the others say.
        it.it.guppy.apt("install -y firewalld")?;
        it.meets("systemctl start firewalld.service")?;
        it.named("firewalld")?;
        it.meets(
            "sed -i 's/^IPv6_rpfilter=.*/IPv6_rpfilter=no/' /etc/firewalld/firewalld.conf
             grep -q '^IPv6_rpfilter=no' /etc/firewalld/firewalld.conf
             systemctl restart firewalld.service
             firewall-cmd --zone=trusted --add-interface=tailscale0
             firewall-cmd --zone=trusted --add-interface=vpn-acme
             firewall-cmd --zone=trusted --add-forward || true",
        )?;
        it.works("firewalld told to trust both")?;
        it.meets("firewall-cmd --reload")?;
        it.meets("systemctl stop firewalld.service")?;
        it.works("firewalld stopped")
    });
}

#[test]
fn tailscale_without_a_device_is_refused_aloud() {
    scenario(|| {
        let mut it = World::new(Release::Trixie)?;
        it.customer.serve(Vpn::WireGuard, "")?;
        it.add_customer(Vpn::WireGuard, 1420)?;
        it.guppy.sh(
            "sed -i 's/^FLAGS=.*/FLAGS=\"--no-logs-no-support --tun=userspace-networking\"/' \
                 /etc/default/tailscaled
             systemctl restart tailscaled",
        )?;
        it.until("status to name it", |it| Ok(foreign(it)?.contains("userspace-networking")))?;
        let refused = it.try_vpn(&format!("up {ACME}"))?;
        ensure!(refused.status == 4, "{refused:?}");
        ensure!(
            refused.stderr.contains("userspace-networking")
                || refused.stdout.contains("userspace-networking"),
            "{refused:?}"
        );
        let doctor = it.guppy.try_sh("guppy doctor")?;
        ensure!(doctor.status == 1 && doctor.stdout.contains("userspace-networking"), "{doctor:?}");
        Ok(())
    });
}
