//! Asks through the tunnel whether it carries anything, from the tunnel's own address: a rule of ours
//! has that go by the tunnel or not at all, even where rp_filter is strict. Each socket is bound to the
//! tunnel's interface besides: what TCP still has to say when that is gone then goes nowhere, and not
//! by the uplink.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, UdpSocket};
use tokio::time::{Instant, timeout};

use crate::prefix::Family;
use crate::profile::Probe;

/// Longer than a handshake across the world takes, and shorter than a person's patience.
pub const ANSWER_AT_MOST: Duration = Duration::from_secs(3);
/// An echo request that was lost is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Of an answer no more is read: an address stands in its first line.
const BYTES_AT_MOST: u64 = 64 << 10;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// How long it took.
    pub after: Duration,
    /// The address that the server saw, where it says that.
    pub egress: Option<IpAddr>,
}

/// The end of the tunnel that is asked from.
#[derive(Clone, Copy)]
struct From<'a> {
    interface: &'a str,
    address: IpAddr,
}

/// Asks, by the tunnel's interface and from one of its addresses.
///
/// # Errors
/// For people: what went wrong, as "no answer in 3 s".
pub async fn ask(probe: &Probe, interface: &str, addresses: &[IpAddr]) -> Result<Answer, String> {
    let family = Family::of(probe.address());
    let address = addresses
        .iter()
        .copied()
        .find(|address| Family::of(*address) == family)
        .ok_or_else(|| format!("the tunnel has no {} address", family.nft()))?;
    let from = From { interface, address };
    let began = Instant::now();
    let asked = async {
        match probe {
            Probe::Icmp(to) => echo(from, *to).await.map(|()| None),
            Probe::Tcp(to) => connect(from, *to).await.map(|_| None),
            Probe::Http(http) => get(from, http.address, &http.path).await,
        }
    };
    match timeout(ANSWER_AT_MOST, asked).await {
        Ok(Ok(egress)) => Ok(Answer { after: began.elapsed(), egress }),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer in {} s", ANSWER_AT_MOST.as_secs())),
    }
}

async fn connect(from: From<'_>, to: SocketAddr) -> io::Result<tokio::net::TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind_device(Some(from.interface.as_bytes()))?;
    socket.bind((from.address, 0).into())?;
    socket.connect(to).await
}

async fn get(from: From<'_>, to: SocketAddr, path: &str) -> io::Result<Option<IpAddr>> {
    let mut stream = connect(from, to).await?;
    let request =
        format!("GET {path} HTTP/1.0\r\nHost: {to}\r\nUser-Agent: guppy-exit-router\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(BYTES_AT_MOST).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).unwrap_or_default();
    if !answer.starts_with("HTTP/") || !(status.starts_with('2') || status.starts_with('3')) {
        let first: String = answer.lines().next().unwrap_or_default().chars().take(60).collect();
        return Err(io::Error::other(format!("it answers \"{first}\"")));
    }
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body).unwrap_or_default();
    Ok(body.lines().next().and_then(|line| line.trim().parse().ok()))
}

/// An echo request by a socket that needs no capability (icmp(7), ping_group_range): the kernel sets
/// its number and sums.
async fn echo(from: From<'_>, to: IpAddr) -> io::Result<()> {
    let (family, protocol, request, reply) = match to {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8_u8, 0_u8),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::DGRAM, flags, Some(protocol))
        .map_err(|error| {
            let error = io::Error::from(error);
            let what = "is net.ipv4.ping_group_range set to \"0 2147483647\"?";
            io::Error::new(error.kind(), format!("{error} ({what})"))
        })?;
    // What is sent on it begins with ICMP's header in place of UDP's.
    let socket = UdpSocket::from_std(std::net::UdpSocket::from(socket))?;
    socket.bind_device(Some(from.interface.as_bytes()))?;
    rustix::net::bind(&socket, &SocketAddr::new(from.address, 0))?;
    socket.connect((to, 0)).await?;
    let mut packet = [0_u8; 16];
    packet[0] = request;
    loop {
        socket.send(&packet).await?;
        match timeout(AGAIN_AFTER, answered(&socket, reply)).await {
            Ok(answered) => return answered,
            Err(_) => continue,
        }
    }
}

async fn answered(socket: &UdpSocket, reply: u8) -> io::Result<()> {
    let mut answer = [0_u8; 64];
    loop {
        socket.recv(&mut answer).await?;
        if answer[0] == reply {
            return Ok(());
        }
    }
}
