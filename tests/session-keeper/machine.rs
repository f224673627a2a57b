//! A box for agents: `/home` on a disk that forgets at a power cut, claude and the scripted agent
//! installed, and their provider on another host.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use lab::{
    AptRepo, Container, Image, Namespace, Output, Release, Snapshot, SshKey, Switch, Vm, VmBuilder,
};

use crate::provider::Provider;
use crate::real::{Agent, installed};

/// For what takes as long as it takes.
pub(crate) const LONG: Duration = Duration::from_secs(300);
/// Whose agents they are.
pub(crate) const USER: &str = "dev";
/// Its home in the machine.
pub(crate) const HOME: &str = "/home/dev";

/// What a virtual machine and a container have in common here.
pub(crate) trait Machine {
    /// Runs a shell command as root.
    fn sh_within(&self, within: Duration, shell: &str) -> Result<Output>;
    /// Writes a file, its folders too.
    fn write_file(&self, path: &str, content: &[u8]) -> Result<()>;

    /// Runs a script as the agents' user, in no session of logind's: it is asked often.
    fn user(&self, script: &str) -> Result<Output> {
        self.user_within(LONG, script)
    }

    /// The same of what takes longer.
    fn user_within(&self, within: Duration, script: &str) -> Result<Output> {
        let shell = format!(
            "cd / && runuser -u {USER} -- env -i HOME={HOME} USER={USER} SHELL=/bin/bash \
             LANG=C.UTF-8 PATH=/usr/local/bin:/usr/bin:/bin bash -s <<'END'\n{script}\nEND"
        );
        self.sh_within(within, &shell)
    }
}

impl Machine for Container {
    fn sh_within(&self, within: Duration, shell: &str) -> Result<Output> {
        self.sh_within(within, shell)
    }

    fn write_file(&self, path: &str, content: &[u8]) -> Result<()> {
        self.write_file(path, content)
    }
}

impl Machine for Vm {
    fn sh_within(&self, within: Duration, shell: &str) -> Result<Output> {
        self.sh_within(within, shell)
    }

    fn write_file(&self, path: &str, content: &[u8]) -> Result<()> {
        self.write_file(path, content)
    }
}

/// The box.
pub(crate) struct Box {
    pub(crate) vm: Vm,
    pub(crate) provider: Provider,
    /// Where the provider is: its cable can be pulled.
    pub(crate) far: Namespace,
    _switch: Switch,
}

/// Hardware that four real agents and sixteen scripted ones fit in: claude takes 280 MB at rest.
fn hardware(release: Release, switch: &Switch) -> Result<VmBuilder> {
    let builder = Vm::builder(&Image::of(release)?).nic_at(switch, "10.99.0.10");
    Ok(builder.memory(3072).volatile_home(1024))
}

/// Puts claude and the scripted agent into a machine, and a key that its user lets in.
fn prepare(vm: &Vm, host: &Namespace, key: &SshKey) -> Result<()> {
    for user in ["root", USER] {
        key.authorize(vm, user)?;
    }
    let programs = installed()?;
    // By the network: the guest agent's line is too slow for a quarter of a gigabyte.
    let address = host.address();
    let _server = host.spawn(&format!(
        "exec python3 -m http.server --bind {address} --directory {} 8000 >/dev/null 2>&1",
        programs.display()
    ))?;
    let fetch = format!(
        "cd /usr/local/bin && curl -sS --fail --retry 20 --retry-delay 1 --retry-connrefused \
         -o claude http://{address}:8000/claude && chmod 755 claude"
    );
    vm.sh_within(LONG, &fetch)?.ok().context("cannot fetch claude")?;
    vm.write_file("/usr/local/bin/scripted", &std::fs::read(scripted())?)?;
    vm.sh("chmod 755 /usr/local/bin/scripted")?.ok().map(drop)
}

/// The scripted agent.
pub(crate) fn scripted() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/scripted")
}

/// What [`prepare`] does changes with these.
fn prepared(key: &SshKey) -> Result<Vec<Vec<u8>>> {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/real");
    let mut parts = lab::cache::parts_of(&recipe)?;
    parts.push(std::fs::read(scripted())?);
    parts.push(include_bytes!("machine.rs").to_vec());
    parts.push(key.public().as_bytes().to_vec());
    Ok(parts)
}

/// The box without a keeper, frozen.
fn bare(release: Release, key: &SshKey) -> Result<Snapshot> {
    let switch = Switch::new()?;
    let host = switch.host()?;
    let prepared = prepared(key)?;
    let prepared: Vec<&[u8]> = prepared.iter().map(Vec::as_slice).collect();
    hardware(release, &switch)?.frozen("agents", &prepared, |vm| prepare(vm, &host, key))
}

/// The box as cloud-init has left it, with the packages under test, frozen.
fn control_plane(release: Release, key: &SshKey) -> Result<Snapshot> {
    let debs = lab::apt_repo::built()?;
    let switch = Switch::new()?;
    let host = switch.host()?;
    let repository = AptRepo::serve(&switch, &debs)?;
    let mut contents = lab::apt_repo::contents(&debs)?;
    contents.extend(prepared(key)?);
    let prepared: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    hardware(release, &switch)?.user_data(&cloud_config(&repository)?).frozen(
        "control-plane",
        &prepared,
        |vm| {
            vm.wait_cloud_init(LONG)?;
            prepare(vm, &host, key)
        },
    )
}

/// The file that we ship, with the tests' repository and user in the two places that say so.
fn cloud_config(repository: &AptRepo) -> Result<String> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/cloud-init/control-plane.yaml");
    let shipped = std::fs::read_to_string(file).with_context(|| format!("no {file}"))?;
    let mut text = shipped.clone();
    for (ours, theirs) in [
        ("deb [trusted=yes] http://guppy-packages.example/debian ./", repository.source()),
        ("guppy-session-keeper@debian.service", format!("guppy-session-keeper@{USER}.service")),
    ] {
        anyhow::ensure!(shipped.matches(ours).count() == 1, "{ours} stands in one place");
        text = text.replace(ours, &theirs);
    }
    Ok(text)
}

impl Box {
    /// A box without a keeper.
    pub(crate) fn bare(release: Release) -> Result<Self> {
        let key = SshKey::cached()?;
        Self::start(&bare(release, &key)?)
    }

    /// A box on which the shipped cloud-init has switched a keeper on.
    pub(crate) fn control_plane(release: Release) -> Result<Self> {
        let key = SshKey::cached()?;
        Self::start(&control_plane(release, &key)?)
    }

    /// Resumes a frozen box beside a provider, which its user's claude is told of.
    fn start(snapshot: &Snapshot) -> Result<Self> {
        let switch = Switch::new()?;
        let far = switch.host()?;
        let provider = Provider::start(&far)?;
        let vm = snapshot.start(&[&switch])?;
        vm.set_clock()?;
        for (name, text) in Agent::Claude.settings(Path::new(HOME), &provider.url()) {
            vm.write_file(&format!("{HOME}/{name}"), text.as_bytes())?;
        }
        vm.sh(&format!("mkdir -p {HOME}/work && chown -R {USER}: {HOME} && sync"))?.ok()?;
        Ok(Self { vm, provider, far, _switch: switch })
    }

    /// Runs a command as the user in its folder `work`, with what its agents are started with.
    pub(crate) fn as_user(&self, command: &str, input: &str) -> Result<Output> {
        let environment = Agent::Claude.environment(&self.provider.url());
        let words: Vec<String> =
            environment.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let line = format!(
            "cd {HOME}/work && printf '%s' '{input}' | runuser -u {USER} -- env {} {command}",
            words.join(" ")
        );
        self.vm.sh_within(LONG, &line)
    }
}
