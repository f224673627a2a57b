//! exit-router-helper: what runs in units beside the daemon's. `block` closes before the network is up
//! and after others have flushed; `unblock` takes all of ours away; `cuts` says what the block would
//! cut; `client NAME` runs a customer's VPN.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use exit_router::{block, client};

const USAGE: &str = "usage: exit-router-helper block | unblock | cuts | client NAME";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["block"] => block::main(block::Want::Closed),
        ["unblock"] => block::main(block::Want::Nothing),
        ["cuts"] => block::cuts(),
        ["client", words @ ..] => client::main(words),
        _ => {
            eprintln!("{USAGE}");
            ExitCode::from(service::args::USAGE)
        }
    }
}
