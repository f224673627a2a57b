//! Whether a provider's address takes a connection. Nothing is said to it.
//!
//! Its name is resolved by getent(1), a program of the system's own: this daemon is linked
//! statically, and its own resolver would load the modules that /etc/nsswitch.conf names, each
//! made for another libc. With libnss-myhostname or libnss-resolve of Debian 13 in a program linked
//! on Debian 12 that is no error but SIGFPE, at each look, for ever.

use std::net::{IpAddr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::task::JoinSet;

/// Asks `host:port`; `[host]:port` for an address of version 6. None: it has taken a connection.
/// Else why not, in words.
pub async fn reach(address: &str, within: Duration) -> Option<String> {
    match tokio::time::timeout(within, connect(address)).await {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some(format!("no answer within {}", humantime::format_duration(within))),
    }
}

async fn connect(address: &str) -> Result<(), String> {
    let (host, port) = address.rsplit_once(':').ok_or("not host:port")?;
    let port: u16 = port.parse().map_err(|_| "not host:port".to_owned())?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![address],
        Err(_) => resolve(host).await?,
    };
    // All at once: one that swallows what is sent to it (a network whose version 6 leads nowhere)
    // must not use up the time of the others.
    let mut asked = JoinSet::new();
    for address in addresses {
        asked.spawn(TcpStream::connect(SocketAddr::new(address, port)));
    }
    let mut failed = format!("{host} has no address");
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(Ok(_)) => return Ok(()),
            Ok(Err(error)) => failed = error.to_string(),
            Err(error) => failed = error.to_string(),
        }
    }
    Err(failed)
}

/// The addresses of a name, each once.
async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    let mut command = Command::new("getent");
    command.args(["ahosts", "--", host]).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| format!("getent: {error}"))?;
    let mut addresses: Vec<IpAddr> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next()?.parse().ok())
        .collect();
    addresses.dedup();
    match addresses.is_empty() {
        // getent says nothing of why.
        true => Err(format!("the name {host} cannot be resolved")),
        false => Ok(addresses),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::TcpListener;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test(flavor = "current_thread")]
    async fn a_name_and_an_address_are_reached_and_what_does_not_listen_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost"] {
            assert_eq!(reach(&format!("{host}:{port}"), LONG).await, None, "{host}");
        }
        drop(listener);
        let refused = reach(&format!("127.0.0.1:{port}"), LONG).await.unwrap();
        assert!(refused.contains("refused"), "{refused}");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_cannot_be_resolved_is_said_and_no_option_of_getents() {
        for host in ["no-such-host.invalid", "--help", "-s"] {
            let why = reach(&format!("{host}:443"), LONG).await.unwrap();
            assert!(why.contains("cannot be resolved"), "{host}: {why}");
        }
        assert!(reach("[::1", LONG).await.is_some());
    }
}
