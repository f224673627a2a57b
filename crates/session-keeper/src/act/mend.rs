//! A transcript after a power cut: whole lines, and perhaps the rest of one that was cut off.
//!
//! ext4 writes a file's new length down with its journal, and what was added within a block that was
//! on the disk already only later (a power cut in mid-turn, Debian 13: each of 8 transcripts ended in
//! as many zeros as had been added since the last fsync). An agent goes on behind them, so its first
//! line would stand in one line with the zeros or with half of another: nobody can read that, and at
//! the resume after this one it is lost.
//!
//! That is claude. codex 0.169.0 begins a line of its own behind zeros and behind half a line, and
//! passes over both at each resume.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// So much is read at a time, from the end.
const CHUNK: u64 = 64 * 1024;

/// What was mended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mended {
    /// Zeros at the end that were taken away.
    pub zeros: u64,
    /// Whether the last line had no end, and was given one.
    pub line: bool,
}

/// Takes away zeros at the end of a transcript, and ends its last line; durably. None: it was whole,
/// or is not there. Nobody may be in the conversation.
///
/// # Errors
/// Those of the file system.
pub fn mend(path: &Path) -> io::Result<Option<Mended>> {
    let file = match File::options().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let long = file.metadata()?.len();
    let (kept, last) = without_zeros(&file, long)?;
    let mended = Mended { zeros: long - kept, line: last.is_some_and(|last| last != b'\n') };
    if mended == (Mended { zeros: 0, line: false }) {
        return Ok(None);
    }
    file.set_len(kept)?;
    if mended.line {
        file.write_all_at(b"\n", kept)?;
    }
    file.sync_all()?;
    Ok(Some(mended))
}

/// How long a file is up to its last byte that is no zero, and that byte.
fn without_zeros(file: &File, long: u64) -> io::Result<(u64, Option<u8>)> {
    let mut end = long;
    while end > 0 {
        let begin = end.saturating_sub(CHUNK);
        let mut chunk = vec![0; usize::try_from(end - begin).map_err(io::Error::other)?];
        file.read_exact_at(&mut chunk, begin)?;
        if let Some(at) = chunk.iter().rposition(|byte| *byte != 0) {
            return Ok((begin + at as u64 + 1, chunk.get(at).copied()));
        }
        end = begin;
    }
    Ok((0, None))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mended(text: &[u8]) -> (Option<Mended>, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transcript.jsonl");
        std::fs::write(&path, text).unwrap();
        let mended = mend(&path).unwrap();
        assert_eq!(mend(&path).unwrap(), None, "there is nothing left to mend");
        (mended, std::fs::read(&path).unwrap())
    }

    #[test]
    fn what_a_power_cut_has_left_ends_in_a_whole_line() {
        let whole = b"{\"a\":1}\n{\"b\":2}\n";
        assert_eq!(mended(whole), (None, whole.to_vec()));
        assert_eq!(mended(b""), (None, vec![]));
        for zeros in [1, 748, CHUNK, 3 * CHUNK + 7] {
            let many = vec![0; usize::try_from(zeros).unwrap()];
            let (what, text) = mended(&[whole.as_slice(), &many].concat());
            assert_eq!((what, text), (Some(Mended { zeros, line: false }), whole.to_vec()));
            let (what, text) = mended(&[whole.as_slice(), b"{\"c", &many].concat());
            assert_eq!(what, Some(Mended { zeros, line: true }));
            assert_eq!(text, [whole.as_slice(), b"{\"c\n"].concat());
            assert_eq!(mended(&many), (Some(Mended { zeros, line: false }), vec![]));
        }
        assert_eq!(mended(b"{\"a").1, b"{\"a\n");
    }

    #[test]
    fn a_conversation_without_a_transcript_is_none_to_mend() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(mend(&folder.path().join("none")).unwrap(), None);
    }
}
