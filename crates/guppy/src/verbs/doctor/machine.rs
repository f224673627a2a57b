//! The box: what its kernel tells, its clock, its room, and who forbids a shutdown.

use std::fs;
use std::path::Path;

use sysinfo::{Disk, Disks, MemoryRefreshKind, RefreshKind, System};

use super::Finding;
use crate::bus::{Answer, Bus, Lock};
use crate::span;
use crate::table::printable;

/// Less than this share of a disk or of memory is worth a word.
const SCARCE: f64 = 0.05;

pub(super) async fn look(bus: &Answer<Bus>) -> Vec<Finding> {
    let mut findings =
        vec![cgroups(Path::new("/sys/fs/cgroup")), pressure(Path::new("/proc/pressure"))];
    match bus {
        Ok(bus) => {
            findings.push(clock(bus.clock_is_synchronised().await));
            findings.push(locks(bus.locks().await));
        }
        Err(error) => {
            findings.push(Finding::warn("bus", error.clone(), "see: systemctl status dbus"));
        }
    }
    findings.push(disks());
    findings.push(memory());
    findings
}

fn cgroups(root: &Path) -> Finding {
    // Only the root of a version 2 hierarchy has this file (cgroups(7)).
    match fs::metadata(root.join("cgroup.controllers")) {
        Ok(_) => Finding::ok("cgroups", format!("version 2 at {}", root.display())),
        Err(error) => Finding::bad(
            "cgroups",
            format!(
                "no version 2 hierarchy at {} ({error}): CPU and builds are not seen",
                root.display()
            ),
            "boot with systemd.unified_cgroup_hierarchy=1",
        ),
    }
}

fn pressure(folder: &Path) -> Finding {
    let file = folder.join("io");
    // A kernel with psi=0 has the file and refuses to read it.
    match fs::read_to_string(&file) {
        Ok(text) if text.starts_with("some ") => {
            Finding::ok("pressure", format!("{}", file.display()))
        }
        Ok(_) => unpressed(format!("{} is empty", file.display())),
        Err(error) => unpressed(format!("{}: {error}", file.display())),
    }
}

fn unpressed(found: String) -> Finding {
    Finding::warn(
        "pressure",
        format!("{found}: waiting for a slow disk is seen by its bytes only"),
        "boot a kernel with CONFIG_PSI=y, with psi=1 where it is off by default",
    )
}

fn clock(synchronised: Answer<bool>) -> Finding {
    let uptime = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec;
    let up = span::text(u64::try_from(uptime).unwrap_or(0));
    match synchronised {
        Ok(true) => Finding::ok("clock", format!("up {up}, wall clock synchronised")),
        Ok(false) => Finding::warn(
            "clock",
            format!("up {up}, wall clock not synchronised: times in the journal may be wrong"),
            "sudo timedatectl set-ntp true. Nothing is decided by the wall clock",
        ),
        Err(error) => Finding::warn(
            "clock",
            format!("up {up}; timedated cannot be asked: {error}"),
            "see: timedatectl. Nothing is decided by the wall clock",
        ),
    }
}

fn locks(locks: Answer<Vec<Lock>>) -> Finding {
    match locks {
        Ok(locks) => {
            let blocking: Vec<_> =
                locks.iter().filter(|lock| forbids_shutdown(lock)).map(describe).collect();
            if blocking.is_empty() {
                Finding::ok("locks", "nobody forbids a shutdown")
            } else {
                Finding::warn(
                    "locks",
                    format!("shutdown is forbidden by {}", blocking.join("; ")),
                    "each counts as work for inhibit_at_most; to end one, end its process. See: \
                     systemd-inhibit --list",
                )
            }
        }
        Err(error) => Finding::bad(
            "locks",
            format!("logind cannot be asked: {error}"),
            "see: systemctl status systemd-logind",
        ),
    }
}

fn forbids_shutdown(lock: &Lock) -> bool {
    lock.mode.starts_with("block") && lock.what.split(':').any(|what| what == "shutdown")
}

fn describe(lock: &Lock) -> String {
    format!("{} (pid {}): {}", printable(&lock.who), lock.pid, printable(&lock.why))
}

fn disks() -> Finding {
    let disks = match Disks::new_with_refreshed_list() {
        Ok(disks) => disks,
        Err(error) => {
            return Finding::warn("disks", format!("cannot be read: {error}"), "see: df -h");
        }
    };
    // A read-only image (snap, squashfs) is full by nature.
    let full: Vec<_> = disks
        .iter()
        .filter(|disk| !disk.is_read_only() && scarce(disk.available_space(), disk.total_space()))
        .map(room)
        .collect();
    if full.is_empty() {
        Finding::ok("disks", "room on each")
    } else {
        Finding::warn(
            "disks",
            format!("nearly full: {}", full.join(", ")),
            "see: df -h; docker system df",
        )
    }
}

fn room(disk: &Disk) -> String {
    format!("{} ({} free)", disk.mount_point().display(), mib(disk.available_space()))
}

fn memory() -> Finding {
    let wanted = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = match System::new_with_specifics(wanted) {
        Ok(system) => system,
        Err(error) => {
            return Finding::warn("memory", format!("cannot be read: {error}"), "see: free -m");
        }
    };
    let (available, total) = (system.available_memory(), system.total_memory());
    let found = format!("{} of {} available", mib(available), mib(total));
    if scarce(available, total) {
        Finding::warn("memory", found, "see: systemd-cgtop -m")
    } else {
        Finding::ok("memory", found)
    }
}

fn scarce(available: u64, total: u64) -> bool {
    total > 0 && (available as f64) < (total as f64) * SCARCE
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_kernel_s_files_are_looked_for() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        assert_eq!(cgroups(folder.path()).verdict, Verdict::Bad);
        assert_eq!(pressure(folder.path()).verdict, Verdict::Warn);

        fs::write(folder.path().join("cgroup.controllers"), "cpu io\n")?;
        fs::write(folder.path().join("io"), "some avg10=0.00 total=5\n")?;
        assert_eq!(cgroups(folder.path()).verdict, Verdict::Ok);
        assert_eq!(pressure(folder.path()).verdict, Verdict::Ok);
        Ok(())
    }

    #[test]
    fn only_a_block_on_shutdown_is_a_finding() {
        let lock = |what: &str, mode: &str| Lock {
            what: what.to_owned(),
            who: "tester".to_owned(),
            why: "keep on".to_owned(),
            mode: mode.to_owned(),
            pid: 4063,
        };
        assert_eq!(locks(Ok(vec![lock("shutdown", "delay")])).verdict, Verdict::Ok);
        assert_eq!(locks(Ok(vec![lock("sleep:idle", "block")])).verdict, Verdict::Ok);
        let found = locks(Ok(vec![lock("sleep:shutdown", "block")]));
        assert_eq!(found.verdict, Verdict::Warn);
        assert_eq!(found.found, "shutdown is forbidden by tester (pid 4063): keep on");
        assert_eq!(locks(Err("no answer".to_owned())).verdict, Verdict::Bad);
    }

    #[test]
    fn the_clock_is_never_bad_since_nothing_is_decided_by_it() {
        assert_eq!(clock(Ok(true)).verdict, Verdict::Ok);
        assert_eq!(clock(Ok(false)).verdict, Verdict::Warn);
        assert_eq!(clock(Err("no answer".to_owned())).verdict, Verdict::Warn);
    }

    #[test]
    fn scarce_is_below_a_twentieth() {
        assert!(scarce(4, 100));
        assert!(!scarce(5, 100));
        assert!(!scarce(0, 0));
    }
}
