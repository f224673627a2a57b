//! TCP connections on the watched ports, from one sock_diag(7) dump for each address family.
//!
//! The kernel filters by port itself (INET_DIAG_REQ_BYTECODE), so that ten thousand connections
//! on other ports cost next to nothing. The few fields that count are read by hand at their fixed
//! places (include/uapi/linux/{inet_diag,tcp}.h): tcp_info has grown with each kernel, at its end.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

use super::Socket;
use super::file::Failure;

/// Connections that are listed, of 64 bytes each. Beyond it the reading is Unknown.
const MOST: usize = 20_000;

/// Ports for which the kernel filters; with more it hands over everything and this program picks.
const MOST_FILTERED: usize = 256;

/// Datagrams of one dump. One carries 32 KiB at most, about 80 connections; 1,024 of them are four
/// times [`MOST`].
const MOST_DATAGRAMS: usize = 1024;

/// The kernel answers at once.
const DEADLINE: Duration = Duration::from_secs(2);

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const IPPROTO_TCP: u8 = 6;
const TCP_ESTABLISHED: u8 = 1;
/// Also the bit `1 << (INET_DIAG_INFO - 1)` of the request, by accident of being 2.
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_BC_JMP: u8 = 1;
const INET_DIAG_BC_S_EQ: u8 = 11;

/// Sizes of nlmsghdr, inet_diag_req_v2, inet_diag_msg and rtattr.
const HEADER: usize = 16;
const REQUEST: usize = 56;
const MESSAGE: usize = 72;
const ATTRIBUTE: usize = 4;

/// Reads the connections; keeps its buffer.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    buffer: Vec<u8>,
    /// How many there were last time, so that the list is made in one piece.
    last: usize,
}

impl Tcp {
    pub(super) fn read(&mut self, ports: &[u16]) -> Result<Vec<Socket>, Failure> {
        let mut sockets = Vec::new();
        if ports.is_empty() {
            return Ok(sockets);
        }
        sockets.reserve(self.last.saturating_add(4));
        // The kernel hands out at most this much at once.
        self.buffer.resize(32 * 1024, 0);
        for family in [AF_INET, AF_INET6] {
            let before = sockets.len();
            let mut whole = self.dump(family, ports, &mut sockets)?;
            if !whole {
                sockets.truncate(before);
                whole = self.dump(family, ports, &mut sockets)?;
            }
            if !whole {
                return Err(failed("changed while it was read, twice"));
            }
        }
        self.last = sockets.len();
        Ok(sockets)
    }

    /// One dump; false: the kernel says that the table changed under it.
    fn dump(&mut self, family: u8, ports: &[u16], into: &mut Vec<Socket>) -> Result<bool, Failure> {
        let broken = |errno: Errno| failed(&errno.to_string());
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::SOCK_DIAG),
        )
        .map_err(broken)?;
        set_socket_timeout(&socket, Timeout::Recv, Some(DEADLINE)).map_err(broken)?;
        send(&socket, &request(family, ports), SendFlags::empty()).map_err(broken)?;
        let mut dump = Dump { ports, sockets: into, interrupted: false };
        for _ in 0..MOST_DATAGRAMS {
            let (length, whole) =
                recv(&socket, self.buffer.as_mut_slice(), RecvFlags::TRUNC).map_err(broken)?;
            if whole > length {
                return Err(failed(&format!("handed out {whole} bytes at once, more than fit")));
            }
            let datagram = self.buffer.get(..length).unwrap_or_default();
            if dump.datagram(datagram)? {
                return Ok(!dump.interrupted);
            }
        }
        Err(failed("did not come to its end"))
    }
}

fn failed(why: &str) -> Failure {
    Failure::Other(format!("sock_diag's list of TCP connections: {why}"))
}

/// The request for established connections with their tcp_info.
pub(super) fn request(family: u8, ports: &[u16]) -> Vec<u8> {
    let filter = filter(ports);
    let attribute = if filter.is_empty() { 0 } else { ATTRIBUTE + filter.len() };
    let length = HEADER + REQUEST + attribute;
    let mut request = Vec::with_capacity(length);
    // nlmsghdr: length, type, flags, sequence, port.
    request.extend(u32::try_from(length).unwrap_or(0).to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((NLM_F_REQUEST | NLM_F_DUMP).to_ne_bytes());
    request.extend([0; 8]);
    // inet_diag_req_v2: family, protocol, attributes wanted, padding, states, a socket (any).
    request.extend([family, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
    request.extend((1_u32 << TCP_ESTABLISHED).to_ne_bytes());
    request.extend([0; 48]);
    if attribute > 0 {
        request.extend(u16::try_from(attribute).unwrap_or(0).to_ne_bytes());
        request.extend(INET_DIAG_REQ_BYTECODE.to_ne_bytes());
        request.extend(filter);
    }
    request
}

/// The kernel's filter program, `sport = A or sport = B …`. Each port takes three instructions of
/// four bytes: compare (with the port in the next one), and, when equal, jump behind the end, which
/// accepts. The last comparison needs no jump; when unequal it goes four bytes too far: refused.
pub(super) fn filter(ports: &[u16]) -> Vec<u8> {
    if ports.len() > MOST_FILTERED {
        return Vec::new();
    }
    let mut program = Vec::with_capacity(ports.len() * 12);
    let mut operation = |code: u8, yes: u8, no: u16| {
        program.extend([code, yes]);
        program.extend(no.to_ne_bytes());
    };
    for (port, left) in ports.iter().zip((0..ports.len()).rev()) {
        operation(INET_DIAG_BC_S_EQ, 8, 12);
        operation(0, 0, *port);
        if let Some(left) = left.checked_sub(1) {
            // Over this jump, `left` ports with a jump each, and the last without.
            let end = 4 + left * 12 + 8;
            operation(INET_DIAG_BC_JMP, 4, u16::try_from(end).unwrap_or(u16::MAX));
        }
    }
    program
}

/// Datagrams of a dump on their way to sockets.
pub(super) struct Dump<'a> {
    pub(super) ports: &'a [u16],
    pub(super) sockets: &'a mut Vec<Socket>,
    pub(super) interrupted: bool,
}

impl Dump<'_> {
    /// Takes one datagram; true: it was the last.
    pub(super) fn datagram(&mut self, mut rest: &[u8]) -> Result<bool, Failure> {
        while !rest.is_empty() {
            let length = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok());
            let message =
                length.filter(|length| *length >= HEADER).and_then(|length| rest.get(..length));
            let Some(message) = message else {
                return Err(failed("a message is cut short"));
            };
            rest = rest.get(message.len().next_multiple_of(4)..).unwrap_or_default();
            let flags = u16_at(message, 6).unwrap_or(0);
            self.interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match u16_at(message, 4).unwrap_or(0) {
                // Both begin with an error number: a dump that fails half-way says so at its end.
                NLMSG_DONE | NLMSG_ERROR => return finished(message).map(|()| true),
                SOCK_DIAG_BY_FAMILY => self.message(message.get(HEADER..).unwrap_or_default())?,
                NLMSG_NOOP => {}
                kind => return Err(failed(&format!("a message of unknown type {kind}"))),
            }
        }
        Ok(false)
    }

    fn message(&mut self, message: &[u8]) -> Result<(), Failure> {
        let local_port = u16_be_at(message, 4).ok_or_else(|| failed("a message is cut short"))?;
        if !self.ports.contains(&local_port) {
            return Ok(());
        }
        let socket = socket(message).ok_or_else(|| failed("a connection came without tcp_info"))?;
        if self.sockets.len() == MOST {
            return Err(Failure::TooMany { limit: MOST, what: "connections on watched ports" });
        }
        self.sockets.push(socket);
        Ok(())
    }
}

/// The error number that ends a dump: 0, or negative.
fn finished(message: &[u8]) -> Result<(), Failure> {
    let number = u32_at(message, HEADER).map_or(0, u32::cast_signed).checked_neg();
    match number {
        Some(0) => Ok(()),
        // The range of error numbers (include/linux/err.h); rustix panics on any other.
        Some(number @ 1..=4095) => {
            let errno = Errno::from_raw_os_error(number);
            let missing = errno == Errno::NOENT;
            let remedy = if missing { " (is tcp_diag there? modprobe tcp_diag)" } else { "" };
            Err(failed(&format!("{errno}{remedy}")))
        }
        _ => Err(failed("ended with a number that is no error's")),
    }
}

/// An inet_diag_msg and its attributes.
pub(super) fn socket(message: &[u8]) -> Option<Socket> {
    let remote = match *message.first()? {
        AF_INET => IpAddr::V4(Ipv4Addr::from(bytes_at::<4>(message, 24)?)),
        AF_INET6 => IpAddr::V6(Ipv6Addr::from(bytes_at::<16>(message, 24)?)).to_canonical(),
        _ => return None,
    };
    let info = attribute(message.get(MESSAGE..)?, INET_DIAG_INFO)?;
    Some(Socket {
        cookie: u64::from(u32_at(message, 44)?) | u64::from(u32_at(message, 48)?) << 32,
        local_port: u16_be_at(message, 4)?,
        remote,
        remote_port: u16_be_at(message, 6)?,
        acked: u64_at(info, 120)?,
        received: u64_at(info, 128)?,
        unacked: u32_at(info, 24)?,
        backoff: *info.get(4)?,
        last_ack_ms: u32_at(info, 56)?,
    })
}

/// The payload of the first attribute of a kind.
fn attribute(mut rest: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16_at(rest, 0)?);
        let payload = rest.get(ATTRIBUTE..length)?;
        if u16_at(rest, 2)? == wanted {
            return Some(payload);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_ne_bytes)
}

fn u16_be_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_be_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_ne_bytes)
}
