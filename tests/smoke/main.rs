//! The laboratory's own proof, on real machines.

use std::time::Duration;

use lab::{Image, Switch, Vm, scenario};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_machine_boots_and_answers() {
    scenario(|| {
        let image = Image::trixie()?;
        let switch = Switch::new()?;
        let vm = Vm::boot(&image, &switch)?;
        lab::say(format_args!(
            "cold boot to the agent's answer: {:.1} s",
            vm.took().as_secs_f64()
        ));
        println!("{}", vm.wait_booted(SOON)?);
        println!("{}", vm.sh("uname -r; ip -br a; systemctl --failed")?.ok()?);
        Ok(())
    });
}
