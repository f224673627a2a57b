//! What an agent without ids has kept of a session is the conversation itself. When the session is
//! forgotten, the next one of that name must not go on in it, and nobody has asked for its end: so
//! it is put aside, beside where it was.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::agents::{Agent, Places, own_files};

/// Puts aside what these agents have of one session.
///
/// # Errors
/// Those of the file system.
pub(super) fn put_aside<'a>(
    agents: impl Iterator<Item = &'a Agent>,
    places: Places<'_>,
) -> Result<(), String> {
    for file in agents.flat_map(|agent| own_files(agent, places)) {
        match fs::rename(&file, free(&file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{file}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The first number that nothing has.
fn free(file: &str) -> PathBuf {
    let mut number = 1_u64;
    loop {
        let path = format!("{file}.{number}");
        if !Path::new(&path).exists() {
            return path.into();
        }
        number += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::agents::Folders;
    use crate::agents::tests::places_below;
    use crate::name::SessionName;

    #[test]
    fn a_history_is_not_there_for_the_next_session_of_that_name_and_not_lost() {
        let folder = tempfile::tempdir().unwrap();
        let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/agents.d");
        let all = Folders(vec![shipped.into()]).read().unwrap();
        let name = SessionName::parse("shop/fix").unwrap();
        let places = places_below(folder.path(), &name);
        let at = |name: &str| folder.path().join("aider").join(name);
        fs::create_dir(folder.path().join("aider")).unwrap();
        let put_aside = || put_aside(all.values().flatten(), places).unwrap();
        put_aside();
        for (number, text) in [(1, "walnut"), (2, "maple")] {
            fs::write(at("shop+fix.md"), text).unwrap();
            fs::write(at("shop+other.md"), "linden").unwrap();
            put_aside();
            assert!(!at("shop+fix.md").exists());
            let kept = fs::read_to_string(at(&format!("shop+fix.md.{number}"))).unwrap();
            assert_eq!(kept, text);
        }
        assert!(at("shop+other.md").exists());
    }
}
