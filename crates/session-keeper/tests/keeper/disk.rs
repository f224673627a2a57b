//! A disk that forgets what was not flushed, block by block ([`VolatileDisk`]): between it and the
//! kernel's own ext4 stand qemu's storage daemon, which shows it as a file, and a loop device.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use lab::volatile_disk::VolatileDisk;

use crate::world::until;

/// A machine's disk, and the way to it while there is power.
pub(crate) struct Disk {
    folder: PathBuf,
    disk: VolatileDisk,
    shown: Option<(Child, String)>,
}

pub(crate) fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    assert!(output.status.success(), "{program} {words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

impl Disk {
    /// An empty one, with power.
    pub(crate) fn new(folder: &Path) -> Self {
        let file = folder.join("disk");
        fs::File::create(&file).unwrap().set_len(64 << 20).unwrap();
        run("mkfs.ext4", &["-q", file.to_str().unwrap()]);
        fs::create_dir(folder.join("mounted")).unwrap();
        let disk = VolatileDisk::serve(&file, &folder.join("disk.sock")).unwrap();
        let mut disk = Self { folder: folder.to_owned(), disk, shown: None };
        disk.power_on();
        disk
    }

    fn at(&self, name: &str) -> String {
        self.folder.join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn power_on(&mut self) {
        let shown = self.at("shown");
        // Beside the last one, whose mount may still be in use by what is being killed.
        let _ = fs::remove_file(&shown);
        fs::write(&shown, "").unwrap();
        let mut daemon = Command::new("qemu-storage-daemon");
        let node =
            format!("driver=nbd,node-name=d,server.type=unix,server.path={}", self.at("disk.sock"));
        daemon.args(["--blockdev", &node, "--export"]);
        daemon.arg(format!("type=fuse,id=e,node-name=d,mountpoint={shown},writable=on"));
        let daemon = daemon.spawn().unwrap();
        until("the disk", || fs::metadata(&shown).is_ok_and(|file| file.len() > 0));
        let device = run("losetup", &["--find", "--show", &shown]);
        // Nothing is written back by itself while a test lasts.
        run("mount", &["-o", "commit=300", &device, &self.at("mounted")]);
        self.shown = Some((daemon, device));
    }

    /// Whether this stands in what was flushed.
    pub(crate) fn has_kept(&self, text: &str) -> bool {
        let kept = fs::read(self.at("disk")).unwrap();
        kept.windows(text.len()).any(|part| part == text.as_bytes())
    }

    /// From here on nothing that is written counts; a half of what was not flushed never did.
    pub(crate) fn cut(&mut self) -> lab::volatile_disk::Cut {
        let (mut daemon, device) = self.shown.take().unwrap();
        daemon.kill().unwrap();
        daemon.wait().unwrap();
        let cut = self.disk.cut().unwrap();
        run("umount", &["--lazy", &self.at("mounted")]);
        run("losetup", &["--detach", &device]);
        run("umount", &["--lazy", &self.at("shown")]);
        cut
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.shown.is_some() {
            self.cut();
        }
    }
}
