//! A tailnet without an internet: Tailscale's own programs, built from their modules, and the control
//! server and relay that its authors test them with (`peers/`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::namespace::Namespace;
use crate::process::{Output, PATIENCE, Spawned, run};
use crate::{cache, ledger, wait};

/// For what a loaded machine does in its own time.
const LONG: Duration = Duration::from_secs(300);

/// The folder with all programs of `peers/`, built once.
pub fn programs() -> Result<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let parts = cache::parts_of(&source)?;
    cache::folder_of("peers", cache::key(parts.iter().map(Vec::as_slice)), |folder| {
        crate::say("building Tailscale");
        let start = Instant::now();
        let mut build = Command::new(source.join("build"));
        build.arg(folder);
        run(build, b"", Duration::from_secs(3600))?.ok().context("cannot build Tailscale")?;
        crate::say(format_args!("built Tailscale in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(())
    })
}

/// A host that runs what makes a tailnet of others, and hands out Tailscale to them.
#[derive(Debug)]
pub struct Tailnet {
    host: Namespace,
    programs: PathBuf,
    _servers: [Spawned; 2],
}

impl Tailnet {
    /// Starts both and waits until they listen.
    pub fn start(host: Namespace) -> Result<Self> {
        let programs = programs()?;
        let folder = programs.display();
        let servers = [
            host.spawn(&format!("exec {folder}/tailnet --address {} 2>/dev/null", host.address()))?,
            host.spawn(&format!(
                "exec python3 -m http.server --directory {folder} 8000 >/dev/null 2>&1"
            ))?,
        ];
        let tailnet = Self { host, programs, _servers: servers };
        wait::until_true("the tailnet to listen", LONG, || {
            let listen =
                format!(": </dev/tcp/{0}/8080 && : </dev/tcp/{0}/8000", tailnet.host.address());
            Ok(tailnet.host.sh(&format!("{{ {listen}; }} 2>/dev/null"))?.status == 0)
        })?;
        Ok(tailnet)
    }

    /// Where it is reached.
    #[must_use]
    pub fn address(&self) -> &str {
        self.host.address()
    }

    /// Where a host gets Tailscale from: an archive to unpack over `/`.
    #[must_use]
    pub fn archive(&self) -> String {
        format!("http://{}:8000/box.tar", self.host.address())
    }

    /// The words with which a host joins.
    #[must_use]
    pub fn up(&self) -> String {
        let control = self.host.address();
        format!("up --login-server=http://{control}:8080 --accept-dns=false --timeout=120s")
    }

    /// Makes these prefixes all that a node may route, as a person does in the admin console.
    pub fn approve(&self, node: &str, routes: &[&str]) -> Result<()> {
        let url = format!("http://{}:8081/routes/{node}", self.host.address());
        let routes = routes.join(" ");
        self.host.sh(&format!("curl -sS --fail-with-body --data '{routes}' {url}"))?.ok().map(drop)
    }
}

/// A person's own machine in the tailnet, with a network device of its own: the kernel's packets go
/// by it.
#[derive(Debug)]
pub struct Device {
    /// The machine itself.
    pub host: Namespace,
    place: PathBuf,
    programs: PathBuf,
    daemon: Spawned,
}

impl Device {
    /// Starts Tailscale on a host and joins under a name.
    pub fn join(tailnet: &Tailnet, host: Namespace, name: &str) -> Result<Self> {
        let (place, _) = ledger::place("gt")?;
        let (there, programs) = (place.display(), tailnet.programs.display());
        let daemon = host.spawn(&format!(
            "exec {programs}/tailscaled --no-logs-no-support --state=mem: --statedir={there} \
             --socket={there}/socket >{there}/log 2>&1"
        ))?;
        let device = Self { host, place, programs: tailnet.programs.clone(), daemon };
        wait::until_true("the device's tailscaled", LONG, || {
            Ok(device.place.join("socket").exists())
        })?;
        device.tailscale(&format!("{} --hostname={name}", tailnet.up()))?;
        Ok(device)
    }

    /// Runs `tailscale WORDS` and gives what it prints.
    pub fn tailscale(&self, words: &str) -> Result<String> {
        let (there, programs) = (self.place.display(), self.programs.display());
        let command = format!(
            "env XDG_CONFIG_HOME={there} {programs}/tailscale --socket={there}/socket {words}"
        );
        self.host.sh_within(LONG, &command)?.ok().with_context(|| format!("tailscale {words}"))
    }

    /// Its IPv4 and its IPv6 address in the tailnet.
    pub fn addresses(&self) -> Result<[String; 2]> {
        Ok([self.tailscale("ip -4")?, self.tailscale("ip -6")?])
    }

    /// Starts a program of `peers/` on it that is spoken to through its pipes.
    pub fn program(&self, name: &str, arguments: &[&str]) -> Result<Spawned> {
        let program = self.programs.join(name);
        let mut command = self.host.command(&program.to_string_lossy());
        command.args(arguments);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        Spawned::start(&mut command)
    }

    /// Asks a web server on the way that the kernel chooses: what it answers, or nothing if no
    /// answer comes within the time.
    pub fn get(&self, url: &str, within: Duration) -> Result<Option<String>> {
        get(url, within, |command| self.host.sh_within(PATIENCE, command))
    }
}

/// The same from any host, given as what runs a command there.
pub fn get(
    url: &str,
    within: Duration,
    run: impl FnOnce(&str) -> Result<Output>,
) -> Result<Option<String>> {
    let seconds = within.as_secs_f64();
    // A connection each time, and no proxy that the environment might name.
    let asked = run(&format!("curl -sS -g --noproxy '*' --fail --max-time {seconds} '{url}'"))?;
    Ok((asked.status == 0).then(|| asked.stdout.trim_end().to_owned()))
}

impl Drop for Device {
    fn drop(&mut self) {
        self.daemon.kill();
        ledger::leave(&self.place);
    }
}
