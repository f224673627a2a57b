//! sock_diag: dumps made by hand, the kernel's filter, and live connections.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::super::Socket;
use super::super::tcp::{Dump, Tcp, filter, request};
use super::{Certain, Tree, only, read};

/// A message as kernels write it; tcp_info has 232 bytes on Debian 12, 248 on 13, and grows.
pub(super) fn message(family: u8, remote: &[u8], port: u16, number: u64, info: usize) -> Vec<u8> {
    let mut message = vec![0; 16];
    message[4] = 20;
    message[6] = 2;
    message.extend([family, 1, 0, 0]);
    message.extend(port.to_be_bytes());
    message.extend(50_000_u16.to_be_bytes());
    message.extend([0; 16]);
    message.extend(remote);
    message.extend(vec![0; 16 - remote.len()]);
    message.extend([0; 4]);
    message.extend(number.to_ne_bytes());
    message.extend([0; 20]);
    // INET_DIAG_TOS, which comes before the others when it is set, and a shutdown mask.
    for (kind, payload) in
        [(5_u16, vec![0]), (8, vec![0]), (2, tcp_info(number, info)), (21, vec![9; 8])]
    {
        message.extend(u16::try_from(payload.len() + 4).unwrap().to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(payload);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(message.len()).unwrap();
    message[..4].copy_from_slice(&length.to_ne_bytes());
    message
}

fn tcp_info(number: u64, size: usize) -> Vec<u8> {
    let mut info = vec![0xee; size.max(136)];
    info[4] = 7;
    info[24..28].copy_from_slice(&3_u32.to_ne_bytes());
    info[56..60].copy_from_slice(&31_000_u32.to_ne_bytes());
    info[120..128].copy_from_slice(&(number * 10).to_ne_bytes());
    info[128..136].copy_from_slice(&(number * 100).to_ne_bytes());
    info.truncate(size);
    info
}

pub(super) fn end(kind: u8, errno: i32) -> Vec<u8> {
    let mut message = vec![20, 0, 0, 0, kind, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    message.extend(errno.to_ne_bytes());
    message
}

fn take(datagrams: &[Vec<u8>], ports: &[u16]) -> Result<(Vec<Socket>, bool, bool), String> {
    let mut sockets = Vec::new();
    let mut dump = Dump { ports, sockets: &mut sockets, interrupted: false };
    let mut ended = false;
    for datagram in datagrams {
        ended = dump.datagram(datagram).map_err(|why| why.to_string())?;
    }
    let interrupted = dump.interrupted;
    Ok((sockets, ended, interrupted))
}

#[test]
fn every_field_of_every_size_of_tcp_info() {
    for size in [136, 192, 232, 248, 280, 1000] {
        let datagram = message(2, &[100, 64, 0, 2], 22, 7, size);
        let (sockets, ended, _) = take(&[datagram], &[22]).unwrap();
        assert!(!ended);
        let expected = Socket {
            cookie: 7,
            local_port: 22,
            remote: IpAddr::from([100, 64, 0, 2]),
            remote_port: 50_000,
            acked: 70,
            received: 700,
            unacked: 3,
            backoff: 7,
            last_ack_ms: 31_000,
        };
        assert_eq!(sockets, [expected]);
    }
}

#[test]
fn a_mapped_address_is_given_as_v4() {
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 100, 64, 0, 2];
    let plain = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let datagrams = [message(10, &mapped, 22, 1, 248), message(10, &plain, 22, 2, 248)];
    let (sockets, ..) = take(&datagrams, &[22]).unwrap();
    assert_eq!(sockets[0].remote, "100.64.0.2".parse::<IpAddr>().unwrap());
    assert_eq!(sockets[1].remote, "fd00::2".parse::<IpAddr>().unwrap());
}

#[test]
fn other_ports_are_left_out_even_if_the_kernel_does_not_filter() {
    let datagrams = [message(2, &[1, 2, 3, 4], 22, 1, 248), message(2, &[1, 2, 3, 4], 23, 2, 248)];
    let (sockets, ..) = take(&datagrams, &[23, 5432]).unwrap();
    assert_eq!(sockets.iter().map(|socket| socket.cookie).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_dump_ends_fails_or_is_interrupted_as_the_kernel_says() {
    assert!(take(&[end(3, 0)], &[22]).unwrap().1);
    let why = take(&[end(3, -12)], &[22]).unwrap_err();
    assert!(why.contains("Cannot allocate memory"), "{why}");
    let why = take(&[end(2, -2)], &[22]).unwrap_err();
    assert!(why.contains("modprobe tcp_diag"), "{why}");
    for strange in [5, i32::MIN, -4096] {
        let why = take(&[end(3, strange)], &[22]).unwrap_err();
        assert!(why.ends_with("ended with a number that is no error's"), "{why}");
    }
    let mut interrupted = end(3, 0);
    interrupted[6] |= 0x10;
    assert!(take(&[interrupted], &[22]).unwrap().2);
}

#[test]
fn what_is_cut_short_or_without_tcp_info_is_a_failure() {
    let whole = message(2, &[1, 2, 3, 4], 22, 1, 248);
    for length in 1..whole.len() {
        let why = take(&[whole[..length].to_vec()], &[22]).unwrap_err();
        assert!(why.ends_with("a message is cut short"), "{length}: {why}");
    }
    let why = take(&[message(2, &[1, 2, 3, 4], 22, 1, 130)], &[22]);
    assert!(why.is_err(), "tcp_info ends before bytes_received");
}

#[test]
fn ten_thousand_connections_are_read_and_twenty_thousand_and_one_are_too_many() {
    let datagrams: Vec<Vec<u8>> = (0..10_000_u64)
        .map(|number| message(2, &[10, 0, 0, 1], 22, number, 280))
        .collect::<Vec<_>>()
        .chunks(64)
        .map(<[_]>::concat)
        .chain([end(3, 0)])
        .collect();
    let (sockets, ended, _) = take(&datagrams, &[22]).unwrap();
    assert!(ended);
    assert_eq!(sockets.len(), 10_000);
    assert_eq!(
        sockets.iter().map(|socket| socket.received).sum::<u64>(),
        100 * (9_999 * 10_000 / 2)
    );
    let one = message(2, &[10, 0, 0, 1], 22, 1, 280);
    let why = take(&vec![one; 20_001], &[22]).unwrap_err();
    assert_eq!(why, "there are more than 20000 connections on watched ports, too many to watch");
}

/// inet_diag_bc_run (net/ipv4/inet_diag.c), for the two instructions that are used.
fn accepts(program: &[u8], port: u16) -> bool {
    let mut at = 0;
    while let Some(&[code, yes, low, high]) = program.get(at..at + 4) {
        let no = usize::from(u16::from_ne_bytes([low, high]));
        let next = match code {
            11 => {
                let wanted = u16::from_ne_bytes([program[at + 6], program[at + 7]]);
                if wanted == port { usize::from(yes) } else { no }
            }
            1 => no,
            other => panic!("instruction {other} at {at}"),
        };
        assert!(next >= 4 && next % 4 == 0, "inet_diag_bc_audit refuses a jump by {next}");
        at += next;
    }
    at == program.len()
}

proptest! {
    #[test]
    fn the_filter_accepts_the_ports_and_no_other(
        ports in prop::collection::vec(1_u16.., 1..60),
        others in prop::collection::vec(any::<u16>(), 20),
    ) {
        let program = filter(&ports);
        for port in ports.iter().chain(&others) {
            prop_assert_eq!(accepts(&program, *port), ports.contains(port));
        }
    }
}

#[test]
fn a_request_has_the_length_that_it_says() {
    for ports in [vec![], vec![22], (1..=256).collect(), (1..=300).collect::<Vec<u16>>()] {
        let request = request(2, &ports);
        let length = u32::from_ne_bytes(request[..4].try_into().unwrap());
        assert_eq!(usize::try_from(length).unwrap(), request.len());
    }
}

/// Some hundred live connections, over v4 and over v6 (so the mapped ones too), each with its own
/// number of bytes, found by their ports.
#[test]
fn live_connections_are_found_with_their_bytes() {
    let listener = TcpListener::bind("[::]:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut connections = Vec::new();
    for number in 1..=300_usize {
        let host = if number % 2 == 0 { "::1" } else { "127.0.0.1" };
        let address = SocketAddr::new(host.parse().unwrap(), port);
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(&vec![7; number]).unwrap();
        server.read_exact(&mut vec![0; number]).unwrap();
        server.write_all(&vec![7; 2 * number]).unwrap();
        client.read_exact(&mut vec![0; 2 * number]).unwrap();
        connections.push((client, server, number));
    }
    let mut tcp = Tcp::default();
    // What was read may be acknowledged a little later.
    let all_acked = |sockets: &[Socket]| sockets.iter().all(|socket| socket.unacked == 0);
    once(|| tcp.read(&[port]).unwrap(), |sockets| all_acked(sockets));
    // 255 ports that nobody uses make the kernel run a long filter.
    let many: Vec<u16> = (1..=255).chain([port]).collect();
    for ports in [vec![port], many, (0..300).map(|_| port).collect()] {
        let sockets = tcp.read(&ports).unwrap();
        assert_eq!(sockets.len(), 300);
        for (client, _, number) in &connections {
            let from = client.local_addr().unwrap();
            let socket = sockets.iter().find(|socket| {
                socket.remote_port == from.port() && socket.remote == from.ip().to_canonical()
            });
            let socket = socket.unwrap();
            let number = u64::try_from(*number).unwrap();
            assert_eq!((socket.received, socket.acked), (number, 2 * number));
            assert_eq!((socket.local_port, socket.unacked, socket.backoff), (port, 0, 0));
        }
    }
    assert!(tcp.read(&[]).unwrap().is_empty());
}

/// Looks until what is seen is as wanted.
fn once<T: std::fmt::Debug>(mut look: impl FnMut() -> T, wanted: impl Fn(&T) -> bool) -> T {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let seen = look();
        if wanted(&seen) {
            return seen;
        }
        assert!(Instant::now() < deadline, "{seen:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A peer that says `hello`, and when told to takes no packet any more: each would have to come with
/// more hops left than the kernel gives it, or is dropped in silence (IP_MINTTL, which is 21). Perl,
/// since every Debian has it and no crate that is here sets this option.
const DEAF: &str = r#"
    use Socket;
    socket(PEER, PF_INET, SOCK_STREAM, 0) or die;
    connect(PEER, pack_sockaddr_in($ARGV[0], inet_aton("127.0.0.1"))) or die;
    syswrite(PEER, "hello");
    <STDIN>;
    setsockopt(PEER, 0, 21, pack("i", 255)) or die;
    syswrite(STDOUT, "deaf\n");
    <STDIN>;
"#;

/// The three signs of a dead peer, and that only what it has acknowledged counts, as this kernel
/// itself tells them.
#[test]
fn a_peer_that_has_gone_silent_is_told_as_the_kernel_counts_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut peer = Command::new("perl")
        .args(["-e", DEAF, &port.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.set_nodelay(true).unwrap();
    server.read_exact(&mut [0; 5]).unwrap();
    let mut tcp = Tcp::default();
    let mut look = || tcp.read(&[port]).unwrap().pop().unwrap();

    // The times of what came, of what was acknowledged and of what was sent last lie apart.
    once(&mut look, |socket| socket.last_ack_ms > 200);
    let before = Instant::now();
    server.write_all(&[7; 100]).unwrap();
    let heard = once(&mut look, |socket| socket.acked == 100);
    let after = Instant::now();
    assert_eq!((heard.unacked, heard.backoff), (0, 0));

    let mut orders = peer.stdin.take().unwrap();
    orders.write_all(b"\n").unwrap();
    let mut said = [0; 5];
    peer.stdout.take().unwrap().read_exact(&mut said).unwrap();
    assert_eq!(&said, b"deaf\n");
    server.write_all(&[7; 30]).unwrap();
    let (at_least, silent, at_most) =
        once(|| (after.elapsed(), look(), before.elapsed()), |(_, socket, _)| socket.backoff >= 2);
    assert_eq!((silent.acked, silent.received), (100, 5), "{silent:?}");
    assert!(silent.unacked > 0, "{silent:?}");
    // The kernel counts in jiffies, of 10 ms at most.
    let jiffies = Duration::from_millis(20);
    let last_ack = Duration::from_millis(silent.last_ack_ms.into());
    assert!(last_ack + jiffies >= at_least && last_ack <= at_most + jiffies, "{silent:?}");
    drop(orders);
    peer.wait().unwrap();
}

/// Which remote commands have lost their callers is a matter of ssh's connections, whether bytes on
/// connections count or not.
#[tokio::test]
async fn the_connections_of_ssh_are_read_for_commands_too() {
    // Or an sshd is there.
    let _listener = TcpListener::bind("127.0.0.1:22");
    let client = TcpStream::connect("127.0.0.1:22").unwrap();
    let port = client.local_addr().unwrap().port();
    let tree = Tree::new();
    let mut seen = Vec::new();
    for (tcp, commands) in [(true, false), (false, true), (false, false)] {
        let config = only(|on| (on.tcp, on.commands) = (tcp, commands));
        let sockets = read(&mut tree.sensors(), &config).await.sockets.known();
        seen.push(sockets.iter().any(|socket| socket.remote_port == port));
    }
    assert_eq!(seen, [true, true, false]);
}
