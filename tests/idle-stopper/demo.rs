//! `packaging/demo idle-stopper`: a box installed by cloud-init survives a silent build and then
//! stops itself, told as it happens.

#[path = "machine.rs"]
#[allow(dead_code, reason = "the tests use the rest of it")]
mod machine;

use std::time::Instant;

use anyhow::{Result, ensure};
use lab::{Release, scenario};

use machine::{Box, IDLE, LONG, WARNING, config, text_of};

fn main() {
    scenario(act);
}

fn act() -> Result<()> {
    let begin = Instant::now();
    let say = |text: &str| println!("{:4.0} s  {text}", begin.elapsed().as_secs_f64());
    say("a Debian 13 box boots, and cloud-init installs guppy-data-plane (kept for the next time)");
    let mut it = Box::new(Release::Trixie, &config(""))?;
    say(&format!(
        "it is up; half an hour is {IDLE} s here, the two minutes of warning are {WARNING} s"
    ));

    let build = it.client.ssh_spawn(
        &it.key,
        &it.vm,
        "dev",
        "",
        "make --silent -f - all <<<$'all:\\n\\tsleep 1000'",
    )?;
    lab::wait::until_true("the build", LONG, || Ok(it.kind("commands")? == "active"))?;
    say("ssh box make: a build begins that prints nothing and burns nothing");
    let since = it.uptime()?;
    let mut told = 0.0;
    lab::wait::until_true("twice the idle time", LONG, || {
        let passed = it.uptime()? - since;
        if passed - told >= IDLE / 2.0 {
            told = passed;
            say(&format!("  guppy idle: {}", text_of(&it.explain()?, "summary")));
        }
        Ok(passed > 2.0 * IDLE)
    })?;
    ensure!(!it.has_stopped_since(since)?, "it stopped in mid-build");
    say("twice the idle time has passed, and the box is up");

    drop(build);
    say("the build ends; nobody is there any more");
    let warned = it.wait_event_after("warning", since, LONG)?;
    say(&format!("  journal: {}", warned.text));
    it.vm.wait_power_off(LONG)?;
    say("the box has switched itself off");

    it.vm.start_again()?;
    say("switched on again, it reads in the journal of the boot before:");
    for line in it.journal(-1)?.iter().filter(|line| line.at > since && !line.event.is_empty()) {
        println!("          {:7.1}  {}", line.at, line.text);
    }
    Ok(())
}
