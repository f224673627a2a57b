//! That something has changed, and no more: sockets that are drained, not parsed. Ten thousand rules
//! of somebody else's cost a few looks, and an hour without a change costs nothing.

use std::io;

use rustix::io::Errno;
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, netlink, sockopt};
use tokio::net::UdpSocket;

/// Groups of NETLINK_ROUTE (linux/rtnetlink.h), as bits of sockaddr_nl(7).
const ROUTE_GROUPS: u32 = group(1) // RTNLGRP_LINK
    | group(4) // RTNLGRP_TC
    | group(5) // RTNLGRP_IPV4_IFADDR
    | group(7) // RTNLGRP_IPV4_ROUTE
    | group(8) // RTNLGRP_IPV4_RULE
    | group(9) // RTNLGRP_IPV6_IFADDR
    | group(11) // RTNLGRP_IPV6_ROUTE
    | group(19); // RTNLGRP_IPV6_RULE

/// NFNLGRP_NFTABLES (linux/netfilter/nfnetlink.h).
const NFTABLES_GROUPS: u32 = group(7);

/// So that a flood does not keep the daemon from looking.
const AT_ONCE: usize = 4096;

/// Only how early an overrun comes depends on it: an overrun is a hint like any other.
const BUFFER: usize = 1 << 20;

const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// A socket that hears of changes. A datagram is a datagram: what tokio knows of UDP's it knows of
/// netlink's, waiting for one and taking it.
#[derive(Debug)]
pub struct Hints(UdpSocket);

impl Hints {
    /// Of links, addresses, routes, rules and filters.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn of_routing() -> io::Result<Self> {
        Self::listen(None, ROUTE_GROUPS)
    }

    /// Of links and addresses alone.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn of_links() -> io::Result<Self> {
        Self::listen(None, group(1) | group(5) | group(9))
    }

    /// Of nftables.
    ///
    /// # Errors
    /// Those of socket(2) and bind(2).
    pub fn of_nftables() -> io::Result<Self> {
        Self::listen(Some(netlink::NETFILTER), NFTABLES_GROUPS)
    }

    /// Without a protocol: NETLINK_ROUTE, which is 0.
    fn listen(protocol: Option<Protocol>, groups: u32) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, protocol)?;
        // Past the system's limit with CAP_NET_ADMIN; without it the default is enough too.
        let _ = sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER);
        rustix::net::bind(&socket, &netlink::SocketAddrNetlink::new(0, groups))?;
        UdpSocket::from_std(std::net::UdpSocket::from(socket)).map(Self)
    }

    /// Ends when something has changed since the last call. Cancel safe.
    ///
    /// # Errors
    /// The socket is of no use any more.
    pub async fn next(&mut self) -> io::Result<()> {
        loop {
            self.0.readable().await?;
            if drain(&self.0)? {
                return Ok(());
            }
        }
    }
}

/// Takes what is there. An overrun (ENOBUFS, netlink(7)) is something too.
fn drain(socket: &UdpSocket) -> io::Result<bool> {
    let mut heard = false;
    let mut byte = [0_u8; 1];
    for _ in 0..AT_ONCE {
        // A datagram is taken whole, however little of it is copied.
        match socket.try_recv(&mut byte) {
            Ok(_) => heard = true,
            Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                heard = true
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(heard)
}
