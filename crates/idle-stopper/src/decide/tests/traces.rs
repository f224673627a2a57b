//! Any trace whatever: never a stop within idle_after of known activity, always one within a
//! bounded time of the last.

use std::time::Duration;

use proptest::prelude::*;
use service::clock::Boottime;

use super::cases;
use super::world::{HOUR, MINUTE, World, known, quiet, usec};
use crate::config::Mode;
use crate::decide::{Phase, Stage};
use crate::sense::{Reading, Said};

/// One stretch of a box's life, or a change in it; numbers are seconds.
#[derive(Clone, Debug)]
enum Stretch {
    Quiet(u64),
    /// Quiet until the box warns, so that what follows falls into the warning.
    Warned,
    Keys(u64),
    Compile(u64),
    Download(u64),
    Copy(u64),
    Disk(u64),
    Command(u64),
    Build(u64),
    Lock(u64),
    /// Shorter than `package_at_most`.
    Package(u64),
    Hold(u64),
    Broken(u64),
    Check(u64),
    Gap(u64),
    /// The daemon is killed; nothing can be read at the first look of the next, if so.
    Restart {
        blind: bool,
    },
    /// What logind, systemd and the last resort answer from here on.
    Refuse([bool; 3]),
    /// The hooks take so long from here on, and this happens meanwhile.
    Hooks(u64, Meanwhile),
    /// The config is reloaded: `idle_after` and `warning`.
    Reload(u64, u64),
    Mode(Mode),
}

#[derive(Clone, Copy, Debug)]
enum Meanwhile {
    Nothing,
    Bytes,
    Key,
    Command,
}

/// The shortest times that a reload may set.
const SHORTEST_IDLE: u64 = 600;
const SHORTEST_WARNING: u64 = 30;

fn stretch() -> impl Strategy<Value = Stretch> {
    let seconds = 1_u64..4_000;
    let meanwhile = prop::sample::select(vec![
        Meanwhile::Nothing,
        Meanwhile::Bytes,
        Meanwhile::Key,
        Meanwhile::Command,
    ]);
    prop_oneof![
        8 => seconds.clone().prop_map(Stretch::Quiet),
        4 => Just(Stretch::Warned),
        2 => (1_u64..200).prop_map(Stretch::Quiet),
        2 => seconds.clone().prop_map(Stretch::Keys),
        2 => seconds.clone().prop_map(Stretch::Compile),
        2 => seconds.clone().prop_map(Stretch::Download),
        1 => seconds.clone().prop_map(Stretch::Copy),
        1 => seconds.clone().prop_map(Stretch::Disk),
        2 => seconds.clone().prop_map(Stretch::Command),
        1 => seconds.clone().prop_map(Stretch::Build),
        1 => seconds.clone().prop_map(Stretch::Lock),
        1 => (1_u64..3_500).prop_map(Stretch::Package),
        2 => seconds.clone().prop_map(Stretch::Hold),
        2 => seconds.clone().prop_map(Stretch::Broken),
        2 => seconds.clone().prop_map(Stretch::Check),
        2 => seconds.prop_map(Stretch::Gap),
        3 => any::<bool>().prop_map(|blind| Stretch::Restart { blind }),
        2 => any::<[bool; 3]>().prop_map(Stretch::Refuse),
        2 => (0_u64..100, meanwhile).prop_map(|(take, meanwhile)| Stretch::Hooks(take, meanwhile)),
        1 => (SHORTEST_IDLE..6_000, SHORTEST_WARNING..600)
            .prop_map(|(idle, warning)| Stretch::Reload(idle, warning)),
        1 => prop::bool::weighted(0.6).prop_map(|stop| Stretch::Mode(mode(stop))),
    ]
}

const fn mode(stop: bool) -> Mode {
    if stop { Mode::Stop } else { Mode::Observe }
}

fn answer(refuses: bool) -> Result<(), String> {
    if refuses { Err("no".to_owned()) } else { Ok(()) }
}

fn unreadable<T>() -> Reading<T> {
    Reading::Unknown("EIO".to_owned())
}

/// What moves meanwhile might be the hooks' own.
fn hooks_run(world: &World) -> bool {
    matches!(world.state.phase(), Phase::Stopping { stage: Stage::Hooks { .. }, .. })
}

/// Moves a megabyte a second. Returns when that was last known: a rate is at the second look that saw
/// some of it.
fn move_bytes(
    world: &mut World,
    span: Duration,
    moved: impl Fn(&mut World, u64),
) -> Option<Boottime> {
    let (mut looks, mut known_at) = (0, None);
    world.pass(span, |world, span| {
        if looks >= 2 && world.stopped.is_none() {
            known_at = Some(world.now);
        }
        let is_seen = span >= Duration::from_secs(10) && !hooks_run(world);
        looks = if is_seen { looks + 1 } else { 0 };
        moved(world, span.as_secs() * 1_000_000);
    });
    known_at
}

/// Lives through a stretch; returns when it was last known to be active, if it was: what came and
/// went between two looks, nobody knows of.
fn live(world: &mut World, stretch: &Stretch) -> Option<Boottime> {
    let before = world.looked;
    let mut worked = None;
    let span = |seconds| Duration::from_secs(seconds);
    let mut is_presence = false;
    match *stretch {
        Stretch::Quiet(seconds) => world.wait(span(seconds)),
        Stretch::Warned => {
            let end = world.now + 3 * HOUR;
            while !world.is_warned() && world.now < end && world.stopped.is_none() {
                world.wait(span(10));
            }
        }
        Stretch::Keys(seconds) => {
            world.pass(span(seconds), |world, _| world.press_key());
            is_presence = true;
        }
        Stretch::Compile(seconds) => world.pass(span(seconds), |world, span| {
            world.burn("user.slice/user-1000.slice/session-1.scope", usec(1.5, span));
            // Known only once it is no spike any more, and not what might be the hooks' own.
            if span >= Duration::from_secs(10) && !hooks_run(world) && world.stopped.is_none() {
                worked = Some(world.now);
            }
        }),
        Stretch::Download(seconds) => {
            worked = move_bytes(world, span(seconds), |world, bytes| world.transfer("eth0", bytes));
        }
        Stretch::Copy(seconds) => {
            if known(&mut world.evidence.sockets).is_empty() {
                world.connect(7, 22);
            }
            worked = move_bytes(world, span(seconds), |world, bytes| world.flow(bytes, 0));
        }
        Stretch::Disk(seconds) => {
            worked = move_bytes(world, span(seconds), |world, bytes| {
                known(&mut world.evidence.disk).bytes += bytes;
            });
        }
        Stretch::Command(seconds) => {
            world.command("make", false);
            world.wait(span(seconds));
            world.evidence.commands = quiet().commands;
            is_presence = true;
        }
        Stretch::Build(seconds) => {
            world.build();
            world.wait(span(seconds));
            world.evidence.builds = quiet().builds;
            is_presence = true;
        }
        Stretch::Lock(seconds) => {
            world.lock("shutdown", "block");
            world.wait(span(seconds));
            world.evidence.inhibitors = quiet().inhibitors;
            is_presence = true;
        }
        Stretch::Package(seconds) => {
            world.package();
            world.wait(span(seconds));
            world.evidence.packages = quiet().packages;
            is_presence = true;
        }
        Stretch::Hold(seconds) => {
            world.hold(span(seconds));
            world.wait(span(seconds));
            world.evidence.holds = quiet().holds;
            is_presence = true;
        }
        Stretch::Broken(seconds) => {
            world.evidence.builds = unreadable();
            world.wait(span(seconds));
            world.evidence.builds = quiet().builds;
        }
        Stretch::Check(seconds) => {
            world.check(Said::Active);
            world.wait(span(seconds));
            world.check(Said::Quiet);
            is_presence = true;
        }
        Stretch::Gap(seconds) => world.now = world.now + span(seconds),
        Stretch::Restart { blind } => {
            world.restart();
            if blind {
                let seen = world.evidence.clone();
                world.evidence.terminals = unreadable();
                world.evidence.commands = unreadable();
                world.evidence.cpu = unreadable();
                world.evidence.inhibitors = unreadable();
                world.look();
                world.evidence = seen;
            }
        }
        Stretch::Refuse([logind, systemd, last_resort]) => {
            world.power_off = answer(logind);
            world.force = answer(systemd);
            world.last_resort = answer(last_resort);
        }
        Stretch::Hooks(take, meanwhile) => {
            world.hooks_take = span(take);
            world.during_hooks = match meanwhile {
                Meanwhile::Nothing => |_| {},
                Meanwhile::Bytes => |world| world.transfer("eth0", 1 << 30),
                Meanwhile::Key => |world| {
                    world.press_key();
                    world.came_back = Some(world.now);
                },
                Meanwhile::Command => |world| {
                    world.command("make", false);
                    world.came_back = Some(world.now);
                },
            };
        }
        Stretch::Reload(idle, warning) => {
            world.config.idle_after = span(idle);
            world.config.warning = span(warning);
        }
        Stretch::Mode(mode) => world.config.mode = mode,
    }
    // Who came back while the hooks ran goes again with the stretch.
    world.evidence.commands = quiet().commands;
    if is_presence && world.looked != before { world.looked } else { worked }
}

/// A settled box with a shell open on it.
fn begin() -> World {
    let mut world = World::new();
    world.open_terminal("pts/0", 9, "ssh alice");
    world
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn never_within_idle_time_of_known_activity(stretches in prop::collection::vec(stretch(), 1..40)) {
        let mut world = begin();
        let mut last = Boottime::from_millis(0);
        let mut shortest = (world.config.idle_after, world.config.warning);
        for stretch in &stretches {
            let active = live(&mut world, stretch);
            let (idle, warning) = shortest;
            shortest = (idle.min(world.config.idle_after), warning.min(world.config.warning));
            last = last.max(active.unwrap_or(last)).max(world.came_back.unwrap_or(last));
            if let Some(stopped) = world.stopped {
                let (idle, warning) = shortest;
                prop_assert!(stopped.since(last) >= idle, "stopped at {stopped}, active at {last}");
                prop_assert!(world.was_fairly_warned(warning), "stopped at {stopped} unwarned");
                break;
            }
        }
    }

    #[test]
    fn always_within_bounded_time_of_the_last(
        stretches in prop::collection::vec(stretch(), 0..40),
        fails in any::<[bool; 4]>(),
        refuses in any::<[bool; 2]>(),
    ) {
        let mut world = begin();
        for stretch in &stretches {
            live(&mut world, stretch);
        }
        if world.stopped.is_some() {
            return Ok(());
        }
        // From here on nothing happens, some sensors fail for ever, and so do all orders but one.
        let [cpu, builds, commands, checks] = fails;
        if cpu { world.evidence.cpu = unreadable(); }
        if builds { world.evidence.builds = unreadable(); }
        if commands { world.evidence.commands = unreadable(); }
        if checks { world.evidence.checks = unreadable(); }
        let [logind, systemd] = refuses;
        world.power_off = answer(logind);
        world.force = answer(systemd);
        world.last_resort = Ok(());
        world.config.mode = Mode::Stop;
        world.during_hooks = |_| {};
        let last = world.now;
        world.wait(48 * HOUR);
        let config = &world.config;
        // The last: two retries with the longest delay between them, and an order that was taken
        // before and never carried out.
        let bound = config.grace + config.unknown_at_most + config.window
            + config.idle_after + config.warning + config.hooks_at_most + 2 * config.tick + MINUTE
            + 30 * MINUTE;
        let stopped = world.stopped;
        prop_assert!(stopped.is_some_and(|at| at.since(last) <= bound), "{stopped:?} after {last}");
    }
}
