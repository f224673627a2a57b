//! Writes what the package of the command line ships beside the binary, made from the same
//! definition: `assets FOLDER` fills FOLDER/man and FOLDER/completions.

use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;
use guppy_cli::cli::Cli;

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("usage: assets FOLDER"));
    };
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    fs::create_dir_all(&man)?;
    fs::create_dir_all(&completions)?;

    clap_mangen::generate_to(Cli::command(), &man)?;
    for page in fs::read_dir(&man)? {
        let page = page?;
        // What all verbs have in common, such as the exit status, is in the page of guppy itself.
        if page.file_name() != "guppy.1" {
            let mut file = fs::OpenOptions::new().append(true).open(page.path())?;
            file.write_all(b".SH \"SEE ALSO\"\n.BR guppy (1)\n")?;
        }
    }
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        clap_complete::generate_to(shell, &mut Cli::command(), "guppy", &completions)?;
    }
    Ok(())
}
