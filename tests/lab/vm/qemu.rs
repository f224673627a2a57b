//! The qemu process: its command line, its taps, its end.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::accelerator;
use super::console::Console;
use crate::image::Image;
use crate::namespace::Switch;
use crate::process::Spawned;
use crate::qmp::Qmp;
use crate::wait;

/// For every machine: what a test never needs and an emulated boot pays for is off, addresses
/// are given by name (`eth0`), and both the kernel and a login are on the serial console.
const ARGUMENTS: &str = "root=/dev/vda console=ttyS0 net.ifnames=0 nokaslr mitigations=off \
    selinux=0 apparmor=0 audit=0 cryptomgr.notests no_timer_check tsc=reliable loglevel=4 panic=0";

/// One network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NicPlan {
    pub(super) address: String,
    mac: String,
}

impl NicPlan {
    pub(super) fn new(address: &str) -> Self {
        let mut mac = String::from("52:54");
        for part in address.split('.') {
            // An address that is none makes a machine without a link; qemu will say so.
            let _ = write!(mac, ":{:02x}", part.parse::<u8>().unwrap_or(0));
        }
        Self { address: address.to_owned(), mac }
    }
}

/// The machine's hardware. A resumed snapshot needs the very same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) memory: u32,
    pub(super) cpus: u32,
    pub(super) nics: Vec<NicPlan>,
    pub(super) arguments: String,
    /// Whether the guest will be put to sleep.
    pub(super) sleeps: bool,
    /// Whether there is a seed disk.
    pub(super) seed: bool,
    /// Size in MiB of the volatile disk below `/home`; none with 0.
    pub(super) volatile_home: u32,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            memory: 1024,
            cpus: 2,
            nics: Vec::new(),
            arguments: String::new(),
            sleeps: false,
            seed: false,
            volatile_home: 0,
        }
    }
}

impl Plan {
    pub(super) fn to_json(&self) -> String {
        let nics: Vec<&str> = self.nics.iter().map(|nic| nic.address.as_str()).collect();
        json!({ "memory": self.memory, "cpus": self.cpus, "nics": nics,
            "arguments": self.arguments, "sleeps": self.sleeps, "seed": self.seed,
            "volatile_home": self.volatile_home })
        .to_string()
    }

    pub(super) fn from_json(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text).context("a snapshot's plan")?;
        let number = |key: &str| value.get(key).and_then(Value::as_u64).unwrap_or_default();
        let nics = value.get("nics").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(Self {
            memory: u32::try_from(number("memory"))?,
            cpus: u32::try_from(number("cpus"))?,
            nics: nics.iter().filter_map(Value::as_str).map(NicPlan::new).collect(),
            arguments: value
                .get("arguments")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            sleeps: value.get("sleeps").and_then(Value::as_bool).unwrap_or_default(),
            seed: value.get("seed").and_then(Value::as_bool).unwrap_or_default(),
            volatile_home: u32::try_from(number("volatile_home"))?,
        })
    }

    /// For cloud-init: the addresses that the switches gave.
    pub(super) fn network_config(&self) -> String {
        let mut text = String::from("version: 2\nethernets:\n");
        for (number, nic) in self.nics.iter().enumerate() {
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "  eth{number}:\n    match: {{ macaddress: \"{}\" }}\n    addresses: [{}/16]\n",
                nic.mac, nic.address
            );
        }
        if self.nics.is_empty() { String::from("version: 2\nethernets: {}\n") } else { text }
    }

    fn kernel_arguments(&self) -> String {
        let mut words = String::from(ARGUMENTS);
        if !self.seed {
            // systemd-network-generator reads these.
            words.push_str(" cloud-init=disabled");
            for (number, nic) in self.nics.iter().enumerate() {
                let _ = write!(words, " ip={}:::255.255.0.0::eth{number}:none", nic.address);
            }
        }
        if self.volatile_home > 0 {
            // Read by the initrd: the first disk is the root's, a seed's comes before this one.
            words.push_str(if self.seed { " lab.home=/dev/vdc" } else { " lab.home=/dev/vdb" });
        }
        format!("{words} {}", self.arguments.trim())
    }
}

/// A running qemu.
#[derive(Debug)]
pub(super) struct Qemu {
    pub(super) qmp: Qmp,
    pub(super) console: Console,
    pub(super) started: Instant,
    process: Mutex<Spawned>,
}

impl Qemu {
    /// Starts the machine from its disk, or from a frozen `state`, with all links plugged in
    /// before its first instruction.
    pub(super) fn start(
        place: &Path,
        name: &str,
        image: &Image,
        plan: &Plan,
        switches: &[Switch],
        state: Option<&Path>,
    ) -> Result<Self> {
        for socket in ["qmp.sock", "agent.sock", "console.sock"] {
            let _ = fs::remove_file(place.join(socket));
        }
        accelerator::probe(image)?;
        let mut command = match switches.first() {
            Some(switch) => switch.command("qemu-system-x86_64"),
            None => Command::new("qemu-system-x86_64"),
        };
        let taps = taps(name, plan);
        command.args(line(place, image, plan, &taps));
        if let Some(state) = state {
            command.arg("-incoming").arg(format!("exec:cat '{}'", state.display()));
        }
        let log = fs::File::create(place.join("qemu.log")).context("cannot make qemu's log")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Instant::now();
        let mut process = Spawned::start(&mut command)?;
        let qmp = Qmp::connect(&place.join("qmp.sock"), || match process.ended()? {
            None => Ok(()),
            Some(code) => {
                let log = fs::read_to_string(place.join("qemu.log")).unwrap_or_default();
                bail!("qemu ended at once with {code}: {log}")
            }
        })?;
        if let Some(first) = switches.first() {
            for (switch, tap) in switches.iter().zip(&taps) {
                switch.plug_tap(first, tap)?;
            }
        }
        if state.is_some() {
            wait::until_true("the frozen state to be read", Duration::from_secs(60), || {
                let status = qmp.execute("query-migrate", json!({}))?;
                Ok(status.get("status").and_then(Value::as_str) == Some("completed"))
            })?;
        }
        let console = Console::open(place)?;
        qmp.execute("cont", json!({}))?;
        Ok(Self { qmp, console, started, process: Mutex::new(process) })
    }

    fn process(&self) -> MutexGuard<'_, Spawned> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// qemu's exit code once it has ended.
    pub(super) fn exit_code(&self) -> Result<Option<i32>> {
        self.process().ended()
    }

    /// Waits for qemu's own end.
    pub(super) fn wait(&self, within: Duration) -> Result<i32> {
        wait::until("qemu to end", within, || self.exit_code())
    }

    /// Ends it as a mains failure would: the guest learns nothing.
    pub(super) fn kill(&self) {
        self.process().kill();
    }

    /// Leaves it running.
    pub(super) fn keep(&self) {
        self.process().keep();
    }
}

/// One interface name per NIC, unique among this process's namespaces.
fn taps(name: &str, plan: &Plan) -> Vec<String> {
    let number = name.rsplit('.').next().unwrap_or(name);
    (0..plan.nics.len()).map(|nic| format!("t{number}.{nic}")).collect()
}

fn line(place: &Path, image: &Image, plan: &Plan, taps: &[String]) -> Vec<String> {
    let at = |name: &str| place.join(name).display().to_string();
    let mut words: Vec<String> = Vec::new();
    let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
    // The i440FX board can sleep and be woken (S3), and boots as fast as any.
    add("-machine", "pc,hpet=on,vmport=off".into());
    let [accelerator, processor] = accelerator::of_this_machine();
    add("-accel", accelerator.into());
    add("-cpu", processor.into());
    add("-smp", plan.cpus.to_string());
    add("-m", plan.memory.to_string());
    add("-display", "none".into());
    add("-vga", "none".into());
    // qemu writes an unpacked kernel into memory at every reset, the one on waking from S3
    // included, over the sleeping one: a machine that sleeps has to unpack its own.
    let kernel = if plan.sleeps { image.packed_kernel() } else { image.kernel() };
    add("-kernel", kernel.display().to_string());
    add("-initrd", image.initrd().display().to_string());
    add("-append", plan.kernel_arguments());
    // Unsafe for the host's own crash only: what the guest flushed survives the end of qemu.
    add("-drive", format!("file={},if=none,id=disk,cache=unsafe,discard=unmap", at("disk.qcow2")));
    add("-device", "virtio-blk-pci,drive=disk".into());
    if plan.seed {
        add("-drive", format!("file={},if=none,id=seed,format=raw,readonly=on", at("seed.iso")));
        add("-device", "virtio-blk-pci,drive=seed".into());
    }
    if plan.volatile_home > 0 {
        let server = format!("server.type=unix,server.path={}", at("home.sock"));
        add("-blockdev", format!("driver=nbd,node-name=home,{server}"));
        // The guest is told of the cache, or it would not flush.
        add("-device", "virtio-blk-pci,drive=home,write-cache=on".into());
    }
    let console = format!(
        "socket,id=console,path={},server=on,wait=off,logfile={},logappend=on",
        at("console.sock"),
        at("console.log")
    );
    add("-chardev", console);
    add("-device", "isa-serial,chardev=console".into());
    add("-device", "virtio-serial-pci".into());
    add("-chardev", format!("socket,id=agent,path={},server=on,wait=off", at("agent.sock")));
    add("-device", "virtserialport,chardev=agent,name=org.qemu.guest_agent.0".into());
    add("-device", "virtio-rng-pci".into());
    for (number, (nic, tap)) in plan.nics.iter().zip(taps).enumerate() {
        add("-netdev", format!("tap,id=nic{number},ifname={tap},script=no,downscript=no"));
        add("-device", format!("virtio-net-pci,netdev=nic{number},mac={},romfile=", nic.mac));
    }
    add("-qmp", format!("unix:{},server=on,wait=off", at("qmp.sock")));
    words.extend(["-S", "-nodefaults", "-no-user-config"].map(String::from));
    words
}
