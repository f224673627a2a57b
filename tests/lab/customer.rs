//! A customer: a VPN server, a private network behind it, and the one address under which all of that
//! asks the internet.
//!
//! WireGuard is wireguard-go, since this machine's kernel may have none; OpenVPN is Debian's. Both
//! servers may run at once. What a box gets is what a customer mails: a config file.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::internet::{Internet, address6};
use crate::namespace::{Namespace, Switch};
use crate::process::Spawned;
use crate::{ledger, tailnet, wait};

/// The private network's web server.
pub const PRIVATE: [&str; 2] = ["10.200.0.80", "fd20:200::80"];
/// The private network.
pub const PREFIXES: [&str; 2] = ["10.200.0.0/24", "fd20:200::/64"];
/// The box's own addresses in the WireGuard tunnel.
pub const WIREGUARD: [&str; 2] = ["10.200.1.2", "fd20:200:1::2"];
/// The WireGuard server's port.
pub const WIREGUARD_PORT: u16 = 51820;
/// The OpenVPN server's port.
pub const OPENVPN_PORT: u16 = 1194;

/// The kinds of VPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vpn {
    /// wireguard-go here, whatever the box has there.
    WireGuard,
    /// openvpn, over UDP, with certificates.
    OpenVpn,
}

impl Vpn {
    /// As a profile names it.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::WireGuard => "wireguard",
            Self::OpenVpn => "openvpn",
        }
    }

    /// The tunnel's interface at the customer's end.
    #[must_use]
    pub fn interface(self) -> &'static str {
        match self {
            Self::WireGuard => "wgs0",
            Self::OpenVpn => "ovpns0",
        }
    }
}

/// The customer.
#[derive(Debug)]
pub struct Customer {
    /// The host that is server, router and private network in one.
    pub host: Namespace,
    place: PathBuf,
    _web: Spawned,
    servers: Vec<(Vpn, Spawned)>,
}

impl Customer {
    /// A customer without a server yet.
    pub fn on(switch: &Switch, internet: &Internet) -> Result<Self> {
        let host = switch.host()?;
        let (place, _) = ledger::place("gv")?;
        let way = internet.way_for(host.address())?;
        let [v4, v6] = PRIVATE;
        host.sh(&format!(
            "{way}
            sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
            ip address add {v4}/32 dev lo
            ip address add {v6}/128 dev lo nodad
            nft -f - <<'END'
            table inet nat {{ chain out {{
                type nat hook postrouting priority srcnat
                oifname eth0 masquerade
            }}; }}
END"
        ))?
        .ok()
        .context("cannot make a customer")?;
        let web = host.spawn(&format!("exec {}/internet", tailnet::programs()?.display()))?;
        let customer = Self { host, place, _web: web, servers: Vec::new() };
        customer.make_keys()?;
        Ok(customer)
    }

    /// Its addresses of both families, as the internet and whoever is let out by it see them.
    pub fn addresses(&self) -> Result<[String; 2]> {
        Ok([self.host.address().to_owned(), address6(self.host.address())?])
    }

    /// Starts a server and waits until it has its interface. `more` are further options of OpenVPN's.
    pub fn serve(&mut self, vpn: Vpn, more: &str) -> Result<()> {
        ensure!(self.servers.iter().all(|(each, _)| *each != vpn), "{vpn:?} serves already");
        let script = match vpn {
            Vpn::WireGuard => WIREGUARD_SERVER.replace("PORT", &WIREGUARD_PORT.to_string()),
            Vpn::OpenVpn => {
                fs::write(self.place.join("more.conf"), more).context("the server's options")?;
                OPENVPN_SERVER.replace("PORT", &OPENVPN_PORT.to_string())
            }
        };
        // The control sockets of wireguard-go are named by the interface alone, whatever the network
        // namespace: each server has a folder for them that nobody else sees.
        let mut command = self.host.command("unshare");
        command.args(["--mount", "bash", "-c", &script]).current_dir(&self.place);
        command.stdin(std::process::Stdio::null());
        let log = fs::File::create(self.place.join(format!("{}.log", vpn.kind())))?;
        command.stdout(log.try_clone()?).stderr(log);
        let mut server = Spawned::start(&mut command)?;
        let up = format!("ip -o link show {} up | grep -q LOWER_UP", vpn.interface());
        wait::until_true("the VPN server", Duration::from_secs(300), || {
            ensure!(server.ended()?.is_none(), "it has ended: {}", self.log(vpn));
            let ready = match vpn {
                Vpn::WireGuard => self.place.join("ready").exists(),
                Vpn::OpenVpn => self.log(vpn).contains("Initialization Sequence Completed"),
            };
            Ok(ready && self.host.sh(&up)?.status == 0)
        })?;
        self.servers.push((vpn, server));
        Ok(())
    }

    /// Kills a server, as a power cut does: its interface goes, and nobody is told.
    pub fn kill(&mut self, vpn: Vpn) -> Result<()> {
        let at = self.servers.iter().position(|(each, _)| *each == vpn);
        drop(self.servers.remove(at.context("it does not serve")?));
        let _ = fs::remove_file(self.place.join("ready"));
        wait::until_true("its interface to go", Duration::from_secs(120), || {
            Ok(self.host.sh(&format!("ip link show {}", vpn.interface()))?.status != 0)
        })
    }

    /// Gives a server a program of its own, by name in its folder.
    pub fn script(&self, name: &str, text: &str) -> Result<()> {
        let path = self.place.join(name);
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    /// A file of its folder; empty if there is none yet.
    pub fn read(&self, name: &str) -> Result<String> {
        let path = self.place.join(name);
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            read => read.with_context(|| path.display().to_string()),
        }
    }

    /// What a server has said.
    #[must_use]
    pub fn log(&self, vpn: Vpn) -> String {
        fs::read_to_string(self.place.join(format!("{}.log", vpn.kind()))).unwrap_or_default()
    }

    /// The config file that the customer mails. WireGuard's has what wg-quick would act on.
    pub fn config(&self, vpn: Vpn, mtu: u32) -> Result<String> {
        let read = |name: &str| self.read(name).map(|text| text.trim_end().to_owned());
        let server = self.host.address();
        Ok(match vpn {
            Vpn::WireGuard => format!(
                "[Interface]\nPrivateKey = {}\nAddress = {}/32, {}/128\nMTU = {mtu}\n\
                 DNS = 10.200.0.53\n\n[Peer]\nPublicKey = {}\nAllowedIPs = 0.0.0.0/0, ::/0\n\
                 Endpoint = {server}:{WIREGUARD_PORT}\nPersistentKeepalive = 5\n",
                read("box.key")?,
                WIREGUARD[0],
                WIREGUARD[1],
                read("server.pub")?,
            ),
            Vpn::OpenVpn => format!(
                "client\ndev tun\nproto udp\nremote {server} {OPENVPN_PORT}\nnobind\n\
                 remote-cert-tls server\ntun-mtu {mtu}\nverb 3\n<ca>\n{}\n</ca>\n<cert>\n{}\n</cert>\n\
                 <key>\n{}\n</key>\n",
                read("ca.crt")?,
                read("box.crt")?,
                read("box.pem")?,
            ),
        })
    }

    fn make_keys(&self) -> Result<()> {
        let mut command = std::process::Command::new("bash");
        command.args(["-c", KEYS]).current_dir(&self.place);
        crate::process::run(command, b"", Duration::from_secs(300))?
            .ok()
            .context("cannot make keys")
            .map(drop)
    }
}

impl Drop for Customer {
    fn drop(&mut self) {
        self.servers.clear();
        ledger::leave(&self.place);
    }
}

const KEYS: &str = "
set -e
umask 077
for each in server box; do wg genkey >$each.key; wg pubkey <$each.key >$each.pub; done
request() {
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 -keyout $1.pem \\
        -subj /CN=$1 \"${@:2}\" 2>/dev/null
}
request ca -x509 -out ca.crt
for each in server:serverAuth box:clientAuth; do
    name=${each%:*}
    request $name -out $name.csr
    printf 'extendedKeyUsage=%s\\nkeyUsage=digitalSignature\\n' ${each#*:} >extensions
    openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.pem -CAcreateserial -days 30 \\
        -extfile extensions -out $name.crt 2>/dev/null
done
";

const WIREGUARD_SERVER: &str = "
set -e
mkdir -p /run/wireguard
mount -t tmpfs tmpfs /run/wireguard
WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD=1 LOG_LEVEL=error wireguard-go -f wgs0 &
until [ -S /run/wireguard/wgs0.sock ]; do sleep 0.05; done
wg setconf wgs0 <(echo \"[Interface]
PrivateKey = $(cat server.key)
ListenPort = PORT
[Peer]
PublicKey = $(cat box.pub)
AllowedIPs = 0.0.0.0/0, ::/0\")
ip address add 10.200.1.1/24 dev wgs0
ip address add fd20:200:1::1/64 dev wgs0 nodad
ip link set wgs0 mtu 1420 up
touch ready
wait
";

const OPENVPN_SERVER: &str = "
exec openvpn --dev ovpns0 --dev-type tun --proto udp --port PORT --topology subnet \\
    --server 10.200.2.0 255.255.255.0 --server-ipv6 fd20:200:2::/64 --duplicate-cn \\
    --ca ca.crt --cert server.crt --key server.pem --dh none --keepalive 5 20 --verb 3 \\
    --config more.conf
";
