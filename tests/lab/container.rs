//! The image's tree booted as a systemd container: a quarter of a machine's time and memory, for
//! tests that need no kernel, power or terminal of their own.
//!
//! It shares this machine's kernel and clocks. Its control groups are version 2, with whatever
//! controllers this machine has left for version 2 (perhaps none: `cpu.stat` and PSI are there,
//! limits may not be).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};

use crate::image::Image;
use crate::namespace::{Namespace, Switch};
use crate::process::{Output, PATIENCE, Spawned, host, quietly, run};
use crate::scenario::{self, Keepable};
use crate::terminal::Terminal;
use crate::{ledger, wait};

/// Run in a mount namespace of its own: this machine's control groups may be version 1 or mixed,
/// and its PID 1 anything, so the container gets a clean version 2 view and its own group there.
const START: &str = r#"
set -e
mount --make-rprivate /
umount --recursive /sys/fs/cgroup 2>/dev/null || umount --lazy /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$NAME"
echo $$ >"/sys/fs/cgroup/$NAME/cgroup.procs"
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
exec systemd-nspawn --quiet --boot --directory="$ROOT" --machine="$NAME" --hostname=guppy-box \
    --register=no --keep-unit --network-namespace-path="$NET" --link-journal=no \
    --resolv-conf=off --timezone=off --console=pipe $MORE
"#;

/// A booted container. It ends with its value.
#[derive(Debug)]
pub struct Container {
    name: String,
    place: PathBuf,
    namespace: Option<Namespace>,
    nspawn: Option<Spawned>,
    init: u32,
    took: Duration,
    /// Whether it may change its own network.
    router: bool,
}

impl Container {
    /// Boots the image's tree with `eth0` on a switch and waits until systemd has finished.
    pub fn boot(image: &Image, switch: &Switch) -> Result<Self> {
        Self::boot_with(image, switch, |_| Ok(()))
    }

    /// The same after `prepare` has changed the tree, given as a folder, before the first boot.
    pub fn boot_with(
        image: &Image,
        switch: &Switch,
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        Self::boot_as(image, switch, false, prepare)
    }

    /// The same as [`Self::boot`], of a container whose root is root of its network too: links,
    /// routes, filters and what is below `/proc/sys/net`.
    pub fn boot_router(image: &Image, switch: &Switch) -> Result<Self> {
        Self::boot_as(image, switch, true, |_| Ok(()))
    }

    fn boot_as(
        image: &Image,
        switch: &Switch,
        router: bool,
        prepare: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Self> {
        let (place, place_name) = ledger::place("gc")?;
        // nspawn wants a host name's letters.
        let name = place_name.replace('.', "-");
        let root = overlay(image, &place)?;
        let namespace = switch.host()?;
        // What a machine mounts and cloud-init configures is already so.
        fs::write(root.join("etc/fstab"), "").context("cannot prepare the container")?;
        fs::write(root.join("etc/cloud/cloud-init.disabled"), "")?;
        prepare(&root)?;

        let mut container = Self {
            name,
            place,
            namespace: Some(namespace),
            nspawn: None,
            init: 0,
            took: Duration::ZERO,
            router,
        };
        container.start()?;
        Ok(container)
    }

    fn start(&mut self) -> Result<()> {
        let start = Instant::now();
        ledger::note_cgroup(&cgroup(&self.name))?;
        let mut command = Command::new("unshare");
        command.args(["--mount", "bash", "-c", START]);
        command.env("NAME", &self.name).env("ROOT", self.root());
        let network = self.namespace.as_ref().map_or("", Namespace::name);
        command.env("NET", format!("/run/netns/{network}"));
        if self.router {
            command.env("MORE", "--capability=CAP_NET_ADMIN");
            // What a network of nspawn's own making would be given, too.
            command.env("SYSTEMD_NSPAWN_API_VFS_WRITABLE", "network");
        }
        command.stdin(std::process::Stdio::null());
        let log = self.place.join("console.log");
        let file = fs::File::create(&log).context("cannot make the log")?;
        command.stdout(file.try_clone()?).stderr(file);
        let nspawn = self.nspawn.insert(Spawned::start(&mut command)?);
        self.init = wait::until("the container's first process", Duration::from_secs(120), || {
            if let Some(code) = nspawn.ended()? {
                let said = fs::read_to_string(&log).unwrap_or_default();
                return Err(anyhow!("systemd-nspawn ended with {code}: {said}"));
            }
            Ok(find_init(nspawn.pid()))
        })?;
        wait::until_true("the container's systemd", Duration::from_secs(300), || {
            let state = self.sh("systemctl is-system-running --wait")?;
            Ok(["running", "degraded"].contains(&state.stdout.trim_end()))
        })?;
        self.took = start.elapsed();
        Ok(())
    }

    /// Ends all of its processes at one moment, as a power cut does, but for what a machine's disk
    /// would lose: every write is still there. [`Self::start_again`] boots it.
    pub fn cut(&mut self) -> Result<()> {
        let kill = cgroup(&self.name).join("cgroup.kill");
        fs::write(&kill, "1").with_context(|| format!("cannot write {}", kill.display()))?;
        let mut nspawn = self.nspawn.take().ok_or_else(|| anyhow!("it is off"))?;
        nspawn.wait(PATIENCE).context("after the cut")?;
        ledger::remove_cgroup(&cgroup(&self.name));
        Ok(())
    }

    /// Boots it again from the same disk, with another boot id, and waits as [`Self::boot`] does.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.nspawn.is_none(), "{} is still on", self.name);
        self.start()
    }

    /// How long the boot took.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Its address on the switch.
    #[must_use]
    pub fn address(&self) -> &str {
        self.namespace.as_ref().map_or("", Namespace::address)
    }

    /// Its network namespace, for what has to happen on its links.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.namespace.as_ref()
    }

    /// The process that has this id inside, as this machine numbers it.
    pub fn pid_of(&self, inside: u32) -> Result<u32> {
        let space = |pid: u32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = space(self.init);
        for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
            let name = entry.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
            let ids = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            let last = ids.and_then(|ids| ids.split_whitespace().last());
            if last == Some(&inside.to_string()) && space(pid) == own {
                return Ok(pid);
            }
        }
        Err(anyhow!("no process {inside} in {}", self.name))
    }

    /// Its root folder as this machine sees it.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.place.join("root")
    }

    /// Runs a shell command as root inside, on no terminal and in no session, within a minute.
    pub fn sh(&self, shell: &str) -> Result<Output> {
        self.sh_within(PATIENCE, shell)
    }

    /// Runs a shell command as root inside.
    pub fn sh_within(&self, within: Duration, shell: &str) -> Result<Output> {
        // The command joins the container's own group too: systemd asks the kernel where a
        // process belongs, and one from outside belongs nowhere.
        let join = r#"echo $$ >"/sys/fs/cgroup/lab.scope/cgroup.procs" 2>/dev/null || {
            mkdir -p /sys/fs/cgroup/lab.scope && echo $$ >/sys/fs/cgroup/lab.scope/cgroup.procs; }
            export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
            eval "$1""#;
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--"]);
        command.args(["env", "-i", "bash", "-c", join, "bash", shell]);
        run(command, b"", within)
    }

    /// A shell command as root on a terminal inside.
    pub fn terminal(&self, shell: &str) -> Result<Terminal> {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--", "script"]);
        Terminal::start(command, shell)
    }

    /// Writes a file, its folders too.
    pub fn write_file(&self, path: &str, content: &[u8]) -> Result<()> {
        self.sh(&format!("mkdir -p \"$(dirname '{path}')\""))?.ok()?;
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init.to_string(), "--all", "--"]);
        command.args(["bash", "-c", "cat >\"$1\"", "bash", path]);
        run(command, content, PATIENCE)?.ok().map(drop)
    }

    /// Waits until the container has switched itself off.
    pub fn wait_power_off(&mut self, within: Duration) -> Result<()> {
        let nspawn = self.nspawn.as_mut().ok_or_else(|| anyhow!("it is off"))?;
        wait::until("the container to end", within, || nspawn.ended()).map(drop)
    }
}

/// The tree, writable: changes go to the container's own folder.
fn overlay(image: &Image, place: &Path) -> Result<PathBuf> {
    for folder in ["upper", "work", "root"] {
        fs::create_dir(place.join(folder)).context("cannot make the container's folders")?;
    }
    let root = place.join("root");
    let options = format!(
        "lowerdir={},upperdir={1}/upper,workdir={1}/work",
        image.tree().display(),
        place.display()
    );
    ledger::note_mount(&root)?;
    host("mount", &["-t", "overlay", "-o", &options, "overlay", &root.to_string_lossy()])?;
    Ok(root)
}

/// Where the container's group is seen from this machine.
fn cgroup(name: &str) -> PathBuf {
    let mixed = Path::new("/sys/fs/cgroup/unified");
    let base = if mixed.exists() { mixed } else { Path::new("/sys/fs/cgroup") };
    base.join(name)
}

/// nspawn's child that is process 1 of its own namespace.
fn find_init(nspawn: u32) -> Option<u32> {
    let path = format!("/proc/{nspawn}/task/{nspawn}/children");
    let children = fs::read_to_string(path).ok()?;
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).find(|pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let name = status.lines().find_map(|line| line.strip_prefix("Name:"));
        inner.and_then(|ids| ids.split_whitespace().last()) == Some("1")
            && name.map(str::trim) == Some("systemd")
    })
}

impl Drop for Container {
    fn drop(&mut self) {
        let ended = Ended {
            name: self.name.clone(),
            place: self.place.clone(),
            _namespace: self.namespace.take(),
            nspawn: self.nspawn.take(),
            init: self.init,
        };
        scenario::let_go(Box::new(ended));
    }
}

/// What is left of a container whose value is gone: ended with its folder, or kept for a person.
struct Ended {
    name: String,
    place: PathBuf,
    _namespace: Option<Namespace>,
    nspawn: Option<Spawned>,
    init: u32,
}

impl Keepable for Ended {
    fn keep(self: Box<Self>) {
        let how = format!("nsenter --target {} --all bash", self.init);
        scenario::kept(&format!("container {}", self.name), &how);
        std::mem::forget(self);
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // The group first: nspawn alone would leave what it started.
        ledger::remove_cgroup(&cgroup(&self.name));
        drop(self.nspawn.take());
        ledger::remove_cgroup(&cgroup(&self.name));
        quietly("umount", &["--lazy", &self.place.join("root").to_string_lossy()]);
        ledger::leave(&self.place);
    }
}
