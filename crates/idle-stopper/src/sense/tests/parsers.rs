//! Every parser of this room on anything at all, and on real lines with bytes changed: no panic,
//! and no more out than in.

use proptest::prelude::*;

use super::super::builds::is_build;
use super::super::cgroups::{populated, usage};
use super::super::checks;
use super::super::commands::{line, tailscale_user};
use super::super::cpu::steal;
use super::super::disk::{disk, stalled};
use super::super::file::{number, printable};
use super::super::logind::parse_host;
use super::super::logins::{Sshd, parse_title};
use super::super::network::interface;
use super::super::packages::lock;
use super::super::processes::{Line, arguments, parse, program, session_in};
use super::super::tcp::{Dump, socket};
use super::super::terminals::{name, tailscale};
use super::Fake;
use super::tcp::{end, message};
use crate::decide::tests::cases;

/// Puts bytes through everything that reads bytes.
fn all(bytes: &[u8]) {
    if let Some(Line::Alive(entry)) = parse(bytes) {
        assert!(entry.comm().len() <= 15);
    }
    match parse_title(bytes) {
        Sshd::Session { user } | Sshd::InternalSftp { user } => assert!(user.chars().count() <= 65),
        Sshd::Listener | Sshd::Other => {}
    }
    assert!(session_in(bytes).is_none_or(|id| id.len() <= 32));
    let words = arguments(bytes);
    assert!(words.iter().map(Vec::len).sum::<usize>() <= bytes.len());
    let (path, script) = program(bytes);
    assert!(path.len() + script.len() <= bytes.len());
    assert!(line(&words).text.chars().count() <= 81);
    assert!(tailscale(&words).chars().count() <= 160);
    assert!(tailscale_user(&words).is_none_or(|user| user.chars().count() <= 65));
    is_build(&words);
    usage(bytes);
    populated(bytes);
    steal(bytes);
    stalled(bytes);
    number(bytes);
    assert!(disk(bytes).is_none_or(|(name, _)| name.len() <= bytes.len()));
    assert!(interface(bytes).is_none_or(|(name, _)| name.len() <= bytes.len()));
    lock(bytes);
    if let Ok(results) = checks::parse(bytes) {
        assert!(results.checks.len() <= 256);
    }
    parse_host(&String::from_utf8_lossy(bytes));
    let text = printable(bytes, 20);
    assert!(text.chars().count() <= 21 && !text.chars().any(char::is_control));
    socket(bytes);
    let mut sockets = Vec::new();
    let mut dump = Dump { ports: &[0, 22, 0x0101], sockets: &mut sockets, interrupted: false };
    let _ = dump.datagram(bytes);
    assert!(sockets.len() <= bytes.len() / 88);
}

/// Lines and messages as kernels and programs write them.
fn real() -> Vec<Vec<u8>> {
    let mut dump = message(2, &[100, 64, 0, 2], 22, 7, 248);
    dump.extend(message(10, &[0; 16], 22, 8, 232));
    dump.extend(end(3, 0));
    let mut real: Vec<Vec<u8>> = [
        "1: POSIX  ADVISORY  WRITE 1234 fe:00:123456 0 EOF",
        "2: -> FLOCK  ADVISORY  WRITE 77 00:1a:99 0 EOF",
        "usage_usec 7301547\nuser_usec 5\nsystem_usec 6\nnr_periods 0\n",
        "cpu  10 0 20 3000 5 0 1 42 0 0\ncpu0 10 0 20 3000 5 0 1 42 0 0\n",
        " 254       0 vda 76673 11989 4603570 15130 218737 45138 14370312 39942 0 16800 58181",
        "some avg10=0.16 avg60=0.31 avg300=0.54 total=7301547\nfull avg10=0 total=5\n",
        "  eth0: 1000 120 0 0 0 0 0 0 234 120 0 0 0 0 0 0",
        "0::/user.slice/user-1000.slice/session-3.scope\n",
        "sshd: alice@pts/0",
        "sshd-session: alice@corp.example@notty",
        "su\0-w\0SSH_AUTH_SOCK\0-l\0bob\0-c\0sleep 600\0",
        "/usr/sbin/tailscaled\0be-child\0ssh\0--local-user=bob\0--cmd=make\0",
        "login\0-f\0-h\x00100.64.0.2\0-p\0bob\0",
        "docker\0--context\0box\0compose\0-f\0c.yml\0build\0",
        "/usr/bin/node\0/home/alice/.vscode-server/out/server-main.js\0--port\x000\0",
        r#"{"boot_ms":580000,"checks":[{"name":"ci","said":{"unknown":"x"}}]}"#,
        "fe80::1%eth0",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    real.push(
        Fake { pid: 42, parent: 7, comm: "a) b", terminal: 34816, ..Fake::default() }.line().into(),
    );
    real.push(dump);
    real
}

#[test]
fn the_real_ones_are_read() {
    real().iter().for_each(|bytes| all(bytes));
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn anything_at_all(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        all(&bytes);
    }

    /// Words, numbers and signs that the parsers look for, in any order.
    #[test]
    fn anything_that_looks_familiar(text in "([0-9]{1,25}|[a-z]{1,8}|[ :@()\\-/=,\n\t\0]|sshd: |cpu |total=|->|be-child|[^\0]){0,40}") {
        all(text.as_bytes());
    }

    #[test]
    fn real_ones_with_bytes_changed(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(),
        repeat in 1_usize..4,
    ) {
        let real = real();
        let mut bytes = which.get(&real).repeat(repeat);
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        all(&bytes);
        bytes.truncate(cut.index(bytes.len()));
        all(&bytes);
    }

    #[test]
    fn any_device_number_has_one_name_or_none(number in any::<u32>()) {
        if let Some(name) = name(number) {
            prop_assert!(name.len() <= 12, "{}", name);
        }
    }

    #[test]
    fn any_name_of_a_program_comes_back(comm in "[^\0\n]{0,15}", pid in 1_u32.., start in any::<u64>()) {
        let line = Fake { pid, comm: &comm, start, ..Fake::default() }.line();
        let Some(Line::Alive(entry)) = parse(line.as_bytes()) else { panic!("{line}") };
        prop_assert_eq!(entry.comm(), comm.as_bytes().get(..15).unwrap_or(comm.as_bytes()));
        prop_assert_eq!((entry.pid, entry.start), (pid, start));
    }
}
