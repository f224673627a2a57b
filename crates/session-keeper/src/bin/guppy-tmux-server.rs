//! What guppy-tmux@USER.service runs. Installed as /usr/libexec/guppy/guppy-tmux-server.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    guppy_session_keeper::tmux_server::main()
}
