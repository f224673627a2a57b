//! What must keep a box up, all at once on one box. Each is watched by a daemon of its own that
//! has every other kind of evidence switched off: so each suffices alone. All end with the work,
//! and then the box goes, which shows that each daemon could have stopped it before.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::process::Spawned;
use lab::{Terminal, scenario};

use crate::machine::{Box, IDLE, LONG, config, text_of};
use crate::watcher::Watcher;

/// Each kind of evidence, with what it must tell of the work that was begun for it.
const WATCHED: [(&str, &str); 10] = [
    ("terminals", "ssh dev"),
    ("commands", "sleep 100000"),
    ("tcp", "port 22 from"),
    ("cpu", "session-"),
    ("network", "eth0"),
    ("builds", "docker build"),
    ("inhibitors", "backup (copying)"),
    ("packages", "lock-frontend"),
    ("holds", "waiting for the customer"),
    ("checks", "queue"),
];

/// A package manager that holds its lock: dpkg locks with fcntl, as here.
pub(crate) const DPKG_LOCK: &str = "exec python3 -c \"
import fcntl,time
f=open('/var/lib/dpkg/lock-frontend','w'); fcntl.lockf(f, fcntl.LOCK_EX); time.sleep(100000)\"";

/// At most twenty-four megabytes a second, past the page cache; a starved machine comes to a fifth.
pub(crate) const DISK_COPY: &str = "while :; do dd if=/dev/zero of=/var/tmp/copy bs=1M count=24 \
    oflag=direct conv=notrunc status=none; sleep 1; done";

#[test]
fn each_kind_of_work_keeps_the_box_up_alone_and_no_longer() {
    scenario(|| Box::each(&config(""), every_kind_at_once));
}

fn every_kind_at_once(it: Box) -> Result<()> {
    // The installed daemon is kept up by a hold of its own until all else has been seen.
    let release = it.hold("the test goes on")?;
    it.start_docker()?;
    let mut work = Work::begin(&it)?;
    let watchers = watch_all(&it, &mut work)?;
    let since = it.uptime()?;
    pass_three_idle_times(&it, &mut work, since)?;
    for watcher in &watchers {
        watcher.has_kept_up(&it, since)?;
    }
    the_installed_one_sees_all(&it)?;
    ensure!(!it.has_stopped_since(since)?);

    // All of it ends but the hold: every watcher would stop the box now, some before the last of the
    // work has ended. Then the hold ends too.
    // Nobody has typed while all were asked, so the watcher of terminals may have announced its stop:
    // it says so once, and again only after a key.
    for watcher in watchers.iter().filter(|watcher| watcher.kind == "terminals") {
        watcher.wait_state_while(&it, "active", || work.shell.type_keys(" "))?;
    }
    let ended = it.uptime()?;
    work.end(&it)?;
    for watcher in &watchers {
        lab::wait::until_true(&format!("the watcher of {} to stop", watcher.kind), LONG, || {
            watcher.would_have_stopped(&it, ended)
        })
        .with_context(|| format!("{:#?}", it.explain_at(&watcher.socket())))?;
    }
    ensure!(text_of(&it.explain()?, "mode") == "stop");
    ensure!(it.kind("holds")? == "active");
    it.vm.sh(&release)?.ok()?;
    it.vm.wait_power_off(LONG).map(drop)
}

/// In its own sandbox, and with every kind switched on.
fn the_installed_one_sees_all(it: &Box) -> Result<()> {
    let explained = it.explain()?;
    let all = explained.get("evidence").and_then(serde_json::Value::as_array);
    for line in all.context("no evidence")? {
        let (kind, state) = (text_of(line, "kind"), text_of(line, "state"));
        // Between two keys a terminal is quiet, and below its own floor for emulated CPUs the build.
        let may_be_quiet = ["terminals", "cpu"].contains(&kind.as_str());
        let seen = state == "active" || (may_be_quiet && state == "quiet");
        ensure!(seen, "{kind} is {state} for the installed daemon: {explained:#}");
    }
    Ok(())
}

/// What runs outside the box: it ends with this value.
struct Work {
    /// A person who types.
    shell: Terminal,
    /// A person who has typed `make` and gone for lunch.
    compile: Terminal,
    /// A remote command that says nothing.
    silent: Spawned,
    /// Bytes over ssh, slowly: what an editor's server or a forward would move.
    copy: Spawned,
    /// Where the box downloads from.
    server: Spawned,
}

impl Work {
    fn begin(it: &Box) -> Result<Self> {
        let vm = &it.vm;
        let work = Self {
            shell: it.client.ssh_terminal(&it.key, vm, "dev", "", "")?,
            compile: it.client.ssh_terminal(&it.key, vm, "dev", "", "")?,
            silent: it.client.ssh_spawn(&it.key, vm, "dev", "", "exec sleep 100000")?,
            // Six times the floor of a connection, and a fifth of an interface's: the download alone
            // is what the network shows.
            copy: it.client.spawn(&format!(
                "{} 'cat >/dev/null' < <(while :; do head -c 2000 /dev/zero; sleep 1; done)",
                it.key.client(vm.address(), "dev", "")
            ))?,
            server: serve_slowly(it)?,
        };
        // A slow download, at a third of a megabit.
        vm.service(
            "download",
            &format!(
                "exec curl -s --retry 20 --retry-connrefused -o /dev/null http://{}:8080/",
                it.client.address()
            ),
        )?;
        // An image build that only sleeps, and whose client is detached.
        vm.service(
            "image-build",
            "d=$(mktemp -d) && printf 'FROM box\\nRUN sleep 100000\\n' >$d/Dockerfile && \
             export DOCKER_BUILDKIT=1 && exec docker build --no-cache -q $d",
        )?;
        // A program's word, and a check of one's own.
        vm.service(
            "backup",
            "exec systemd-inhibit --what=shutdown --who=backup --why=copying sleep 100000",
        )?;
        vm.sh("printf '#!/bin/sh\\nexec test -e /run/queue-is-full\\n' >/etc/guppy/idle-stopper.checks.d/queue && \
               chmod 755 /etc/guppy/idle-stopper.checks.d/queue && touch /run/queue-is-full")?
            .ok()?;
        vm.service("dpkg", DPKG_LOCK)?;
        work.shell.wait_for("$", LONG)?;
        Ok(work)
    }

    fn end(self, it: &Box) -> Result<()> {
        drop((self.shell, self.compile, self.silent, self.copy, self.server));
        // A loop in a shell may outlive its terminal. Docker's client takes its time.
        it.vm
            .sh_within(
                LONG,
                "loginctl kill-user --signal=KILL dev; systemctl stop download image-build backup dpkg copy-disk; rm /run/queue-is-full; \
                 guppy release 1 --socket /run/watch-holds/sock",
            )?
            .ok()
            .map(drop)
    }
}

/// A web server that never comes to an end, and is slow: a client that is told to be takes megabytes
/// at once and then nothing for minutes.
pub(crate) fn serve_slowly(it: &Box) -> Result<Spawned> {
    it.client.spawn(
        "cd /dev && exec python3 -c \"
import http.server,time
class H(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        while True: self.wfile.write(bytes(4096)); time.sleep(0.1)
    def log_message(self, *a): pass
http.server.HTTPServer(('', 8080), H).serve_forever()\"",
    )
}

/// Real make and real gcc in a terminal that nobody types in any more; it prints nothing. Nice, as a
/// dozen daemons share its one emulated processor.
fn type_make(it: &Box, compile: &mut Terminal) -> Result<()> {
    it.vm
        .sh("d=/home/dev/program && mkdir $d && cd $d && \
             for i in $(seq 40); do echo \"int f$i(int x){return x*$i;}\" >f$i.c; done && \
             printf 'all: $(patsubst %%.c,%%.o,$(wildcard *.c))\\n.PHONY: all\\n' >Makefile && chown -R dev: $d")?
        .ok()?;
    compile.wait_for("$", LONG)?;
    compile
        .type_keys("cd program; while :; do nice make -s -j2 CFLAGS=-O2 all; rm -f *.o; done\r")?;
    lab::wait::until_true("the first object file", LONG, || {
        Ok(it.vm.sh("test -s /home/dev/program/f1.o")?.status == 0)
    })
}

/// A daemon for each kind, each waited for until it sees its work.
fn watch_all(it: &Box, work: &mut Work) -> Result<Vec<Watcher>> {
    let mut watchers = WATCHED
        .iter()
        .map(|(kind, shown)| Watcher::start(it, kind, shown))
        .collect::<Result<Vec<_>>>()?;
    it.vm
        .sh("guppy hold 1h --why 'waiting for the customer' --socket /run/watch-holds/sock")?
        .ok()?;
    // With all of that there, and docker started, the disks are quiet: what comes is the disk's own.
    let disk = Watcher::start(it, "disk", "disks:")?;
    disk.wait_state_while(it, "quiet", || Ok(()))?;
    it.vm.service("copy-disk", DISK_COPY)?;
    watchers.push(disk);
    type_make(it, &mut work.compile)?;
    // The first is the last: while the others are waited for nobody types, and what its watcher says
    // of that must not be said when the three idle times have begun.
    for watcher in watchers.iter().rev() {
        // A key is news for one tick only, and moves the stamp once in eight seconds.
        watcher.wait_state_while(it, "active", || match watcher.kind {
            "terminals" => work.shell.type_keys(" "),
            _ => Ok(()),
        })?;
    }
    Ok(watchers)
}

/// Three idle times and more. Keys come now and then, as people's do.
fn pass_three_idle_times(it: &Box, work: &mut Work, since: f64) -> Result<()> {
    lab::wait::until_true("three idle times to pass", LONG, || {
        work.shell.type_keys(" ")?;
        // The next key comes after an event or in a few seconds, whichever is first. What a busy host
        // adds to eight seconds must stay below an idle time and its warning.
        it.vm.stays_on(Duration::from_secs(2))?;
        Ok(it.uptime()? > since + 3.2 * IDLE)
    })
}
