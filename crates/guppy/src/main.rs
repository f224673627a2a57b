//! Parse, run the verb, say what came out.

#![forbid(unsafe_code)]

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
            let rendered = error.render().to_string();
            let message = rendered.strip_prefix("error: ").unwrap_or(&rendered);
            return report::failed(&report::Failure::new(Code::Usage, message), true);
        }
    };
    let json = cli.json;
    match verbs::run(cli) {
        Ok(report) => report.print(json),
        Err(failure) => report::failed(&failure, json),
    }
}
