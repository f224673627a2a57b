//! What a pane of a kept session runs. Installed as /usr/libexec/guppy/guppy-session-shim.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    guppy_session_keeper::shim::main()
}
