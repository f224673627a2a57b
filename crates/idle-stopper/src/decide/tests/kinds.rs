//! What counts and what does not, kind by kind.

use std::time::Duration;

use super::world::{HOUR, MINUTE, World, known, usec};
use crate::decide::{Kind, Shown};
use crate::sense::{Build, PackageLock, Reading, Said};

fn stays_up(world: &World) -> bool {
    world.stopped.is_none()
}

fn shown(world: &World, kind: Kind) -> Shown {
    world.state.kind(kind).shown
}

#[test]
fn an_open_silent_shell_does_not_count() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.wait(HOUR);
    assert!(!stays_up(&world));
}

#[test]
fn a_reused_terminal_number_is_another_terminal() {
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "tmux");
    world.wait(MINUTE);
    let before = world.state.last_activity().at;
    // The next session on pts/0 has another leader; its stamp differs, and nobody typed.
    known(&mut world.evidence.terminals).clear();
    world.open_terminal("pts/0", 10, "tmux");
    world.press_key();
    world.wait(MINUTE);
    assert_eq!(world.state.last_activity().at, before);
}

#[test]
fn a_remote_command_counts_while_it_lives_and_at_most_so_long() {
    let mut world = World::settled();
    world.command("sleep infinity", false);
    world.wait(world.config.command_at_most - MINUTE);
    assert!(stays_up(&world));
    world.wait(HOUR);
    assert!(!stays_up(&world));
}

#[test]
fn a_command_whose_every_socket_is_dead_does_not_count() {
    let mut world = World::settled();
    world.command("make", false);
    world.connect(1, 22);
    for socket in known(&mut world.evidence.sockets) {
        (socket.unacked, socket.backoff, socket.last_ack_ms) = (3, 5, 30_001);
    }
    world.wait(HOUR);
    assert!(!stays_up(&world));
}

#[test]
fn one_live_socket_of_the_same_host_is_enough() {
    let mut world = World::settled();
    world.command("make", false);
    world.connect(1, 22);
    for socket in known(&mut world.evidence.sockets) {
        (socket.unacked, socket.backoff, socket.last_ack_ms) = (3, 5, 30_001);
    }
    world.connect(2, 22);
    world.wait(HOUR);
    assert!(stays_up(&world));
}

/// What else a host has open here says nothing about who waits for its command.
#[test]
fn only_the_sockets_of_ssh_tell_whether_a_command_s_caller_is_dead() {
    let (mut cut, mut served) = (World::settled(), World::settled());
    for (world, dead) in [(&mut cut, 22), (&mut served, 5432)] {
        world.config.evidence.tcp = false;
        world.command("make", false);
        world.connect(1, 22);
        world.connect(2, 5432);
        for socket in known(&mut world.evidence.sockets) {
            if socket.local_port == dead {
                (socket.unacked, socket.backoff, socket.last_ack_ms) = (3, 5, 30_001);
            }
        }
        world.wait(HOUR);
    }
    assert!(!stays_up(&cut), "a live database connection");
    assert!(stays_up(&served), "a dead database connection");
}

#[test]
fn keep_alives_every_second_are_below_the_floor_and_a_copy_is_above() {
    let mut world = World::settled();
    world.connect(1, 22);
    world.pass(HOUR, |world, span| {
        world.flow(span.as_secs() * 52, span.as_secs() * 28);
    });
    assert!(!stays_up(&world));

    let mut world = World::settled();
    world.connect(1, 22);
    world.pass(HOUR, |world, span| world.flow(0, span.as_secs() * 400));
    assert!(stays_up(&world));
    assert_eq!(shown(&world, Kind::Tcp), Shown::Active);
}

/// What is drawn in terminals over ssh: an htop that was left open. Whoever types is received.
#[test]
fn what_is_drawn_for_terminals_does_not_count_and_what_comes_from_there_does() {
    let drawn = |world: &mut World, span: Duration| world.flow(0, span.as_secs() * 2_000);
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.connect(1, 22);
    world.pass(HOUR, drawn);
    assert!(!stays_up(&world));

    // Two terminals share one connection.
    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.open_terminal("pts/1", 10, "ssh alice");
    world.connect(1, 22);
    world.pass(HOUR, drawn);
    assert!(!stays_up(&world));

    let mut world = World::settled();
    world.open_terminal("pts/0", 9, "ssh alice");
    world.connect(1, 22);
    world.pass(HOUR, |world, span| world.flow(span.as_secs() * 400, 0));
    assert!(stays_up(&world), "a file that is received through a terminal");
}

/// Where a host has more than terminals, or it is not known what it has, its bytes count.
#[test]
fn what_is_sent_counts_unless_it_is_known_to_be_drawn_for_terminals() {
    type More = fn(&mut World);
    let more: [(&str, More); 6] = [
        ("a forward beside it", |world| world.connect(2, 22)),
        ("an IDE's server", |world| world.command("code-server", true)),
        ("a command of some host", |world| {
            world.command("sftp-server", true);
            known(&mut world.evidence.commands).iter_mut().for_each(|it| it.host = None);
        }),
        ("commands unread", |world| world.evidence.commands = Reading::Unknown("made so".into())),
        ("another's terminal", |world| {
            known(&mut world.evidence.terminals).iter_mut().for_each(|it| it.host = None);
        }),
        ("another port", |world| {
            known(&mut world.evidence.sockets).iter_mut().for_each(|it| it.local_port = 2375);
        }),
    ];
    for (what, more) in more {
        let mut world = World::settled();
        world.open_terminal("pts/0", 9, "ssh alice");
        world.connect(1, 22);
        more(&mut world);
        world.pass(10 * MINUTE, |world, span| world.flow(0, span.as_secs() * 2_000));
        assert_eq!(shown(&world, Kind::Tcp), Shown::Active, "{what}");
    }
}

#[test]
fn one_busy_core_is_work_and_so_are_many_small_burners() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        world.burn("user.slice/user-1000.slice/session-3.scope", usec(0.12, span));
    });
    assert!(stays_up(&world));

    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        for unit in ["a", "b", "c", "d"] {
            world.burn(&format!("system.slice/{unit}.service"), usec(0.08, span));
        }
    });
    assert!(stays_up(&world));
    assert!(world.state.kind(Kind::Cpu).detail.starts_with("box"));
}

#[test]
fn the_box_s_own_daemons_do_not_count_however_much_they_burn() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        world.burn("system.slice/systemd-journald.service", usec(0.9, span));
        world.burn("system.slice/docker.service", usec(0.02, span));
        world.burn("user.slice/user-1000.slice/session-1.scope", usec(0.012, span));
    });
    assert!(!stays_up(&world));
}

#[test]
fn a_layer_export_inside_dockerd_is_work() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        world.burn("system.slice/docker.service", usec(0.8, span));
    });
    assert!(stays_up(&world));
}

#[test]
fn the_end_of_a_baseline_unit_is_not_work() {
    let mut world = World::settled();
    world.pass(20 * MINUTE, |world, span| {
        world.burn("system.slice/apt-daily.service", usec(1.0, span));
    });
    let before = world.state.last_activity().at;
    // It burns on until it ends between two ticks; its cgroup and its total are gone with it.
    let cpu = known(&mut world.evidence.cpu);
    cpu.total += usec(0.9, Duration::from_secs(20));
    cpu.units.clear();
    world.wait(5 * MINUTE);
    assert_eq!(world.state.last_activity().at, before);
}

#[test]
fn work_in_a_cgroup_that_came_and_went_between_two_ticks_is_seen() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        known(&mut world.evidence.cpu).total += usec(0.9, span);
    });
    assert!(stays_up(&world));
}

#[test]
fn steal_counts_as_demand() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        known(&mut world.evidence.cpu).steal += usec(0.9, span);
    });
    assert!(stays_up(&world));
}

#[test]
fn one_spike_does_not_reset_half_an_hour_and_two_windows_do() {
    let mut world = World::settled();
    world.wait(10 * MINUTE);
    let before = world.state.last_activity().at;
    world.burn("system.slice/cron-job.service", 9_000_000);
    world.wait(5 * MINUTE);
    assert_eq!(world.state.last_activity().at, before);
    world.pass(3 * MINUTE, |world, span| {
        world.burn("system.slice/cron-job.service", usec(0.14, span));
    });
    assert!(world.state.last_activity().at > before);
}

#[test]
fn ten_core_seconds_at_once_are_no_spike() {
    let mut world = World::settled();
    let before = world.state.last_activity().at;
    world.burn("system.slice/cron-job.service", 11_000_000);
    world.wait(MINUTE);
    assert!(world.state.last_activity().at > before);
}

#[test]
fn a_rate_is_dated_by_its_last_busy_interval_not_by_the_window() {
    let mut world = World::settled();
    world.wait(5 * MINUTE);
    world.transfer("eth0", 50 << 20);
    let moved = world.now;
    world.wait(10 * MINUTE);
    let seen = world.state.last_activity().at;
    assert!(seen >= moved && seen <= moved + world.config.tick, "{seen}");
}

#[test]
fn a_slow_download_is_work_and_a_log_shipper_is_not() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| world.transfer("eth0", span.as_secs() * 20_000));
    assert!(stays_up(&world));

    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| world.transfer("eth0", span.as_secs() * 400));
    assert!(!stays_up(&world));
}

#[test]
fn disk_bytes_and_waiting_for_io_are_work() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        known(&mut world.evidence.disk).bytes += span.as_secs() * 200_000;
    });
    assert!(stays_up(&world));

    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        *known(&mut world.evidence.disk).pressure.as_mut().unwrap() += usec(0.2, span);
    });
    assert!(stays_up(&world));

    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        known(&mut world.evidence.disk).bytes += span.as_secs() * 7_400;
    });
    assert!(!stays_up(&world));
}

#[test]
fn a_build_counts_even_when_it_sleeps_and_not_for_ever() {
    let mut world = World::settled();
    let build = Build { id: "system.slice:docker:abc".into(), what: "docker build step".into() };
    world.evidence.builds = Reading::Known(vec![build]);
    world.wait(world.config.command_at_most);
    assert!(stays_up(&world));
    world.wait(HOUR);
    assert!(!stays_up(&world));
}

#[test]
fn block_locks_count_for_a_time_and_delay_locks_not_at_all() {
    let mut world = World::settled();
    world.lock("shutdown", "block");
    world.wait(world.config.inhibit_at_most);
    assert!(stays_up(&world));
    world.wait(HOUR);
    assert!(!stays_up(&world));

    for (what, mode) in [("shutdown", "delay"), ("sleep", "block"), ("handle-lid-switch", "block")]
    {
        let mut world = World::settled();
        world.lock(what, mode);
        world.wait(HOUR);
        assert!(!stays_up(&world), "{what} {mode}");
    }
}

#[test]
fn the_age_of_a_lock_outlives_the_daemon() {
    let mut world = World::settled();
    world.lock("idle", "block-weak");
    for _ in 0..26 {
        world.wait(30 * MINUTE);
        world.restart();
    }
    assert!(!stays_up(&world));
}

#[test]
fn package_work_counts_for_an_hour() {
    let mut world = World::settled();
    let lock = PackageLock { path: "/var/lib/dpkg/lock".into(), pid: 5, start: 9 };
    world.evidence.packages = Reading::Known(vec![lock]);
    world.wait(HOUR);
    assert!(stays_up(&world));
    world.wait(HOUR);
    assert!(!stays_up(&world));
}

#[test]
fn a_hold_holds_until_its_time() {
    let mut world = World::settled();
    world.hold(4 * HOUR);
    world.wait(4 * HOUR + 29 * MINUTE);
    assert!(stays_up(&world));
    world.wait(4 * MINUTE);
    assert!(!stays_up(&world));
}

#[test]
fn a_check_says_active_quiet_or_fails_for_a_bounded_time() {
    let mut world = World::settled();
    world.check(Said::Active);
    world.wait(5 * HOUR);
    assert!(stays_up(&world));
    world.check(Said::Unknown("exit 7".into()));
    world.wait(2 * HOUR - MINUTE);
    assert!(stays_up(&world));
    assert_eq!(shown(&world, Kind::Checks), Shown::Unknown);
    world.wait(HOUR);
    assert!(!stays_up(&world));
}

#[test]
fn a_kind_that_is_switched_off_counts_neither_as_active_nor_as_unknown() {
    let mut world = World::settled();
    world.config.evidence.inhibitors = false;
    world.config.evidence.cpu = false;
    world.lock("shutdown", "block");
    world.evidence.cpu = Reading::Unknown("broken".into());
    world.wait(HOUR);
    assert!(!stays_up(&world));
    assert_eq!(shown(&world, Kind::Cpu), Shown::Off);
}

#[test]
fn what_this_agent_s_own_checks_burn_is_no_work() {
    let mut world = World::settled();
    world.pass(2 * HOUR, |world, span| {
        let slice = "guppy.slice/guppy-idle.slice/guppy-idle-stopper.slice";
        world.burn(slice, usec(0.9, span));
    });
    assert!(!stays_up(&world));
}
