//! The program itself in the place of its launcher. npm installs some agents as a script that runs a
//! native program of a package beside it, and stays its parent: a Node of 60 MB at rest for each
//! agent, which signals and exit statuses have to come through. agents.d says where in
//! `node_modules` the program is.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::environment::runs;

/// How a program begins that the kernel runs without an interpreter (elf(5)).
const ELF: [u8; 4] = *b"\x7fELF";

/// The native program of the npm package that `found` belongs to; `found` itself, where it is no
/// launcher of npm's or nothing better is there.
pub(super) fn of(found: PathBuf, native: &[String]) -> PathBuf {
    let Some(real) = found.canonicalize().ok().filter(|real| is_launcher(real)) else {
        return found;
    };
    // As Node resolves a package: in the `node_modules` of each folder above.
    let folders = real.ancestors().skip(1).map(|folder| folder.join("node_modules"));
    let mut programs =
        folders.flat_map(|modules| native.iter().map(move |place| modules.join(place)));
    programs.find(|program| runs(program) && is_elf(program)).unwrap_or(found)
}

/// A person's own script around an agent is left alone.
fn is_launcher(real: &Path) -> bool {
    real.components().any(|part| part.as_os_str() == "node_modules") && !is_elf(real)
}

fn is_elf(path: &Path) -> bool {
    let mut begin = [0; ELF.len()];
    File::open(path).and_then(|mut file| file.read_exact(&mut begin)).is_ok() && begin == ELF
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn program(path: &Path, text: &[u8]) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn npms_launcher_gives_way_to_the_program_and_nothing_else_does() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().canonicalize().unwrap().join(name);
        let native = ["@openai/codex-linux-x64/bin/codex".to_owned()];
        let launcher = at("lib/node_modules/@openai/codex/bin/codex.js");
        program(&launcher, b"#!/usr/bin/env node\n");
        fs::create_dir(at("bin")).unwrap();
        symlink(&launcher, at("bin/codex")).unwrap();
        // Without its native package, or with one that is none, it is what there is.
        assert_eq!(of(at("bin/codex"), &native), at("bin/codex"));
        let beside = at("lib/node_modules/@openai/codex-linux-x64/bin/codex");
        program(&beside, b"#!/bin/sh\n");
        assert_eq!(of(at("bin/codex"), &native), at("bin/codex"));
        program(&beside, b"\x7fELF...");
        assert_eq!(of(at("bin/codex"), &native), beside);
        assert_eq!(of(at("bin/codex"), &[]), at("bin/codex"));
        // npm puts it below its package too.
        let below =
            at("lib/node_modules/@openai/codex/node_modules/@openai/codex-linux-x64/bin/codex");
        program(&below, b"\x7fELF...");
        assert_eq!(of(at("bin/codex"), &native), below);

        program(&at("own/codex"), b"#!/bin/sh\n");
        assert_eq!(of(at("own/codex"), &native), at("own/codex"));
        assert_eq!(of(below.clone(), &native), below);
    }
}
