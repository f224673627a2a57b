//! Memory that is not needed any more goes back to the kernel. glibc keeps what was freed below
//! anything that is still in use: a daemon that has once read what two hundred sessions wrote would be
//! as large for good.

/// Gives back what was freed, and is not in use any more. It costs some hundred microseconds: for after
/// a piece of work that took memory, not for each.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code, reason = "no crate has a safe way to it")]
    // SAFETY: it takes a number and no pointer, and locks the arenas that it looks at (malloc_trim(3):
    // MT-Safe).
    unsafe {
        libc::malloc_trim(0)
    };
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Bytes of this process that no file is behind.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    #[cfg(target_env = "gnu")]
    fn what_was_freed_below_what_is_in_use_is_given_back() {
        const BLOCK: usize = 1000;
        const BLOCKS: usize = 32 << 10;

        let mut blocks: Vec<_> = (0..BLOCKS).map(|_| vec![1_u8; BLOCK]).collect();
        let last = blocks.pop();
        let full = resident();
        drop(blocks);
        give_back();
        let left = resident();
        assert!(full - left > BLOCKS * BLOCK / 2, "{full} bytes before, {left} after");
        drop(last);
    }
}
