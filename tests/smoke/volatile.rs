//! A disk that forgets at a power cut: what was not flushed, in part; what was flushed, never.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::volatile_disk::{Cut, VolatileDisk};
use lab::{Image, Release, Switch, Vm, ledger, process, scenario};

const SOON: Duration = Duration::from_secs(120);
/// Blocks of 4 KiB that are written and not flushed: enough that half of them is about a half.
const BLOCKS: usize = 1024;

/// A half of [`BLOCKS`], give or take twelve times the spread of as many coins.
fn about_half(count: usize) -> bool {
    (BLOCKS * 5 / 16..=BLOCKS * 11 / 16).contains(&count)
}

/// Runs commands of qemu's own disk client, which is then killed so that it cannot flush.
fn qemu_io(socket: &Path, commands: &[&str]) -> Result<String> {
    let mut command = Command::new("qemu-io");
    command
        .args(["-f", "raw", "-t", "writeback"])
        .arg(format!("nbd+unix:///?socket={}", socket.display()));
    for each in commands {
        command.args(["-c", each]);
    }
    command.args(["-c", "sigraise 9"]);
    let output = process::run(command, b"", SOON)?;
    ensure!(output.status == 128 + 9, "qemu-io: {output:?}");
    ensure!(!output.stdout.contains("failed"), "qemu-io: {output:?}");
    Ok(output.stdout)
}

#[test]
fn what_is_not_flushed_is_lost_by_half() {
    scenario(|| {
        let (place, _) = ledger::place("gd")?;
        let (file, socket) = (place.join("disk"), place.join("socket"));
        std::fs::write(&file, vec![b'o'; 16 << 20])?;
        let disk = VolatileDisk::serve(&file, &socket)?;
        let fill = |wanted: u8| -> Result<usize> {
            let bytes = std::fs::read(&file)?;
            let blocks = bytes.chunks(4096).take(BLOCKS);
            // A block is one or the other, never torn.
            Ok(blocks.filter(|block| block.iter().all(|byte| *byte == wanted)).count())
        };

        // Written by pieces that are no blocks, read back from the cache, and only there.
        let said = qemu_io(&socket, &["write -q -P 0x6e 512 3072", "read -P 0x6e 512 3072"])?;
        ensure!(!said.contains("verification"), "{said}");
        ensure!(std::fs::read(&file)?.iter().all(|byte| *byte == b'o'), "written through");
        let one = disk.cut()?;
        ensure!(one.unflushed == 1, "{one:?}");
        std::fs::write(&file, vec![b'o'; 16 << 20])?;

        let length = format!("{}", BLOCKS * 4096);
        qemu_io(&socket, &[&format!("write -q -P 0x6e 0 {length}")])?;
        let cut = disk.cut()?;
        ensure!(cut.unflushed == BLOCKS && about_half(cut.lost), "{cut:?}");
        ensure!(fill(b'o')? == cut.lost && fill(b'n')? == BLOCKS - cut.lost, "{cut:?}");

        qemu_io(&socket, &[&format!("write -q -P 0x66 0 {length}"), "flush"])?;
        ensure!(disk.cut()? == Cut { unflushed: 0, lost: 0 });
        ensure!(fill(b'f')? == BLOCKS, "flushed, and lost");

        // One write that is through at once, beside one that is not.
        qemu_io(&socket, &["write -q -P 0x61 0 4096", "write -q -f -P 0x62 8192 4096"])?;
        ensure!(std::fs::read(&file)?.get(8192) == Some(&b'b'), "FUA was not through");
        ensure!(disk.cut()?.unflushed == 1);
        drop(disk);
        ledger::leave(&place);
        Ok(())
    });
}

#[test]
fn a_machine_loses_at_a_power_cut_what_it_had_not_flushed() {
    scenario(|| {
        for release in Release::of_this_run() {
            loses(*release).with_context(|| format!("on {}", release.name()))?;
        }
        Ok(())
    });
}

fn loses(release: Release) -> Result<()> {
    let switch = Switch::new()?;
    let mut vm = Vm::builder(&Image::of(release)?).nic(&switch).volatile_home(256).boot()?;
    vm.wait_booted(SOON)?;
    let home = vm.sh("findmnt -no SOURCE,FSTYPE /home && stat -c %U /home/dev")?.ok()?;
    ensure!(home.contains("ext4") && home.ends_with("dev"), "{home}");

    // The file system commits by itself, with a flush, every five seconds: not here.
    vm.sh("mount -o remount,commit=900 /home && cd /home/dev && umask 022 && \
           head -c 4M /dev/zero | tr '\\0' o >file && cp file kept && sync")?
        .ok()?;
    // Past the page cache and onto the disk, with no flush.
    vm.sh("cd /home/dev && head -c 4M /dev/zero | tr '\\0' n | \
           dd of=file bs=256K iflag=fullblock oflag=direct conv=notrunc status=none && \
           head -c 1M /dev/zero >unsynced")?
        .ok()?;
    let cut = vm.power_cut()?.context("no volatile disk")?;
    lab::say(format_args!("{}: {cut:?}", release.name()));
    ensure!(cut.unflushed >= BLOCKS, "flushed by somebody: {cut:?}");

    vm.start_again()?;
    vm.wait_booted(SOON)?;
    let count = |file: &str, letter: char| -> Result<usize> {
        let text = vm.sh(&format!("tr -cd {letter} </home/dev/{file} | wc -c"))?.ok()?;
        Ok(text.trim().parse::<usize>()? / 4096)
    };
    ensure!(count("kept", 'o')? == BLOCKS, "what was flushed is gone");
    let (old, new) = (count("file", 'o')?, count("file", 'n')?);
    ensure!(old + new == BLOCKS && about_half(old), "{old} old blocks, {new} new ones");
    ensure!(vm.sh("test -s /home/dev/unsynced")?.status != 0, "what never left memory is here");

    // The same after fsync is there, and so is its name; a reboot is no cut.
    vm.sh("cd /home/dev && dd if=kept of=synced bs=256K conv=fsync status=none && \
           sync /home/dev")?
        .ok()?;
    ensure!(vm.power_cut()?.is_some());
    vm.start_again()?;
    ensure!(vm.sh("cmp /home/dev/kept /home/dev/synced")?.status == 0, "fsync was not kept");
    let errors = vm.sh("dmesg | grep -iE 'EXT4-fs error|I/O error'")?;
    ensure!(errors.status == 1, "{}", errors.stdout);
    Ok(())
}
