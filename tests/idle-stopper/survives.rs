//! What must keep a box up, all at once on one box. Each is watched by a daemon of its own that
//! has every other kind of evidence switched off: so each suffices alone. All end with the work,
//! and then the box goes, which shows that each daemon could have stopped it before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::scenario;

use crate::machine::{Box, IDLE, LONG, config, journal_of, state_of, text_of};

const KINDS: [&str; 11] = [
    "terminals",
    "commands",
    "tcp",
    "cpu",
    "disk",
    "network",
    "builds",
    "inhibitors",
    "packages",
    "holds",
    "checks",
];

/// A config with one kind of evidence switched on.
pub(crate) fn only(kind: &str) -> String {
    let switches: String =
        KINDS.iter().map(|each| format!("{each} = {}\n", *each == kind)).collect();
    format!("{}\n[evidence]\n{switches}", config(""))
}

/// A daemon beside the installed one: the same program and user, mode observe, one kind only.
pub(crate) struct Watcher {
    kind: &'static str,
}

impl Watcher {
    pub(crate) fn start(it: &Box, kind: &'static str) -> Result<Self> {
        let dir = format!("/run/watch-{kind}");
        it.vm.write_file(
            &format!("{dir}.toml"),
            format!("mode = \"observe\"\n{}", only(kind)).as_bytes(),
        )?;
        // Its sandbox is the installed unit's in what could blind it; the rest is proven elsewhere.
        it.vm
            .sh(&format!(
                "install -d -o guppy-idle-stopper {dir} && systemd-run --quiet --unit=guppy-watch-{kind} \
                 -p User=guppy-idle-stopper -p NoNewPrivileges=yes -p CapabilityBoundingSet= \
                 guppy-idle-stopper --config {dir}.toml --config-dir /nowhere \
                 --socket {dir}/sock --state-dir {dir}"
            ))?
            .ok()?;
        Ok(Self { kind })
    }

    pub(crate) fn socket(&self) -> String {
        format!("--socket /run/watch-{}/sock", self.kind)
    }

    fn wait_active(&self, it: &Box) -> Result<()> {
        lab::wait::until_true(&format!("{} to be active", self.kind), LONG, || {
            let explained = it.explain_at(&self.socket());
            Ok(explained.is_ok_and(|explained| {
                state_of(&explained, self.kind).is_ok_and(|state| state == "active")
            }))
        })
        .with_context(|| format!("{:#?}", it.explain_at(&self.socket())))
    }

    pub(crate) fn would_have_stopped(&self, it: &Box, since: f64) -> Result<bool> {
        let lines = journal_of(&it.vm, &format!("guppy-watch-{}.service", self.kind), 0)?;
        Ok(lines.iter().any(|line| line.event == "stopping" && line.at > since))
    }
}

#[test]
fn each_kind_of_work_keeps_the_box_up_alone_and_no_longer() {
    scenario(|| Box::each(&config(""), every_kind_at_once));
}

fn every_kind_at_once(it: Box) -> Result<()> {
    it.start_docker()?;
    let vm = &it.vm;

    // A person who types.
    let mut shell = it.client.ssh_terminal(&it.key, vm, "dev", "", "")?;
    shell.wait_for("$", LONG)?;
    // A remote command that says nothing.
    let silent = it.client.ssh_spawn(&it.key, vm, "dev", "", "exec sleep 100000")?;
    // A compile: real make, real gcc, in a service.
    let compile = "cd $(mktemp -d) && for i in $(seq 40); do echo \"int f$i(int x){return x*$i;}\" >f$i.c; done && \
         printf 'all: $(patsubst %.c,%.o,$(wildcard *.c))\\n.PHONY: all\\n' >Makefile && \
         while :; do make -s -j2 CFLAGS=-O2 all; rm -f *.o; done";
    vm.service("compile", compile)?;
    // A slow download, at a fifth of a megabit.
    let mut server = it.client.spawn(
        "cd /dev && exec python3 -c \"
import http.server
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        while True: self.wfile.write(bytes(4096))
    def log_message(self, *a): pass
http.server.HTTPServer(('', 8080), H).serve_forever()\"",
    )?;
    vm.service(
        "download",
        &format!("exec curl -s --retry 20 --retry-connrefused --limit-rate 30k -o /dev/null http://{}:8080/", it.client.address()),
    )?;
    // Bytes over ssh, slowly: what an editor's server or a forward would move.
    let copy = it.client.spawn(&format!(
        "{} 'cat >/dev/null' < <(while :; do head -c 20000 /dev/zero; sleep 1; done)",
        it.key.client(vm.address(), "dev", "")
    ))?;
    // An image build that only sleeps, and whose client is detached.
    let build = "d=$(mktemp -d) && printf 'FROM box\\nRUN sleep 100000\\n' >$d/Dockerfile && \
         export DOCKER_BUILDKIT=1 && exec docker build --no-cache -q $d";
    vm.service("image-build", build)?;
    // A person's word, a program's word, and a check of one's own.
    vm.sh("runuser -u dev -- guppy hold 1h --why 'waiting for the customer'")?.ok()?;
    vm.service(
        "backup",
        "exec systemd-inhibit --what=shutdown --who=backup --why=copying sleep 100000",
    )?;
    vm.sh("printf '#!/bin/sh\\nexec test -e /run/queue-is-full\\n' >/etc/guppy/idle-stopper.checks.d/queue && \
           chmod 755 /etc/guppy/idle-stopper.checks.d/queue && touch /run/queue-is-full")?
        .ok()?;
    // A package manager that holds its lock: dpkg locks with fcntl, as here.
    vm.service(
        "dpkg",
        "exec python3 -c \"
import fcntl,time
f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(100000)\"",
    )?;

    let watched =
        ["terminals", "commands", "tcp", "cpu", "network", "builds", "inhibitors", "packages"];
    let watchers =
        watched.iter().map(|kind| Watcher::start(&it, kind)).collect::<Result<Vec<_>>>()?;
    let type_a_key = |shell: &mut lab::Terminal| shell.type_keys(" ");
    type_a_key(&mut shell)?;
    for watcher in &watchers {
        if watcher.kind == "terminals" {
            type_a_key(&mut shell)?;
        }
        watcher.wait_active(&it)?;
    }
    // Holds and checks are the installed daemon's own: it is asked for those.
    for kind in ["holds", "checks"] {
        lab::wait::until_true(&format!("{kind} to be active"), LONG, || {
            Ok(it.kind(kind)? == "active")
        })?;
    }

    // Three idle times and more. Keys come now and then, as people's do.
    let since = it.uptime()?;
    lab::wait::until_true("three idle times to pass", LONG, || {
        type_a_key(&mut shell)?;
        // The next key comes after an event or in a few seconds, whichever is first.
        vm.stays_on(Duration::from_secs(5))?;
        Ok(it.uptime()? > since + 3.2 * IDLE)
    })?;
    for watcher in &watchers {
        let explained = it.explain_at(&watcher.socket())?;
        ensure!(
            !watcher.would_have_stopped(&it, since)?,
            "{} alone would have stopped the box: {explained:#}",
            watcher.kind
        );
        // Between two keys a terminal is quiet; all else here is active at every look.
        let state = state_of(&explained, watcher.kind)?;
        let is_typed_into = watcher.kind == "terminals" && state == "quiet";
        ensure!(
            state == "active" || is_typed_into,
            "{} is not what kept its daemon up: {explained:#}",
            watcher.kind
        );
    }
    ensure!(!it.has_stopped_since(since)?);

    // A box whose only reason is the hold, then one whose only reason is the check.
    for kind in ["holds", "checks"] {
        it.configure(&only(kind))?;
        let since = it.uptime()?;
        vm.stays_on(Duration::from_secs_f64(1.6 * (IDLE + 6.0)))?;
        ensure!(!it.has_stopped_since(since)?, "{kind} alone did not keep the box up");
        ensure!(it.kind(kind)? == "active");
    }

    // All of it ends but the hold: every watcher would stop the box now. Then the hold ends too.
    // Nobody has typed since those two, so the watcher of terminals has announced its stop by now:
    // it says so once, and again only after a key.
    it.configure(&config(""))?;
    for watcher in watchers.iter().filter(|watcher| watcher.kind == "terminals") {
        type_a_key(&mut shell)?;
        watcher.wait_active(&it)?;
    }
    drop((shell, silent, copy));
    server.kill();
    vm.sh("systemctl stop compile download image-build backup dpkg; rm /run/queue-is-full")?
        .ok()?;
    let ended = it.uptime()?;
    for watcher in &watchers {
        lab::wait::until_true(&format!("the watcher of {} to stop", watcher.kind), LONG, || {
            watcher.would_have_stopped(&it, ended)
        })
        .with_context(|| format!("{:#?}", it.explain_at(&watcher.socket())))?;
    }
    ensure!(text_of(&it.explain()?, "mode") == "stop");
    ensure!(it.kind("holds")? == "active");
    vm.sh("guppy release 1")?.ok()?;
    vm.wait_power_off(LONG).map(drop)
}
