//! Parse, run the verb, say what came out.

use std::process::ExitCode;

use clap::Parser;
use guppy_cli::cli::Cli;
use guppy_cli::report::{self, Code};
use guppy_cli::verbs;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // Help and version are answers, not failures.
        Err(answer) if !answer.use_stderr() => answer.exit(),
        Err(error) => {
            let json =
                std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
            if !json {
                error.exit();
            }
            return report::failed(&report::Failure::new(Code::Usage, error.render()), true);
        }
    };
    let json = cli.json;
    match verbs::run(cli) {
        Ok(report) => report.print(json),
        Err(failure) => report::failed(&failure, json),
    }
}
