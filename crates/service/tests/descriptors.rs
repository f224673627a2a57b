//! A daemon that runs out of file descriptors. Alone in its process, for the limit is the
//! process's.

#![allow(clippy::unwrap_used, missing_docs)]

use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use service::socket::{Interface, Limits, listen, serve};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[derive(Clone)]
struct Daemon;

const INTERFACE: Interface = Interface { name: "dev.guppy.Test", methods: &["Ping"] };

#[zlink::service(interface = "dev.guppy.Test")]
impl Daemon {
    async fn ping(&mut self) {}
}

#[test]
fn out_of_descriptors_it_waits_and_then_serves_on() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("socket");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = listen(Some(&path));
        let clients = async {
            // Connected, but not accepted yet: their descriptors here are all there may be.
            let waiting: Vec<_> = (0..8).map(|_| UnixStream::connect(&path).unwrap()).collect();
            let open = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
            let before = getrlimit(Resource::Nofile);
            setrlimit(Resource::Nofile, Rlimit { current: Some(open), ..before }).unwrap();
            // Each lets the server try: after the first it waits for a breath of a second.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            setrlimit(Resource::Nofile, before).unwrap();
            for client in waiting {
                client.set_nonblocking(true).unwrap();
                let mut client = tokio::net::UnixStream::from_std(client).unwrap();
                client.write_all(b"{\"method\":\"dev.guppy.Test.Ping\"}\0").await.unwrap();
                let answer = tokio::time::timeout(Duration::from_secs(10), client.read_u8()).await;
                assert_eq!(answer.unwrap().unwrap(), b'{');
            }
        };
        tokio::select! {
            () = serve(listener, Daemon, INTERFACE, Limits::default()) => panic!("the server ended"),
            () = clients => {}
        }
    });
}
