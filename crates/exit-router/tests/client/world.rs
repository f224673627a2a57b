//! Two hosts with a cable between them, guppy's and the customer's, and the client on the first one:
//! a user without rights but CAP_NET_ADMIN, and with the files that systemd gives it.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Nothing here takes so long on the busiest machine, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(180);
/// guppy's side of the cable, and the customer's.
pub(crate) const GUPPY: &str = "198.51.100.10";
pub(crate) const CUSTOMER: &str = "198.51.100.1";
/// nobody, in the place of guppy-vpn.
const USER: u32 = 65_534;
/// A /run of its own, in which wireguard-go has its socket, and a tun device for everybody, as udev
/// makes it.
const MOUNTS: &str = "mount -t tmpfs none /run && mkdir -m 1777 /run/wireguard && \
    mount -t tmpfs none /dev/net && mknod -m 666 /dev/net/tun c 10 200 && ";

pub(crate) struct World {
    folder: tempfile::TempDir,
    guppy: String,
    customer: String,
    servers: Vec<Child>,
}

/// A client that runs.
pub(crate) struct Client {
    child: Child,
    notify: UnixDatagram,
    stderr: PathBuf,
    heard: String,
}

fn sh(line: &str) -> String {
    let output = Command::new("bash").args(["-c", line]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

impl World {
    pub(crate) fn new(profile: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = |side| format!("gvpn-{side}{}-{number}", std::process::id());
        let (guppy, customer) = (name("g"), name("c"));
        sh(&format!(
            "ip netns add {guppy} && ip netns add {customer} && \
             ip -n {guppy} link add eth0 type veth peer name eth0 netns {customer} && \
             ip -n {guppy} address add {GUPPY}/24 dev eth0 && \
             ip -n {customer} address add {CUSTOMER}/24 dev eth0 && \
             for each in {guppy} {customer}; do for link in lo eth0; do \
             ip -n $each link set $link up; done; done"
        ));
        let folder = tempfile::tempdir().unwrap();
        let world = Self { folder, guppy, customer, servers: Vec::new() };
        fs::set_permissions(world.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for made in ["profiles", "credentials", "state", "runtime", "server"] {
            fs::create_dir(world.at(made)).unwrap();
        }
        for owned in ["credentials", "state", "runtime"] {
            chown(world.at(owned), Some(USER), Some(USER)).unwrap();
        }
        // The target folder may be nobody's to enter. Not written by this process: while it has the
        // file open for writing, a fork of another test's may have it too (ETXTBSY).
        let helper = world.at("helper").display().to_string();
        sh(&format!("install -m 755 {} {helper}", env!("CARGO_BIN_EXE_exit-router-helper")));
        fs::set_permissions(world.at("profiles"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::write(world.at("profiles/acme.toml"), profile).unwrap();
        fs::set_permissions(world.at("profiles/acme.toml"), fs::Permissions::from_mode(0o644))
            .unwrap();
        world
    }

    pub(crate) fn at(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// A credential as systemd hands it over.
    pub(crate) fn credential(&self, kind: &str, text: &str) {
        let file = self.at(&format!("credentials/{kind}"));
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&file, Some(USER), Some(USER)).unwrap();
    }

    /// As `guppy vpn up` writes it.
    pub(crate) fn asked(&self, times: u32) {
        fs::write(self.at("intent.json"), format!("{{\"asked\":{times}}}")).unwrap();
    }

    /// On guppy's side.
    pub(crate) fn sh(&self, line: &str) -> String {
        sh(&format!("nsenter --net=/run/netns/{} -- bash -c '{line}'", self.guppy))
    }

    /// The same, which may fail.
    pub(crate) fn try_sh(&self, line: &str) -> Output {
        let net = format!("--net=/run/netns/{}", self.guppy);
        Command::new("nsenter").args([&net, "--", "bash", "-c", line]).output().unwrap()
    }

    /// A server of the customer's, as root, until the world ends.
    pub(crate) fn serve(&mut self, script: &str) {
        let net = format!("--net=/run/netns/{}", self.customer);
        let mut command = Command::new("nsenter");
        command.args([&net, "--", "unshare", "--mount", "--pid", "--fork", "--kill-child"]);
        command.args(["bash", "-c", &format!("{MOUNTS} {script}")]);
        let log = fs::File::create(self.at("server/log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.servers.push(command.spawn().unwrap());
    }

    /// Waits until the server says so.
    pub(crate) fn serves(&mut self, text: &str) {
        until(text, || {
            for server in &mut self.servers {
                assert_eq!(server.try_wait().unwrap(), None, "the server has ended");
            }
            let log = fs::read_to_string(self.folder.path().join("server/log")).unwrap();
            log.contains(text).then_some(())
        });
    }

    fn server_log(&self) -> String {
        fs::read_to_string(self.at("server/log")).unwrap_or_default()
    }

    pub(crate) fn start(&self) -> Client {
        let socket = self.at("notify");
        let _ = fs::remove_file(&socket);
        let notify = UnixDatagram::bind(&socket).unwrap();
        notify.set_nonblocking(true).unwrap();
        chown(&socket, Some(USER), Some(USER)).unwrap();
        let [helper, profiles, intent] =
            ["helper", "profiles", "intent.json"].map(|path| self.at(path).display().to_string());
        let user = USER.to_string();
        let script = format!(
            "{MOUNTS} exec setpriv --reuid {user} --regid {user} --clear-groups \
             --inh-caps=-all,+net_admin --ambient-caps=+net_admin --bounding-set=-all,+net_admin \
             --no-new-privs {helper} client acme --profiles {profiles} --intent {intent}"
        );
        let net = format!("--net=/run/netns/{}", self.guppy);
        let stderr = self.at("stderr");
        let child = Command::new("nsenter")
            .args([&net, "--", "unshare", "--mount", "bash", "-c", &script])
            .env("CREDENTIALS_DIRECTORY", self.at("credentials"))
            .env("STATE_DIRECTORY", self.at("state"))
            .env("RUNTIME_DIRECTORY", self.at("runtime"))
            .env("NOTIFY_SOCKET", &socket)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&stderr).unwrap())
            .spawn()
            .unwrap();
        Client { child, notify, stderr, heard: String::new() }
    }

    /// Runs it to its end by itself: its status and what it said.
    pub(crate) fn run(&self) -> (Option<i32>, String) {
        let mut client = self.start();
        let status = client.ended();
        (status.code(), client.said())
    }

    pub(crate) fn has_link(&self) -> bool {
        self.try_sh("ip link show dev vpn-acme").status.success()
    }
}

impl Client {
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(&self.stderr).unwrap()
    }

    /// Whether it has said READY=1 by now.
    pub(crate) fn is_ready(&mut self) -> bool {
        let mut bytes = [0; 4096];
        while let Ok(size) = self.notify.recv(&mut bytes) {
            self.heard.push_str(&String::from_utf8_lossy(&bytes[..size]));
            self.heard.push('\n');
        }
        self.heard.lines().any(|line| line == "READY=1")
    }

    pub(crate) fn ready(&mut self) {
        until("READY=1", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended: {status}: {}", self.said());
            }
            self.is_ready().then_some(())
        });
    }

    /// The process itself: bash and setpriv have become it.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its children of this name.
    pub(crate) fn children(&self, name: &str) -> Vec<u32> {
        let children = format!("/proc/{0}/task/{0}/children", self.pid());
        let children = fs::read_to_string(children).unwrap_or_default();
        let all = children.split_whitespace().map(|pid| pid.parse().unwrap());
        all.filter(|pid: &u32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim() == name
        })
        .collect()
    }

    pub(crate) fn ended(&mut self) -> ExitStatus {
        until("the client's end", || self.child.try_wait().unwrap())
    }

    /// As systemd ends it.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        sh(&format!("kill -TERM {}", self.pid()));
        self.ended()
    }

    /// What everybody may see of a process: arguments, and of its owner's the environment.
    pub(crate) fn seen(&self) -> String {
        let mut all = String::new();
        let mut pids = vec![self.pid()];
        pids.extend(["wireguard-go", "openvpn", "wg"].iter().flat_map(|name| self.children(name)));
        for pid in pids {
            for file in ["cmdline", "environ"] {
                let mut bytes = Vec::new();
                if let Ok(mut file) = fs::File::open(format!("/proc/{pid}/{file}")) {
                    let _ = file.read_to_end(&mut bytes);
                }
                all.push_str(&String::from_utf8_lossy(&bytes));
            }
        }
        all
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            eprintln!("the client said:\n{}", self.said());
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("the server said:\n{}", self.server_log());
        }
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
        for name in [&self.guppy, &self.customer] {
            let _ = Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}
