//! The agents that a box has one of, and how one is asked. A later one is one more entry in
//! [`AGENTS`]; of session keepers there is [one for each user](crate::keeper).

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use idle_stopper::api;
use zlink::tokio::unix::{self, Connection};

use crate::report::{Code, Failure};

/// Nothing that is asked may take longer. An agent answers from memory, so this is a sign.
pub const DEADLINE: Duration = Duration::from_secs(5);

/// An agent as this program knows it.
#[derive(Clone, Copy, Debug)]
pub struct Agent {
    /// The name of its package, its unit and its user.
    pub package: &'static str,
    /// Its program, which is there exactly when its package is installed.
    pub program: &'static str,
    /// Where it listens.
    pub socket: &'static str,
}

/// `guppy-idle-stopper`.
pub const IDLE_STOPPER: Agent = Agent {
    package: "guppy-idle-stopper",
    program: "/usr/bin/guppy-idle-stopper",
    socket: api::SOCKET,
};

/// `guppy-exit-router`.
pub const EXIT_ROUTER: Agent = Agent {
    package: "guppy-exit-router",
    program: "/usr/bin/guppy-exit-router",
    socket: exit_router::api::SOCKET,
};

/// All of them, installed here or not.
pub const AGENTS: [Agent; 2] = [IDLE_STOPPER, EXIT_ROUTER];

impl Agent {
    /// Whether its package is installed on this box.
    pub fn is_installed(&self) -> bool {
        Path::new(self.program).exists()
    }

    /// Its unit.
    pub fn unit(&self) -> String {
        format!("{}.service", self.package)
    }

    /// Asks it one thing: connects to it, or to `socket` in its place, and awaits what `question`
    /// makes of the connection.
    ///
    /// # Errors
    /// It is not there, it did not answer within [`DEADLINE`], or it said no.
    pub async fn ask<T, E, F>(
        &self,
        socket: Option<&Path>,
        question: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = zlink::Result<Result<T, E>>>,
        E: No,
    {
        self.ask_within(DEADLINE, socket, question).await
    }

    async fn ask_within<T, E, F>(
        &self,
        deadline: Duration,
        socket: Option<&Path>,
        question: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = zlink::Result<Result<T, E>>>,
        E: No,
    {
        let path = socket.map_or_else(|| PathBuf::from(self.socket), Path::to_path_buf);
        let answer = async {
            let connection =
                unix::connect(&path).await.map_err(|error| self.absent(&path, error))?;
            question(connection).await.map_err(|error| self.speechless(&error))
        };
        match tokio::time::timeout(deadline, answer).await {
            Ok(Ok(Ok(answer))) => Ok(answer),
            Ok(Ok(Err(no))) => Err(Failure::new(no.code(), no)),
            Ok(Err(failure)) => Err(failure),
            Err(_) => Err(Failure::new(
                Code::Unhealthy,
                format!(
                    "{} did not answer within {deadline:?}; see: journalctl -u {0}",
                    self.package
                ),
            )),
        }
    }

    /// What to say when nobody listens.
    fn absent(&self, path: &Path, error: zlink::Error) -> Failure {
        let missing =
            matches!(&error, zlink::Error::Io(io) if io.kind() == io::ErrorKind::NotFound);
        let message = if missing && !self.is_installed() {
            not_installed(self.package)
        } else {
            let error = match error {
                zlink::Error::Io(io) => io.to_string(),
                other => other.to_string(),
            };
            format!(
                "{} cannot be reached at {} ({error}); see: systemctl status {}",
                self.package,
                path.display(),
                self.package
            )
        };
        Failure::new(Code::Failed, message)
    }

    /// What to say when it closes the connection, or answers what this program does not know.
    fn speechless(&self, error: &zlink::Error) -> Failure {
        Failure::new(
            Code::Failed,
            format!(
                "{} gave no answer that this guppy understands ({error}); after an upgrade: \
                 sudo systemctl restart {0}; else see: journalctl -u {0}",
                self.package
            ),
        )
    }
}

/// What to say where a package is missing.
pub fn not_installed(package: &str) -> String {
    format!("{package} is not installed on this box: sudo apt install {package}")
}

/// An agent's way to say no.
pub trait No: std::fmt::Display {
    /// The exit status for it.
    fn code(&self) -> Code;
}

impl No for api::Error {
    fn code(&self) -> Code {
        match self {
            Self::Refused { .. } => Code::Refused,
            Self::NoSuchHold { .. } | Self::Failed { .. } => Code::Failed,
        }
    }
}

impl No for exit_router::api::Error {
    fn code(&self) -> Code {
        match self {
            Self::Refused { .. } => Code::Refused,
            Self::Failed { .. } => Code::Failed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn a_missing_agent_is_named_with_its_package() {
        let agent = Agent {
            package: "guppy-example",
            program: "/nonexistent/guppy-example",
            socket: "/nonexistent/example.sock",
        };
        let said = agent
            .ask(None, |_| async { Ok(Ok::<_, api::Error>(())) })
            .await
            .expect_err("nobody is there");
        assert_eq!(said.code, Code::Failed);
        assert_eq!(
            said.message,
            "guppy-example is not installed on this box: sudo apt install guppy-example"
        );
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_installed_agent_that_does_not_listen_is_not_called_missing() {
        let agent = Agent {
            package: "guppy-example",
            program: "/proc/self/exe",
            socket: "/nonexistent/example.sock",
        };
        let said = agent
            .ask(None, |_| async { Ok(Ok::<_, api::Error>(())) })
            .await
            .expect_err("nobody listens");
        assert!(said.message.starts_with("guppy-example cannot be reached at"), "{said}");
        assert!(said.message.contains("systemctl status guppy-example"), "{said}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn an_agent_that_hangs_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("hangs.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
        let said = IDLE_STOPPER
            .ask_within(Duration::from_millis(1), Some(&path), |_connection| {
                std::future::pending::<zlink::Result<Result<(), api::Error>>>()
            })
            .await
            .expect_err("no answer");
        assert_eq!(said.code, Code::Unhealthy);
    }

    #[test]
    fn a_refusal_has_an_exit_status_of_its_own() {
        let message = String::new;
        assert_eq!(api::Error::Refused { message: message() }.code().number(), 4);
        assert_eq!(api::Error::Failed { message: message() }.code().number(), 1);
        assert_eq!(api::Error::NoSuchHold { id: 1 }.code().number(), 1);
    }
}
