//! What agents and tmux call when something happens: tells the keeper, within a second, and never
//! fails whoever calls it.

use std::process::ExitCode;

fn main() -> ExitCode {
    guppy_session_keeper::hook::main();
    ExitCode::SUCCESS
}
