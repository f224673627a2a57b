//! A box with the packages under test, and a host beside it to reach it from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use lab::{AptRepo, Image, Namespace, Release, Snapshot, SshKey, Switch, Vm};
use serde_json::Value;

/// For what takes as long as it takes.
pub(crate) const LONG: Duration = Duration::from_secs(300);
/// The unit under test.
pub(crate) const UNIT: &str = "guppy-idle-stopper.service";
/// Where its processes are.
pub(crate) const CGROUP: &str = "/sys/fs/cgroup/guppy.slice/guppy-idle.slice/\
    guppy-idle-stopper.slice/guppy-idle-stopper.service";

/// The times of [`config`], in seconds.
pub(crate) const IDLE: f64 = 15.0;
pub(crate) const WARNING: f64 = 6.0;
pub(crate) const TICK: f64 = 2.0;
/// A terminal's stamp moves in steps of so many seconds, and so much is waited on top of the times
/// above where the last activity was a key.
pub(crate) const STAMP_STEP: f64 = 8.0;

/// Half an hour in a quarter of a minute. Emulated disks and short windows make bursts that a window of a
/// minute would average out, and an emulated processor shares its own with the rest of the host
/// without knowing it, so that an htop looks like a third of a core: the floors for disks and CPU
/// are raised, the others are the defaults.
pub(crate) fn config(more: &str) -> String {
    format!(
        r#"idle_after = "{IDLE}s"
warning = "{WARNING}s"
grace = "0s"
tick = "{TICK}s"
window = "6s"
unknown_at_most = "20s"
inhibit_at_most = "10min"
hooks_at_most = "5s"
{more}
[cpu]
unit_cores = 0.3
box_cores = 0.75
daemon_cores = 0.75
[disk]
bytes_per_second = 4000000
pressure = 0.9
"#
    )
}

/// The same with nothing that would stop the box while a test looks.
pub(crate) fn calm() -> String {
    patient(&config(""))
}

/// A config of these with an hour in place of the idle time.
pub(crate) fn patient(config: &str) -> String {
    config.replace(&format!("idle_after = \"{IDLE}s\""), "idle_after = \"1h\"")
}

/// The box.
pub(crate) struct Box {
    pub(crate) vm: Vm,
    pub(crate) switch: Switch,
    /// A host on the same wire.
    pub(crate) client: Namespace,
    pub(crate) key: SshKey,
}

/// A line of the daemon's journal.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// CLOCK_MONOTONIC of the guest, seconds.
    pub(crate) at: f64,
    /// `GUPPY_EVENT`, or nothing.
    pub(crate) event: String,
    /// The text.
    pub(crate) text: String,
}

impl Line {
    /// From what `journalctl --output=json` prints.
    fn read(json: &str) -> Result<Self> {
        let entry: BTreeMap<String, Value> =
            serde_json::from_str(json).with_context(|| format!("a line of the journal: {json}"))?;
        let field =
            |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok(Self {
            at: field("__MONOTONIC_TIMESTAMP").parse::<f64>()? / 1e6,
            event: field("GUPPY_EVENT"),
            text: field("MESSAGE"),
        })
    }
}

/// The box as cloud-init has left it, frozen: made once, by the first test that wants it.
fn installed(release: Release, key: &SshKey) -> Result<Arc<Snapshot>> {
    static MADE: Mutex<BTreeMap<&str, Arc<Snapshot>>> = Mutex::new(BTreeMap::new());
    // A test that failed in here has poisoned it, and the next may still succeed.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(snapshot) = made.get(release.name()) {
        return Ok(Arc::clone(snapshot));
    }
    let debs = debs_for("amd64")?;
    let contents = debs.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let switch = Switch::new()?;
    let repository = AptRepo::serve(&switch, &debs)?;
    let mut prepared: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
    prepared.push(key.public().as_bytes());
    let snapshot = Vm::builder(&Image::of(release)?)
        .nic_at(&switch, "10.99.0.10")
        // One processor each: an emulated second one only costs.
        .cpus(1)
        .sleeps()
        .user_data(&cloud_config(&repository)?)
        .frozen("idle-stopper", &prepared, |vm| {
            vm.wait_cloud_init(LONG)?;
            for user in ["root", "dev"] {
                key.authorize(vm, user)?;
            }
            vm.sh(&format!("systemctl is-active {UNIT}"))?.ok().map(drop)
        })?;
    let snapshot = Arc::new(snapshot);
    made.insert(release.name(), Arc::clone(&snapshot));
    Ok(snapshot)
}

/// The packages under test for an architecture, `all` among them.
pub(crate) fn debs_for(architecture: &str) -> Result<Vec<std::path::PathBuf>> {
    let folder = lab::debs()?;
    let mut debs: Vec<_> = std::fs::read_dir(&folder)
        .with_context(|| folder.display().to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.to_string_lossy();
            name.ends_with(&format!("_{architecture}.deb")) || name.ends_with("_all.deb")
        })
        .collect();
    debs.sort();
    ensure!(!debs.is_empty(), "no packages for {architecture} in {}", folder.display());
    Ok(debs)
}

/// The file that we ship, with the tests' repository in the one place that says where it is.
fn cloud_config(repository: &AptRepo) -> Result<String> {
    let shipped = include_str!("../../packaging/cloud-init/data-plane.yaml");
    let placeholder = "deb [trusted=yes] http://guppy-packages.example/debian ./";
    ensure!(shipped.matches(placeholder).count() == 1, "the repository stands in one place");
    Ok(shipped.replace(placeholder, &repository.source()))
}

impl Box {
    /// The box with this config in force, and its daemon started anew.
    pub(crate) fn new(release: Release, config: &str) -> Result<Self> {
        let key = SshKey::cached()?;
        let switch = Switch::new()?;
        let vm = installed(release, &key)?.start(&[&switch])?;
        let client = switch.host()?;
        let it = Self { vm, switch, client, key };
        it.vm.set_clock()?;
        it.configure(config)?;
        Ok(it)
    }

    /// Debian 13, or with `--full` each release in turn.
    pub(crate) fn each(config: &str, scene: impl Fn(Self) -> Result<()>) -> Result<()> {
        for release in Release::of_this_run() {
            scene(Self::new(*release, config)?)
                .with_context(|| format!("on {}", release.name()))?;
        }
        Ok(())
    }

    /// Puts a config in force.
    pub(crate) fn configure(&self, config: &str) -> Result<()> {
        self.vm.write_file("/etc/guppy/idle-stopper.d/90-test.toml", config.as_bytes())?;
        self.vm.sh(&format!("systemctl restart {UNIT}"))?.ok().map(drop)
    }

    /// `guppy idle --json`.
    pub(crate) fn explain(&self) -> Result<Value> {
        self.explain_at("")
    }

    /// The same of another daemon, by its `--socket PATH`.
    pub(crate) fn explain_at(&self, socket: &str) -> Result<Value> {
        let text = self.vm.sh(&format!("guppy idle --json {socket}"))?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("guppy idle --json: {text}"))
    }

    /// The state of one kind of evidence.
    pub(crate) fn kind(&self, kind: &str) -> Result<String> {
        state_of(&self.explain()?, kind)
    }

    /// Waits until the daemon has seen a terminal and its login is over for it, keys, bytes and cycles:
    /// what is done from here on is all that it sees. Gives the moment from which the box is idle, in
    /// seconds since boot.
    pub(crate) fn wait_login_over(&self) -> Result<f64> {
        lab::wait::until_true("a login to be over", LONG, || {
            let explained = self.explain()?;
            // On a busy host the bytes of a login may be over before its terminal is there. Which kind
            // was the last does not matter: there it may be the cycles.
            let terminals = detail_of(&explained, "terminals")?;
            let open = terminals.split_once(" open").and_then(|(open, _)| open.parse::<u32>().ok());
            // The console is one.
            let is_seen = open.is_some_and(|open| open >= 2);
            Ok(is_seen && text_of(&explained, "phase") == "idle")
        })?;
        let lines = self.journal(0)?;
        let idle = lines.iter().rfind(|line| line.event == "idle");
        Ok(idle.context("no word of being idle")?.at)
    }

    /// The daemon's journal of a boot (0: this one, -1: the one before).
    pub(crate) fn journal(&self, boot: i32) -> Result<Vec<Line>> {
        journal_of(&self.vm, UNIT, boot)
    }

    /// Waits for a line with this event, and gives it.
    pub(crate) fn wait_event(&self, event: &str, within: Duration) -> Result<Line> {
        self.wait_event_after(event, 0.0, within)
    }

    /// Waits for a line with this event that is younger than a moment of the guest's.
    pub(crate) fn wait_event_after(
        &self,
        event: &str,
        after: f64,
        within: Duration,
    ) -> Result<Line> {
        // One program that follows the journal: a machine that is asked again and again is busy.
        let script = format!(
            r#"while read -r line; do
                at=${{line#*\"__MONOTONIC_TIMESTAMP\":\"}}
                [ "${{at%%\"*}}" -gt {after} ] && break
            done < <(exec journalctl --unit={UNIT} --boot --output=json --quiet --lines=all \
                --follow GUPPY_EVENT={event})
            kill $!; printf '%s' "$line""#,
            after = (after * 1e6) as u64,
        );
        let line = self.vm.sh_within(within, &script).and_then(|line| line.ok());
        Line::read(&line.with_context(|| format!("the event {event}"))?)
    }

    /// Waits until the box has gone off. Gives the line that began the stop, the first after a moment of
    /// the guest's.
    pub(crate) fn goes_off_after(&mut self, after: f64) -> Result<Line> {
        let told = self.wait_event_after("stopping", after, LONG);
        self.vm.wait_power_off(LONG)?;
        if told.is_ok() {
            return told;
        }
        // It was off before it could be asked: the next boot tells.
        self.vm.start_again()?;
        let line =
            self.journal(-1)?.into_iter().find(|line| line.event == "stopping" && line.at > after);
        line.context("no line of the journal began the stop")
    }

    /// The guest's CLOCK_MONOTONIC now (they agree while it does not sleep), in seconds.
    pub(crate) fn uptime(&self) -> Result<f64> {
        let text = self.vm.read_file("/proc/uptime")?;
        let first = text.split(' ').next().unwrap_or_default();
        first.parse().with_context(|| format!("/proc/uptime: {text}"))
    }

    /// Whether the daemon has stopped, or would have, since a moment of the guest's.
    pub(crate) fn has_stopped_since(&self, after: f64) -> Result<bool> {
        Ok(self.journal(0)?.iter().any(|line| line.event == "stopping" && line.at > after))
    }

    /// Places a hold as `dev`; gives what ends it.
    pub(crate) fn hold(&self, why: &str) -> Result<String> {
        let placed =
            self.vm.sh(&format!("runuser -u dev -- guppy hold 1h --json --why '{why}'"))?;
        let placed = placed.ok()?;
        let id = serde_json::from_str::<Value>(&placed)?.get("id").and_then(Value::as_u64);
        Ok(format!("guppy release {}", id.with_context(|| placed)?))
    }

    /// Starts docker, with an image made of nothing but busybox. On a slow machine that takes
    /// longer than the box would wait, hence the hold.
    pub(crate) fn start_docker(&self) -> Result<()> {
        let release = self.hold("docker starts")?;
        let script = "systemctl start docker && d=$(mktemp -d) && mkdir -p $d/bin && \
             cp /bin/busybox $d/bin/ && for a in sh sleep true wget dd; do ln -s busybox $d/bin/$a; done && \
             tar -C $d -c . | docker import - box >/dev/null && rm -r $d";
        self.vm.sh_within(LONG, script)?.ok()?;
        self.vm.sh(&release)?.ok().map(drop)
    }
}

/// The journal of a unit.
pub(crate) fn journal_of(vm: &Vm, unit: &str, boot: i32) -> Result<Vec<Line>> {
    let text =
        vm.sh(&format!("journalctl --unit={unit} --boot={boot} --output=json --quiet"))?.ok()?;
    text.lines().map(Line::read).collect()
}

/// The state of one kind of evidence in an explanation.
pub(crate) fn state_of(explanation: &Value, kind: &str) -> Result<String> {
    evidence_of(explanation, kind, "state")
}

/// What one kind of evidence tells of itself in an explanation.
pub(crate) fn detail_of(explanation: &Value, kind: &str) -> Result<String> {
    evidence_of(explanation, kind, "detail")
}

fn evidence_of(explanation: &Value, kind: &str, field: &str) -> Result<String> {
    explanation
        .get("evidence")
        .and_then(Value::as_array)
        .and_then(|list| {
            list.iter().find(|line| line.get("kind").and_then(Value::as_str) == Some(kind))
        })
        .and_then(|line| line.get(field)?.as_str())
        .map(str::to_owned)
        .ok_or_else(|| anyhow!("no {field} of {kind} in {explanation}"))
}

/// A field of an explanation, as text.
pub(crate) fn text_of(explanation: &Value, field: &str) -> String {
    explanation.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
