//! OpenVPN 2.6: a program of somebody else's that talks to a hostile server, so it has no
//! capability, no script, no address to set and no route. The device is made for it, the addresses
//! that the server pushes are judged here, and what it asks and says comes over its management
//! socket (management-notes.txt of OpenVPN).

mod file;
mod login;
mod management;
mod options;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use service::signals::Signals;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::tunnel::{self, Tunnel};
use super::{CONNECT_AT_MOST, Context, Ended, ready, until_stopped};
use login::Login;
use management::{Said, parse};
use options::Options;

/// It says good-bye to the server, which else would take the session for open.
const END_AT_MOST: Duration = Duration::from_secs(5);

pub(super) async fn run(
    context: &Context,
    interactive: bool,
    signals: &mut Signals,
) -> Result<(), Ended> {
    let Context { interface, handle, refusals, runtime, .. } = context;
    if rustix::process::geteuid().is_root() {
        let why = "OpenVPN is not run as root: systemctl start guppy-vpn@NAME runs it as guppy-vpn";
        return Err(Ended::Wrong(why.to_owned()));
    }
    refusals.check()?;
    let options = read(context)?;
    let mut login = Login::new(context, &options, interactive)?;
    tunnel::clear(handle, interface).await?;
    make_device(interface).await?;
    // From here on, no program that is started has a capability (capabilities(7): ambient ones
    // alone outlive execve(2) of a user who is not root). This process keeps its own.
    rustix::thread::clear_ambient_capability_set()
        .map_err(|error| Ended::Failed(format!("ambient capabilities: {error}")))?;
    let tunnel = Tunnel::find(handle, interface).await?;
    let socket = runtime.join("management");
    let ended = match listen(&socket) {
        Ok(listener) => {
            let config = options.render(interface, &socket, runtime);
            match start(&config).await {
                Ok(mut child) => {
                    let work =
                        work(context, &listener, options.mtu, &mut child, &mut login, &tunnel);
                    let ended = until_stopped(signals, work).await;
                    end(&mut child).await;
                    ended
                }
                Err(ended) => Err(ended),
            }
        }
        Err(ended) => Err(ended),
    };
    tunnel.remove().await;
    ended
}

fn read(context: &Context) -> Result<Options, Ended> {
    let called = context.secrets.file("conf");
    let text = context.secrets.config()?;
    let entries = file::parse(&text.0).map_err(|wrong| Ended::Wrong(wrong.within(&called)))?;
    let options = options::judge(entries).map_err(|wrong| Ended::Wrong(wrong.within(&called)))?;
    if !options.ignored.is_empty() {
        let names = options.ignored.join(", ");
        info!("{called}: ignored: {names}; guppy says what goes where");
    }
    Ok(options)
}

/// A tun device of this user's, that stays while OpenVPN connects anew.
async fn make_device(interface: &str) -> Result<(), Ended> {
    let user = rustix::process::geteuid().as_raw().to_string();
    let output = Command::new("ip")
        .args(["tuntap", "add", "dev", interface, "mode", "tun", "user", &user])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| Ended::Failed(format!("ip cannot be run: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
    Err(Ended::Failed(format!("ip tuntap add {interface}: {said}")))
}

fn listen(socket: &Path) -> Result<UnixListener, Ended> {
    // One that was killed leaves it.
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket)
        .map_err(|error| Ended::Failed(format!("{}: {error}", socket.display())))
}

/// The config goes by a pipe: it has keys in it.
async fn start(config: &str) -> Result<Child, Ended> {
    let mut child = Command::new("openvpn")
        .args(["--config", "stdin"])
        // It would say READY=1 before it has called anybody.
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            Ended::Wrong(format!("openvpn cannot be run: {error} (apt install openvpn)"))
        })?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read to the end has said why, and ends.
        let _ = stdin.write_all(config.as_bytes()).await;
    }
    Ok(child)
}

async fn end(child: &mut Child) {
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
    let _ = kill_process(pid, Signal::TERM);
    if timeout(END_AT_MOST, child.wait()).await.is_err() {
        let _ = child.kill().await;
    }
}

async fn work(
    context: &Context,
    listener: &UnixListener,
    mtu: u32,
    child: &mut Child,
    login: &mut Login<'_>,
    tunnel: &Tunnel<'_>,
) -> Ended {
    let accepted = tokio::select! {
        accepted = listener.accept() => accepted,
        // It takes up the management socket once all options are read.
        _ = child.wait() => {
            let why = "openvpn does not take the file: its own lines above say why";
            return Ended::Wrong(why.to_owned());
        }
    };
    let mut talk = match accepted {
        Ok((stream, _)) => Talk::new(context, stream, mtu),
        Err(error) => return Ended::Failed(format!("management socket: {error}")),
    };
    tokio::select! {
        ended = talk.go_on(login, tunnel) => ended,
        ended = tunnel.hold() => ended,
    }
}

/// The conversation over the management socket.
struct Talk<'a> {
    context: &'a Context,
    lines: Lines<BufReader<OwnedReadHalf>>,
    writer: OwnedWriteHalf,
    /// Of the tunnel, in bytes: what the file says, until the server has pushed another.
    mtu: u32,
    connected: bool,
    /// What it said before it ended.
    fatal: Option<String>,
}

impl<'a> Talk<'a> {
    fn new(context: &'a Context, stream: UnixStream, mtu: u32) -> Self {
        let (reader, writer) = stream.into_split();
        let lines = BufReader::new(reader).lines();
        Self { context, lines, writer, mtu, connected: false, fatal: None }
    }

    async fn go_on(&mut self, login: &mut Login<'_>, tunnel: &Tunnel<'_>) -> Ended {
        let late = sleep(CONNECT_AT_MOST);
        tokio::pin!(late);
        loop {
            let line = tokio::select! {
                line = self.lines.next_line() => line,
                () = &mut late, if !self.connected => {
                    let seconds = CONNECT_AT_MOST.as_secs();
                    return Ended::Failed(format!("no connection within {seconds} s"));
                }
            };
            let done = match line {
                Ok(Some(line)) => self.hear(parse(&line), login, tunnel).await,
                Ok(None) => {
                    let why = self.fatal.take().unwrap_or_else(|| "its lines say why".to_owned());
                    Err(Ended::Failed(format!("openvpn ended: {why}")))
                }
                Err(error) => Err(Ended::Failed(format!("management socket: {error}"))),
            };
            if let Err(ended) = done {
                return ended;
            }
        }
    }

    async fn hear(
        &mut self,
        said: Said,
        login: &mut Login<'_>,
        tunnel: &Tunnel<'_>,
    ) -> Result<(), Ended> {
        let refusals = &self.context.refusals;
        match said {
            Said::Hold => self.say("state on\nhold off\nhold release\n").await,
            Said::Connected(addresses) => {
                if addresses.is_empty() {
                    let why = "the server gave no address that could be used";
                    return Err(Ended::Failed(why.to_owned()));
                }
                tunnel.raise(&addresses, self.mtu).await?;
                refusals.accepted()?;
                let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                let status = format!("connected by OpenVPN, {}", addresses.join(" and "));
                ready(&self.context.name, &status);
                self.connected = true;
                Ok(())
            }
            Said::Mtu(mtu) => {
                self.mtu = mtu;
                Ok(())
            }
            Said::Reconnecting(why) => {
                // Its word is of a fixed list of OpenVPN's, not the server's.
                if self.connected {
                    let name = &self.context.name;
                    warn!(guppy_event = "vpn-reconnecting", "{name}: connecting anew ({why})");
                    service::notify::status("connecting anew");
                }
                Ok(())
            }
            Said::NeedLogin { challenge } => {
                let answer = login.answer(challenge)?;
                self.say(&answer.0).await
            }
            Said::Challenge => {
                let answer = login.answer_to_text()?;
                self.say(&answer.0).await
            }
            Said::NeedPassword(of) => Err(Ended::Wrong(format!(
                "{}: a password is wanted for the {of}: decrypt it (openssl pkey -in KEY) and encrypt \
                 the whole file as a credential instead",
                self.context.secrets.file("conf")
            ))),
            Said::Refused { challenge: Some(state) } => {
                login.challenged(state);
                Ok(())
            }
            Said::Refused { challenge: None } => Err(refusals.refused()),
            Said::Fatal(why) => {
                self.fatal = Some(why);
                Ok(())
            }
            Said::Other => Ok(()),
        }
    }

    async fn say(&mut self, text: &str) -> Result<(), Ended> {
        let said = self.writer.write_all(text.as_bytes()).await;
        said.map_err(|error| Ended::Failed(format!("management socket: {error}")))
    }
}
