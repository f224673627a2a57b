//! Disks, interfaces and package locks: tables of the kernel, one file each.

use std::fs;
use std::os::unix::fs::MetadataExt;

use super::super::packages::lock;
use super::super::{Interface, PackageLock};
use super::{Certain, Fake, Tree, only, read, without};

/// Of a virtual machine with two disks, one partitioned, one under LVM, and a loop device.
const DISKSTATS: &str = "   7       0 loop0 900 0 90000 0 900 0 90000 0 0 0 0 0 0 0 0 0 0
 254       0 vda 76673 11989 1000 15130 218737 45138 500 39942 0 16800 58181 19083 48 3592672 1433 51300 1674
 254       1 vda1 76600 11989 990 15130 218737 45138 500 39942 0 16800 58181 0 0 0 0 0 0
 259       0 nvme0n1 10 0 7 0 10 0 3 0 0 0 0 0 0 0 0 0 0
 252       0 dm-0 10 0 10 0 10 0 10 0 0 0 0 0 0 0 0 0 0
   9       0 md0 10 0 10 0 10 0 10 0 0 0 0 0 0 0 0 0 0
 253       0 zram0 10 0 10 0 10 0 10 0 0 0 0 0 0 0 0 0 0
  11       0 sr0 10 0 10 0 10 0 10 0 0 0 0 0 0 0 0 0 0
";

fn device(tree: &Tree, class: &str, name: &str, kind: &str) {
    fs::create_dir_all(tree.path(&format!("sys/{class}/{name}/{kind}"))).unwrap();
}

#[tokio::test]
async fn whole_physical_disks_are_summed_and_nothing_twice() {
    let tree = Tree::new();
    tree.file("proc/diskstats", DISKSTATS);
    device(&tree, "block", "vda", "device");
    device(&tree, "block", "nvme0n1", "device");
    device(&tree, "block", "sr0", "device");
    device(&tree, "block", "dm-0", "slaves");
    tree.file(
        "proc/pressure/io",
        "some avg10=0.16 avg60=0.31 avg300=0.54 total=7301547\nfull avg10=0.16 avg60=0.27 avg300=0.44 total=5930314\n",
    );
    let disk = read(&mut tree.sensors(), &only(|on| on.disk = true)).await.disk.known();
    assert_eq!(disk.bytes, (1000 + 500 + 7 + 3) * 512);
    assert_eq!(disk.pressure, Some(7_301_547));
    fs::remove_file(tree.path("proc/pressure/io")).unwrap();
    let disk = read(&mut tree.sensors(), &only(|on| on.disk = true)).await.disk.known();
    assert_eq!(disk.pressure, None, "a kernel without PSI");
}

#[tokio::test]
async fn a_garbled_table_of_disks_is_unknown() {
    let tree = Tree::new();
    tree.file("proc/diskstats", " 254 0 vda 1 2 three 4 5 6 7 8\n");
    let why = read(&mut tree.sensors(), &only(|on| on.disk = true)).await.disk.unknown();
    assert_eq!(
        without(tree.folder.path(), &why),
        r#"/proc/diskstats is not in the known form, at: " 254 0 vda 1 2 three 4 5 6 7 8""#
    );
}

/// A table without an end does not fill the memory.
#[tokio::test]
async fn a_table_that_is_too_large_is_unknown() {
    let tree = Tree::new();
    tree.file("proc/diskstats", DISKSTATS.repeat(2000));
    let why = read(&mut tree.sensors(), &only(|on| on.disk = true)).await.disk.unknown();
    assert_eq!(
        without(tree.folder.path(), &why),
        "cannot read /proc/diskstats: File too large (os error 27)"
    );
}

/// Of Debian 12 with docker and Tailscale.
#[tokio::test]
async fn physical_interfaces_and_bridges_count_and_tunnels_do_not() {
    let tree = Tree::new();
    tree.file(
        "proc/net/dev",
        "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:  999999     120    0    0    0     0          0         0   999999     120    0    0    0     0       0          0
  eth0: 1000     120    0    0    0     0          0         0     234     120    0    0    0     0       0          0
docker0:5000     120    0    0    0     0          0         0     600     120    0    0    0     0       0          0
veth1a2b3c: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
tailscale0: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
  wg0: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
dummy0: 7 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0
",
    );
    device(&tree, "class/net", "eth0", "device");
    device(&tree, "class/net", "docker0", "bridge");
    device(&tree, "class/net", "dummy0", "queues");
    let config = only(|on| on.network = true);
    let network = read(&mut tree.sensors(), &config).await.network.known();
    assert_eq!(
        network,
        [
            Interface { name: "eth0".to_owned(), bytes: 1234 },
            Interface { name: "docker0".to_owned(), bytes: 5600 },
        ]
    );
}

/// A lock's line names the file by device and inode; the waiter behind it is no holder.
#[tokio::test]
async fn dpkgs_lock_counts_while_it_is_held() {
    let tree = Tree::new();
    for file in ["var/lib/dpkg/lock-frontend", "var/lib/dpkg/lock", "var/lib/apt/lists/lock"] {
        tree.file(file, "");
    }
    let config = only(|on| on.packages = true);
    let mut sensors = tree.sensors();
    assert!(read(&mut sensors, &config).await.packages.known().is_empty());
    let stat = fs::metadata(tree.path("var/lib/dpkg/lock")).unwrap();
    let (major, minor) = (rustix::fs::major(stat.dev()), rustix::fs::minor(stat.dev()));
    let inode = stat.ino();
    tree.process(Fake { pid: 1234, comm: "dpkg", start: 555, ..Fake::default() });
    tree.file(
        "proc/locks",
        format!(
            "1: FLOCK  ADVISORY  WRITE 99 {major:02x}:{minor:02x}:1 0 EOF
2: POSIX  ADVISORY  WRITE 1234 {major:02x}:{minor:02x}:{inode} 0 EOF
2: -> POSIX  ADVISORY  WRITE 1235 {major:02x}:{minor:02x}:{inode} 0 EOF
3: OFDLCK ADVISORY  READ -1 {major:02x}:{minor:02x}:{inode} 0 EOF
4: POSIX  ADVISORY  WRITE 4321 {major:02x}:{minor:02x}:{inode} 0 EOF
"
        ),
    );
    let held = |pid, start| PackageLock { path: "/var/lib/dpkg/lock".to_owned(), pid, start };
    assert_eq!(
        read(&mut sensors, &config).await.packages.known(),
        [held(1234, 555), held(4321, 0)]
    );
}

/// The kernel's own list, with a lock that this test takes on a file of its own tree.
#[tokio::test]
async fn a_lock_in_the_kernels_list_is_found() {
    let tree = Tree::new();
    tree.file("var/lib/dpkg/lock-frontend", "");
    let file =
        fs::File::options().write(true).open(tree.path("var/lib/dpkg/lock-frontend")).unwrap();
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).unwrap();
    fs::copy("/proc/locks", tree.path("proc/locks")).unwrap();
    let config = only(|on| on.packages = true);
    let locks = read(&mut tree.sensors(), &config).await.packages.known();
    let mine = std::process::id();
    assert!(locks.iter().any(|lock| lock.pid == mine), "{locks:?}");
}

#[test]
fn lines_of_locks() {
    let place = (0xfe, 0x01, 123_456);
    assert_eq!(
        lock(b"1: POSIX  ADVISORY  WRITE 1234 fe:01:123456 0 EOF"),
        Some(Some((1234, place)))
    );
    assert_eq!(lock(b"1: FLOCK  ADVISORY  WRITE 0 fe:01:123456 0 EOF"), Some(None));
    assert_eq!(lock(b"1: LEASE  ACTIVE    READ 9 fe:01:123456 0 EOF"), Some(Some((9, place))));
    assert_eq!(lock(b"1: -> OFDLCK ADVISORY  WRITE -1 fe:01:123456 0 EOF"), Some(None));
    assert_eq!(lock(b"1: POSIX  ADVISORY  WRITE 1234 fe:01 0 EOF"), None);
    assert_eq!(lock(b"1 POSIX"), None);
    assert_eq!(lock(b""), None);
}
