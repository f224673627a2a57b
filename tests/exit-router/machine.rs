//! The box as a whole machine with Debian's own kernel, which has WireGuard, and all three layers: what
//! no container can show.

use anyhow::{Result, ensure};
use lab::customer::Vpn;
use lab::{Release, say, scenario};

use crate::disturbances::LAYERS;
use crate::guppy::Guppy;
use crate::traffic::kinds;
use crate::world::{LONG, World, of};

const STOP: &str = "systemctl kill --kill-whom=main --signal=STOP guppy-exit-router.service";
const CONTINUE: &str = "systemctl kill --kill-whom=main --signal=CONT guppy-exit-router.service";

fn machine(release: Release) -> Result<World> {
    let it = World::without_agent(release, Guppy::machine, &[])?;
    it.install()?;
    Ok(it)
}

#[test]
#[ignore = "seven to ten minutes of an emulated machine: tests/run --full"]
fn on_a_machine_the_kernels_own_wireguard_reaches_the_customer_over_reboots_and_clock_steps() {
    scenario(|| {
        for release in Release::of_this_run() {
            story(*release)?;
        }
        Ok(())
    });
}

/// The uplink leads to the internet from the first moment of a boot on.
fn lasting_way(it: &World) -> Result<()> {
    let ([v4, v6], [_, own6]) = (it.internet.gateways()?, it.own_addresses()?);
    it.guppy
        .sh(&format!(
            "file=$(networkctl status eth0 | sed -n 's/.*Network File: *//p')
             folder=/etc/systemd/network/$(basename \"${{file:?}}\").d
             mkdir -p $folder
             printf '[Network]\\nAddress={own6}/64\\nGateway={v4}\\nGateway={v6}\\n' >$folder/way.conf
             networkctl reload && networkctl reconfigure eth0"
        ))
        .map(drop)
}

fn story(release: Release) -> Result<()> {
    let both = kinds(&["v4", "v6"]);
    let mut it = machine(release)?;
    lasting_way(&it)?;
    it.raise(Vpn::WireGuard)?;
    it.guppy.sh("test -e /sys/module/wireguard")?;
    ensure!(of(&it.status()?, "/layers/tc") == true, "{:#}", it.status()?);
    let mut judge = it.judge()?;
    let mut traffic = it.traffic()?;
    traffic.until_answered(&both)?;
    layers(&it, |what| {
        traffic.until_sent(&both)?;
        let leaks = it.leaks(&mut judge)?;
        ensure!(leaks.is_empty(), "{what}: {leaks:#?}");
        it.until_layers()?;
        let filter = "tc filter show dev eth0 egress | grep -q tailscale0";
        it.until("the filter of the uplink", |it| Ok(it.guppy.try_sh(filter)?.status == 0))?;
        traffic.until_answered(&both).map(drop)
    })?;

    // Durations are not of the wall clock.
    for step in ["+2 days", "-4 days", "+2 days"] {
        it.guppy.sh(&format!("date --set='{step}'"))?;
        traffic.until_answered(&both)?;
    }

    // The packets of a peer come all the time, from before the box's first program to after its last.
    let Guppy::Vm(vm, _) = &it.guppy else { anyhow::bail!("no machine") };
    for how in ["systemctl reboot", "echo b >/proc/sysrq-trigger"] {
        // What comes after is not answered: the machine goes away under it.
        let _ = vm.sh(&format!("nohup sh -c '{how}' >/dev/null 2>&1 &"));
        vm.wait_reboot(LONG)?;
        vm.wait_ready(2 * LONG)?;
        traffic.until_answered(&both)?;
        let leaks = it.leaks(&mut judge)?;
        ensure!(leaks.is_empty(), "over `{how}`: {leaks:#?}");
        it.own_way_is_untouched()?;
    }

    // The control: without any of the three the same packets leave, and then it closes again. The far
    // end keeps the connections that it lets out, and asks for them; what the box knows nothing of any
    // more it refuses by the uplink. So it comes last, and then nothing comes from there.
    let all = LAYERS.map(|(_, gone)| gone).join("\n");
    it.guppy.sh(&format!("{STOP}\n{all}"))?;
    traffic.until_sent(&both)?;
    ensure!(!it.leaks(&mut judge)?.is_empty(), "without any layer nothing leaves either");
    let [own4, own6] = it.own_addresses()?;
    let unheard = format!("ip route add blackhole {own4} && ip route add blackhole {own6}");
    it.internet.host().sh(&unheard)?.ok()?;
    it.guppy.sh(CONTINUE)?;
    it.until_layers()?;
    traffic.until_answered(&both)?;
    it.leaks(&mut judge)?;
    traffic.until_sent(&both)?;
    let leaks = it.leaks(&mut judge)?;
    ensure!(leaks.is_empty(), "after all layers were back: {leaks:#?}");
    say(format_args!("{}: layers, clock steps and two reboots, 0 packets leaked", release.name()));
    Ok(())
}

/// Each alone, and each two of the three, may go.
fn layers(it: &World, mut judged: impl FnMut(&str) -> Result<()>) -> Result<()> {
    for (at, (one, gone)) in LAYERS.iter().enumerate() {
        it.guppy.sh(gone)?;
        judged(&format!("without {one}"))?;
        for (other, gone_too) in LAYERS.iter().skip(at + 1) {
            // The agent must not be quicker than the test: only what is left may hold.
            it.guppy.sh(&format!("{STOP}\n{gone}\n{gone_too}"))?;
            let outcome =
                judged_while_stopped(it, &mut judged, &format!("without {one} and {other}"));
            outcome?;
        }
    }
    Ok(())
}

fn judged_while_stopped(
    it: &World,
    judged: &mut impl FnMut(&str) -> Result<()>,
    what: &str,
) -> Result<()> {
    // A peer's packets meet what is left, for as long as it takes to ask the box ten questions.
    for _ in 0..10 {
        it.guppy.sh("ip rule; nft list tables; tc filter show dev eth0 egress")?;
    }
    it.guppy.sh(CONTINUE)?;
    judged(what)
}
