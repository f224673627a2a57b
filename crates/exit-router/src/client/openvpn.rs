//! Kind `openvpn`: OpenVPN 2.6 without a single capability, on a device that was made for it. It is
//! told to touch neither addresses nor routes, and what its server pushes is sieved: what is needed to
//! talk gets through, and an address that is this box's own does not.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use service::notify;
use service::signals::{Signal, Signals};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixListener;
use tokio::net::unix::OwnedWriteHalf;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tracing::{info, warn};

use super::Ended;
use super::device::Device;
use super::openvpn_config::OpenVpn;
use super::openvpn_management::{Said, parse, quoted, with_code};
use super::refusals::Refusals;
use crate::profile::Profile;
use crate::sense::hints::Hints;

/// The only options of a server's that get through (openvpn(8), --pull-filter): the first that
/// matches counts.
const TAKEN: [&str; 11] = [
    "ifconfig ",
    "ifconfig-ipv6 ",
    "ping ",
    "ping-restart ",
    "peer-id ",
    "cipher ",
    "auth-token ",
    "topology ",
    "key-derivation ",
    "protocol-flags ",
    "explicit-exit-notify",
];
/// Telling the server goodbye.
const END_AT_MOST: Duration = Duration::from_secs(5);
/// A line of the management interface.
const LINE_AT_MOST: usize = 64 << 10;

/// Runs until it is told to end.
pub(super) async fn run(
    name: &str,
    device: &Device,
    profile: &Profile,
    refusals: Refusals,
) -> Ended {
    match Client::start(name, device, profile, refusals).await {
        Ok(mut client) => {
            let ended = client.go_on().await;
            client.end().await;
            ended
        }
        Err(ended) => ended,
    }
}

struct Client<'a> {
    device: &'a Device,
    config: OpenVpn,
    refusals: Refusals,
    login: Option<(String, String)>,
    code: Option<String>,
    child: Child,
    lines: BufReader<tokio::net::unix::OwnedReadHalf>,
    commands: OwnedWriteHalf,
    addresses: Vec<std::net::IpAddr>,
}

impl<'a> Client<'a> {
    async fn start(
        name: &str,
        device: &'a Device,
        profile: &Profile,
        refusals: Refusals,
    ) -> Result<Self, Ended> {
        let text = super::config(name)?;
        let config = OpenVpn::parse(&text).map_err(Ended::Config)?;
        if !config.ignored.is_empty() {
            info!("ignored, since this box's own stays as it is: {}", config.ignored.join(", "));
        }
        let login = login(name, &config)?;
        let code = super::secret(name, super::CODE).map_err(Ended::Config)?;
        let code = code.map(|code| code.trim().to_owned()).filter(|_| profile.interactive);
        make_device(device).await.map_err(Ended::Again)?;
        let folder = std::env::var_os("RUNTIME_DIRECTORY").unwrap_or("/run/guppy-vpn".into());
        let socket = PathBuf::from(folder).join(format!("{}.sock", device.name()));
        let _ = std::fs::remove_file(&socket);
        let failed = |error: std::io::Error| Ended::Again(format!("{}: {error}", socket.display()));
        let listener = UnixListener::bind(&socket).map_err(failed)?;
        let mut child = spawn(device.name(), &socket, &config.text).await.map_err(Ended::Again)?;
        let connection = tokio::select! {
            connection = listener.accept() => connection.map_err(failed)?.0,
            status = child.wait() => {
                let status = status.map(|status| status.to_string()).unwrap_or_default();
                let what = "openvpn does not take the config: see the lines above";
                return Err(Ended::Config(format!("{what} ({status})")));
            }
        };
        let (lines, commands) = connection.into_split();
        let lines = BufReader::new(lines);
        let addresses = Vec::new();
        Ok(Self { device, config, refusals, login, code, child, lines, commands, addresses })
    }

    async fn go_on(&mut self) -> Ended {
        let (mut hints, mut signals) = match (Hints::of_links(), Signals::new()) {
            (Ok(hints), Ok(signals)) => (hints, signals),
            (Err(error), _) | (_, Err(error)) => return Ended::Again(error.to_string()),
        };
        // It is read on where it was left when something else came first.
        let mut line = Vec::new();
        loop {
            let step = tokio::select! {
                read = self.lines.read_until(b'\n', &mut line) => match read {
                    Ok(0) | Err(_) => Err(Ended::Again("openvpn has ended".to_owned())),
                    Ok(_) if line.len() > LINE_AT_MOST => {
                        Err(Ended::Again("openvpn says too much".to_owned()))
                    }
                    Ok(_) => {
                        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                        line.clear();
                        self.heard(&text).await
                    }
                },
                heard = hints.next() => match heard {
                    Ok(()) => self.mend().await,
                    Err(error) => Err(Ended::Again(error.to_string())),
                },
                signal = signals.next() => match signal {
                    Signal::Stop => Err(Ended::Stopped),
                    Signal::Reload => Ok(()),
                },
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn heard(&mut self, line: &str) -> Result<(), Ended> {
        match parse(line) {
            None => Ok(()),
            Some(Said::Hold) => self.say("state on\nhold release\n").await,
            Some(Said::WantsAuth { challenge }) => {
                let Some((name, password)) = &self.login else {
                    let what = "the server wants a name and a password: put them, a line each, as \
                                guppy-vpn-NAME.auth beside the config";
                    return Err(Ended::Config(what.to_owned()));
                };
                let password = match &self.code {
                    Some(code) => with_code(password, code, challenge),
                    None => password.clone(),
                };
                let (name, password) = (quoted(name), quoted(&password));
                self.say(&format!("username \"Auth\" {name}\npassword \"Auth\" {password}\n")).await
            }
            Some(Said::WantsElse(what)) => Err(Ended::Config(format!(
                "openvpn wants {what}, which nobody has: put the key without a passphrase into the \
                 config"
            ))),
            Some(Said::Refused(why)) => {
                self.refusals.count().map_err(Ended::Again)?;
                let why = format!("the customer's server refuses the login: {why}");
                if self.refusals.is_parked() {
                    return Err(Ended::Parked(why));
                }
                Err(Ended::Again(why))
            }
            Some(Said::Connected(addresses)) => {
                if addresses.is_empty() {
                    return Err(Ended::Again("the server has given no address".to_owned()));
                }
                self.refusals.clear().map_err(Ended::Again)?;
                self.addresses = addresses;
                self.device
                    .set_up(&self.addresses, self.config.mtu)
                    .await
                    .map_err(Ended::Config)?;
                info!(guppy_event = "vpn-connected", "{} is connected", self.device.name());
                notify::ready();
                notify::status(&format!("{} is up", self.device.name()));
                Ok(())
            }
            Some(Said::At(what)) => {
                notify::status(&what);
                Ok(())
            }
        }
    }

    async fn say(&mut self, commands: &str) -> Result<(), Ended> {
        self.commands
            .write_all(commands.as_bytes())
            .await
            .map_err(|error| Ended::Again(format!("openvpn: {error}")))
    }

    /// The device is as it was left, or made anew with a new client on it.
    async fn mend(&mut self) -> Result<(), Ended> {
        if self.addresses.is_empty() {
            return Ok(());
        }
        match self.device.find().await {
            Ok(Some(_)) => {
                if let Err(why) = self.device.set_up(&self.addresses, self.config.mtu).await {
                    warn!("{}: {why}", self.device.name());
                }
                Ok(())
            }
            Ok(None) => Err(Ended::Again(format!("{} is gone", self.device.name()))),
            Err(why) => Err(Ended::Again(why)),
        }
    }

    async fn end(&mut self) {
        let _ = self.say("signal SIGTERM\n").await;
        if timeout(END_AT_MOST, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }
}

/// Name and password, a line each.
fn login(name: &str, config: &OpenVpn) -> Result<Option<(String, String)>, Ended> {
    let Some(text) = super::secret(name, super::AUTH).map_err(Ended::Config)? else {
        if config.wants_auth {
            let what = "the config says auth-user-pass: put name and password, a line each, as \
                        guppy-vpn-NAME.auth beside it";
            return Err(Ended::Config(what.to_owned()));
        }
        return Ok(None);
    };
    let mut lines = text.lines();
    match (lines.next(), lines.next()) {
        (Some(name), Some(password)) if !name.is_empty() && !password.is_empty() => {
            Ok(Some((name.to_owned(), password.to_owned())))
        }
        _ => {
            let what = "guppy-vpn-NAME.auth: it needs a name in its first line and a password in its \
                        second";
            Err(Ended::Config(what.to_owned()))
        }
    }
}

/// A device that outlives the client, and that its user may open without any capability.
async fn make_device(device: &Device) -> Result<(), String> {
    if device.find().await?.is_some() {
        return Ok(());
    }
    let user = rustix::process::getuid().as_raw().to_string();
    let arguments = ["tuntap", "add", "dev", device.name(), "mode", "tun", "user", &user];
    let output = Command::new("/usr/sbin/ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| format!("/usr/sbin/ip: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", arguments.join(" "), said.trim()))
}

/// Its config goes in by stdin; what it has to say is in the journal under this unit.
async fn spawn(name: &str, socket: &Path, config: &str) -> Result<Child, String> {
    let mut command = Command::new("/usr/bin/setpriv");
    command
        .args(["--ambient-caps=-all", "--inh-caps=-all", "--no-new-privs"])
        .args(["/usr/sbin/openvpn", "--config", "stdin"])
        .args(["--dev", name, "--dev-type", "tun", "--disable-dco"])
        .args(["--ifconfig-noexec", "--route-noexec", "--script-security", "0"])
        .args(["--auth-nocache", "--auth-retry", "none", "--management-query-passwords"])
        .args(["--management-hold", "--management-client", "--management"])
        .arg(socket)
        .args(["unix", "--suppress-timestamps", "--verb", "1"]);
    for option in TAKEN {
        command.args(["--pull-filter", "accept", option]);
    }
    command.args(["--pull-filter", "ignore", ""]);
    let mut child = command
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("/usr/bin/setpriv: {error}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(config.as_bytes()).await.map_err(|error| format!("openvpn: {error}"))?;
    }
    Ok(child)
}
