//! A disk with a volatile cache, as real ones have: what was written and not flushed is lost at a
//! power cut, block by block, each with a chance of one half.
//!
//! The end of qemu alone is no power cut, whatever its cache mode: what a guest has written is then
//! in this machine's page cache, which survives. So this disk is a server of its own (NBD over a
//! unix socket, qemu being its client) that keeps written blocks to itself until the guest flushes,
//! or writes with FUA.
//!
//! What it does not show: a block torn in two, versions between the last flushed one and the last
//! written one, a disk that lies about its flushes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::wait;

/// What is lost or kept as a whole.
const BLOCK: usize = 4096;
/// No request is larger: qemu's own limit.
const REQUEST_AT_MOST: usize = 32 << 20;

/// The numbers of the protocol (NBD, fixed newstyle, simple replies).
mod number {
    pub(super) const HELLO: u64 = 0x4e42_444d_4147_4943;
    pub(super) const OPTION: u64 = 0x4948_4156_454f_5054;
    pub(super) const OPTION_REPLY: u64 = 0x0003_e889_0455_65a9;
    pub(super) const REQUEST: u32 = 0x2560_9513;
    pub(super) const REPLY: u32 = 0x6744_6698;
    /// Fixed newstyle, no zeroes.
    pub(super) const HANDSHAKE_FLAGS: u16 = 3;
    /// Has flags, takes FLUSH, takes FUA.
    pub(super) const DISK_FLAGS: u16 = 1 | 4 | 8;
    pub(super) const ABORT: u32 = 2;
    pub(super) const INFO: u32 = 6;
    pub(super) const GO: u32 = 7;
    pub(super) const ACKNOWLEDGED: u32 = 1;
    pub(super) const INFORMATION: u32 = 3;
    pub(super) const UNSUPPORTED: u32 = 0x8000_0001;
    pub(super) const READ: u16 = 0;
    pub(super) const WRITE: u16 = 1;
    pub(super) const DISCONNECT: u16 = 2;
    pub(super) const FLUSH: u16 = 3;
    /// Of a write: be on the disk before the reply.
    pub(super) const FUA: u16 = 1;
    pub(super) const BAD_REQUEST: u32 = 22;
}

/// What a power cut did to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// Blocks of 4 KiB that had been written and not flushed.
    pub unflushed: usize,
    /// How many of them were lost.
    pub lost: usize,
}

/// A disk served until dropped. One machine at a time uses it.
#[derive(Debug)]
pub struct VolatileDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    file: File,
    size: u64,
    /// Written and not flushed, by the block's number.
    cache: BTreeMap<u64, Box<[u8; BLOCK]>>,
    connected: bool,
    closed: bool,
}

impl VolatileDisk {
    /// Serves a file, whose size is the disk's, on a unix socket.
    pub fn serve(file: &Path, socket: &Path) -> Result<Self> {
        let named = || format!("the disk {}", file.display());
        let opened = File::options().read(true).write(true).open(file).with_context(named)?;
        let size = opened.metadata().with_context(named)?.len();
        ensure!(size > 0 && size % BLOCK as u64 == 0, "{} is no number of blocks", named());
        let state = Arc::new(Mutex::new(State {
            file: opened,
            size,
            cache: BTreeMap::new(),
            connected: false,
            closed: false,
        }));
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).context("cannot listen for a disk")?;
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            // One after the other: each boot of the machine is a connection.
            for stream in listener.incoming().map_while(Result::ok) {
                if lock(&shared).closed {
                    return;
                }
                lock(&shared).connected = true;
                if let Err(error) = Connection::serve(stream, &shared) {
                    crate::say(format_args!("a volatile disk: {error:#}"));
                }
                lock(&shared).connected = false;
            }
        });
        Ok(Self { state })
    }

    /// The power goes, after the machine's processors: of the blocks that were not flushed, a
    /// random half is lost and the others have just made it.
    pub fn cut(&self) -> Result<Cut> {
        // What qemu had sent before it was killed has been sent.
        wait::until_true("the disk's last request", Duration::from_secs(120), || {
            Ok(!lock(&self.state).connected)
        })?;
        let mut state = lock(&self.state);
        let unflushed = state.cache.len();
        let mut coin = Coin::new()?;
        let mut lost = 0;
        state.cache.retain(|_, _| {
            let kept = coin.toss();
            lost += usize::from(!kept);
            kept
        });
        state.flush()?;
        Ok(Cut { unflushed, lost })
    }
}

impl Drop for VolatileDisk {
    fn drop(&mut self) {
        lock(&self.state).closed = true;
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// The blocks that a request touches: each block's number, and its part of the request.
    fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
        let mut done = 0;
        std::iter::from_fn(move || {
            if done >= length {
                return None;
            }
            let at = offset + done as u64;
            let inside = usize::try_from(at % BLOCK as u64).unwrap_or_default();
            let end = (done + BLOCK - inside).min(length);
            let part = done..end;
            done = end;
            Some((at / BLOCK as u64, part))
        })
    }

    fn on_disk(&self, number: u64) -> Result<Box<[u8; BLOCK]>> {
        let mut block = Box::new([0; BLOCK]);
        self.file.read_exact_at(&mut block[..], number * BLOCK as u64).context("reading")?;
        Ok(block)
    }

    fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_exact_at(bytes, offset).context("reading")?;
        for (number, part) in Self::parts(offset, bytes.len()) {
            if let Some(block) = self.cache.get(&number) {
                let inside = inside(offset, &part);
                if let (Some(to), Some(from)) = (bytes.get_mut(part), block.get(inside)) {
                    to.copy_from_slice(from);
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<()> {
        for (number, part) in Self::parts(offset, bytes.len()) {
            let inside = inside(offset, &part);
            let mut block = match self.cache.remove(&number) {
                Some(block) => block,
                None => self.on_disk(number)?,
            };
            if let (Some(to), Some(from)) = (block.get_mut(inside), bytes.get(part)) {
                to.copy_from_slice(from);
            }
            self.cache.insert(number, block);
        }
        Ok(())
    }

    /// What was cached goes to the file: for the guest, the platter.
    fn flush(&mut self) -> Result<()> {
        for (number, block) in std::mem::take(&mut self.cache) {
            self.file.write_all_at(&block[..], number * BLOCK as u64).context("writing")?;
        }
        Ok(())
    }

    /// The blocks of one write with FUA, and only they.
    fn flush_blocks(&mut self, offset: u64, length: usize) -> Result<()> {
        for (number, _) in Self::parts(offset, length) {
            if let Some(block) = self.cache.remove(&number) {
                self.file.write_all_at(&block[..], number * BLOCK as u64).context("writing")?;
            }
        }
        Ok(())
    }
}

/// Where in its block a part of a request lies.
fn inside(offset: u64, part: &std::ops::Range<usize>) -> std::ops::Range<usize> {
    let start = usize::try_from((offset + part.start as u64) % BLOCK as u64).unwrap_or_default();
    start..start + part.len()
}

/// One qemu at the disk.
struct Connection {
    stream: UnixStream,
}

impl Connection {
    fn serve(stream: UnixStream, state: &Mutex<State>) -> Result<()> {
        let mut connection = Self { stream };
        if connection.shake_hands(lock(state).size)? {
            while connection.answer(state)? {}
        }
        Ok(())
    }

    /// None once the other side has gone: qemu was killed, and that is what this disk is for.
    fn bytes<const N: usize>(&mut self) -> Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Ok(Some(bytes)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error).context("reading from qemu"),
        }
    }

    fn send(&mut self, parts: &[&[u8]]) -> Result<bool> {
        match self.stream.write_all(&parts.concat()) {
            Ok(()) => Ok(true),
            Err(error) if gone(&error) => Ok(false),
            Err(error) => Err(error).context("writing to qemu"),
        }
    }

    /// Options until the client goes on to the disk; whether it did.
    fn shake_hands(&mut self, size: u64) -> Result<bool> {
        self.send(&[
            &number::HELLO.to_be_bytes(),
            &number::OPTION.to_be_bytes(),
            &number::HANDSHAKE_FLAGS.to_be_bytes(),
        ])?;
        if self.bytes::<4>()?.is_none() {
            return Ok(false);
        }
        while let Some(magic) = self.bytes::<8>()? {
            ensure!(u64::from_be_bytes(magic) == number::OPTION, "an option that is none");
            let (Some(option), Some(length)) = (self.bytes::<4>()?, self.bytes::<4>()?) else {
                break;
            };
            let option = u32::from_be_bytes(option);
            let mut data = vec![0; u32::from_be_bytes(length).min(4096) as usize];
            self.stream.read_exact(&mut data).context("an option's data")?;
            match option {
                number::INFO | number::GO => {
                    // Kind 0: the export's size and flags.
                    let (size, flags) = (size.to_be_bytes(), number::DISK_FLAGS.to_be_bytes());
                    let information = [&[0, 0], &size[..], &flags[..]].concat();
                    self.reply(option, number::INFORMATION, &information)?;
                    self.reply(option, number::ACKNOWLEDGED, &[])?;
                    if option == number::GO {
                        return Ok(true);
                    }
                }
                number::ABORT => {
                    self.reply(option, number::ACKNOWLEDGED, &[])?;
                    return Ok(false);
                }
                _ => {
                    self.reply(option, number::UNSUPPORTED, &[])?;
                }
            }
        }
        Ok(false)
    }

    fn reply(&mut self, option: u32, kind: u32, data: &[u8]) -> Result<bool> {
        let length = u32::try_from(data.len()).context("a long reply")?;
        self.send(&[
            &number::OPTION_REPLY.to_be_bytes(),
            &option.to_be_bytes(),
            &kind.to_be_bytes(),
            &length.to_be_bytes(),
            data,
        ])
    }

    /// One request; false once there will be none.
    fn answer(&mut self, state: &Mutex<State>) -> Result<bool> {
        let Some(header) = self.bytes::<28>()? else { return Ok(false) };
        let mut rest = &header[..];
        let (magic, flags, kind) = (take(&mut rest), take(&mut rest), take(&mut rest));
        let cookie = u64::from_be_bytes(take(&mut rest));
        let (offset, length) = (u64::from_be_bytes(take(&mut rest)), take(&mut rest));
        let (flags, kind) = (u16::from_be_bytes(flags), u16::from_be_bytes(kind));
        let length = u32::from_be_bytes(length) as usize;
        ensure!(u32::from_be_bytes(magic) == number::REQUEST, "a request that is none");
        ensure!(length <= REQUEST_AT_MOST, "a request of {length} bytes");
        let mut data = vec![0; if kind == number::WRITE { length } else { 0 }];
        match self.stream.read_exact(&mut data) {
            Err(error) if gone(&error) => return Ok(false),
            other => other.context("the data of a write")?,
        }
        let mut error = 0u32;
        {
            let mut state = lock(state);
            let fits = offset.checked_add(length as u64).is_some_and(|end| end <= state.size);
            match kind {
                number::READ if fits => {
                    data = vec![0; length];
                    state.read(offset, &mut data)?;
                }
                number::WRITE if fits => {
                    state.write(offset, &data)?;
                    data.clear();
                    if flags & number::FUA != 0 {
                        state.flush_blocks(offset, length)?;
                    }
                }
                number::FLUSH => state.flush()?,
                number::DISCONNECT => return Ok(false),
                _ => {
                    data.clear();
                    error = number::BAD_REQUEST;
                }
            }
        }
        self.send(&[
            &number::REPLY.to_be_bytes(),
            &error.to_be_bytes(),
            &cookie.to_be_bytes(),
            &data,
        ])
    }
}

/// The next bytes of a header that holds enough of them.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((first, after)) = rest.split_first_chunk::<N>() else { return [0; N] };
    *rest = after;
    *first
}

fn gone(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// A fair coin (xorshift, from a seed of the kernel's).
struct Coin(u64);

impl Coin {
    fn new() -> Result<Self> {
        let mut seed = [0; 8];
        File::open("/dev/urandom")?.read_exact(&mut seed).context("no seed")?;
        let seed = u64::from_ne_bytes(seed);
        if seed == 0 {
            bail!("the kernel's randomness is none");
        }
        Ok(Self(seed))
    }

    fn toss(&mut self) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 63 == 1
    }
}
