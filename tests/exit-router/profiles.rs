//! Profiles that are wrong, servers that refuse or lie, and secrets that stay where they are.

use anyhow::{Context as _, Result, ensure};
use lab::customer::Vpn;
use lab::{Release, say, scenario};

use crate::world::{ACME, World, of};

const PATH: &str = "/etc/guppy/vpn.d/acme.toml";
const PROBE: &str = "probe = { icmp = \"10.200.0.80\" }";

#[test]
fn a_bad_profile_is_refused_with_file_line_value_and_remedy() {
    scenario(|| {
        let it = World::new(Release::Trixie)?;
        let cases = [
            (format!("kind = \"carrier-pigeon\"\n{PROBE}\n"), 1, "carrier-pigeon"),
            (format!("kind = \"wireguard\"\nprefix = [\"10.0.0.0/8\"]\n{PROBE}\n"), 2, "prefix"),
            (
                format!("kind = \"wireguard\"\nprefixes = [\"10.0.0.0/33\"]\n{PROBE}\n"),
                2,
                "10.0.0.0/33",
            ),
            ("kind = \"wireguard\"\nprobe = { icmp = \"nowhere\" }\n".to_owned(), 2, "nowhere"),
            (format!("kind = \"unit\"\ninterface = \"eth0/1\"\n{PROBE}\n"), 2, "eth0/1"),
        ];
        for (text, line, value) in cases {
            it.guppy.write(PATH, &text)?;
            let list = it.vpn("list")?;
            let error = of(&list, "/profiles/0/error").as_str().context(text)?.to_owned();
            for part in [PATH, &format!(":{line}"), value] {
                ensure!(error.contains(part), "no {part:?} in {error:?}");
            }
            ensure!(it.try_vpn(&format!("up {ACME}"))?.status != 0, "taken: {error}");
        }

        // Whoever may write a profile decides where the peers' packets go.
        it.guppy.write(PATH, &format!("kind = \"wireguard\"\n{PROBE}\n"))?;
        it.guppy.sh(&format!("chmod 666 {PATH}"))?;
        let list = it.vpn("list")?;
        ensure!(
            of(&list, "/profiles/0/error").as_str().is_some_and(|error| error.contains("chmod")),
            "{list:#}"
        );
        it.guppy.sh(&format!("chmod 644 {PATH}"))?;

        // What would run programs as root, or take the box's own routes.
        let config = it.customer.config(Vpn::WireGuard, 1420)?;
        refuses(
            &it,
            "wireguard",
            &config.replace("DNS =", "PostUp = touch /run/owned\nDNS ="),
            "PostUp",
        )?;
        let config = it.customer.config(Vpn::OpenVpn, 1420)?;
        for option in ["up /bin/sh", "plugin /tmp/x.so", "script-security 2", "config /etc/shadow"]
        {
            refuses(
                &it,
                "openvpn",
                &format!("{config}{option}\n"),
                option.split(' ').next().unwrap_or_default(),
            )?;
        }
        ensure!(it.guppy.try_sh("test -e /run/owned")?.status != 0, "PostUp has run");
        it.own_way_is_untouched()
    });
}

/// The client ends with a reason that names the option and its line, and no key.
fn refuses(it: &World, kind: &str, config: &str, option: &str) -> Result<()> {
    it.profile(kind, "")?;
    it.secret(config)?;
    it.try_vpn(&format!("up {ACME}"))?;
    it.until(&format!("{option} to be refused"), |it| {
        let status = it.status()?;
        let detail = of(&status, "/detail").as_str().unwrap_or_default();
        Ok(of(&status, "/state") == "failed" && detail.contains(option))
    })?;
    it.vpn("down").map(drop)
}

#[test]
fn two_refusals_of_the_password_park_a_profile() {
    scenario(|| {
        let mut it = World::new(Release::Trixie)?;
        // A server that counts who asks, and refuses.
        let script = "script-security 2\nauth-user-pass-verify ./refuse via-file\n";
        it.customer.script("refuse", "#!/bin/sh\necho asked >>asked\nexit 1\n")?;
        it.customer.serve(Vpn::OpenVpn, script)?;
        it.add_customer(Vpn::OpenVpn, 1420)?;
        it.guppy
            .write(&format!("/etc/credstore/guppy-vpn-{ACME}.auth"), "alice\nnot-the-password\n")?;
        it.guppy.sh(&format!("chmod 600 /etc/credstore/guppy-vpn-{ACME}.auth"))?;
        let config = it.customer.config(Vpn::OpenVpn, 1420)?;
        it.secret(&format!("{config}auth-user-pass\n"))?;
        for (time, most) in [(1, 2), (2, 4)] {
            it.try_vpn(&format!("up {ACME}"))?;
            it.until("the profile to be parked", |it| Ok(of(&it.status()?, "/state") == "parked"))?;
            let asked = it.customer.read("asked")?.lines().count();
            ensure!(asked <= most && asked >= time, "{asked} tries after {time} times `up`");
            let status = it.status()?;
            let detail = of(&status, "/detail").as_str().unwrap_or_default().to_owned();
            say(format_args!("parked after {asked} tries: {detail}"));
            ensure!(detail.contains("guppy vpn up"), "{detail}");
        }
        secrets_stay(&it, "not-the-password")
    });
}

/// Not in any command line, environment or record.
fn secrets_stay(it: &World, secret: &str) -> Result<()> {
    // By a file, so that whoever looks for it does not show it.
    it.guppy.write("/root/pattern", &format!("{secret}\n"))?;
    let found = it.guppy.sh(
        "grep -l -a -F -f /root/pattern /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null || true
         journalctl --no-pager -o export | grep -a -F -f /root/pattern || true",
    )?;
    ensure!(found.is_empty(), "{secret} shows in {found}");
    Ok(())
}

#[test]
fn what_a_hostile_server_pushes_changes_nothing_of_the_boxs_own() {
    scenario(|| {
        let mut it = World::new(Release::Trixie)?;
        let routes = "ip route; ip -6 route show default; cat /etc/resolv.conf 2>/dev/null || true";
        let before = it.guppy.sh(routes)?;
        let push = "push \"redirect-gateway def1 ipv6\"\npush \"route 203.0.113.0 255.255.255.0\"\n\
                    push \"route-ipv6 2000::/3\"\npush \"dhcp-option DNS 10.200.0.53\"\n\
                    push \"block-outside-dns\"\npush \"tun-mtu 600\"\npush \"echo hello\"\n";
        it.customer.serve(Vpn::OpenVpn, push)?;
        it.add_customer(Vpn::OpenVpn, 1420)?;
        it.vpn(&format!("up {ACME} --wait-healthy --timeout 4min"))?;
        let after = it.guppy.sh(routes)?;
        ensure!(after == before, "from\n{before}\nto\n{after}");
        it.own_way_is_untouched()?;
        it.vpn("down")?;
        it.customer.kill(Vpn::OpenVpn)?;

        // An address that is the box's own, and one of the tailnet.
        for address in [it.guppy.address().to_owned(), "100.100.100.100".to_owned()] {
            let client = format!("ifconfig-push {address} 255.255.0.0\n");
            it.customer.script("client", &format!("#!/bin/sh\nprintf '{client}' >\"$1\"\n"))?;
            it.customer.serve(Vpn::OpenVpn, "script-security 2\nclient-connect ./client\n")?;
            it.try_vpn(&format!("up {ACME}"))?;
            it.until(&format!("{address} to be refused"), |it| {
                let status = it.status()?;
                let detail = of(&status, "/detail").as_str().unwrap_or_default();
                Ok(of(&status, "/state") != "up" && detail.contains(&address))
            })?;
            it.own_way_is_untouched()?;
            it.vpn("down")?;
            it.customer.kill(Vpn::OpenVpn)?;
        }
        Ok(())
    });
}
