//! What OpenVPN says over its management socket, and how it is answered. Parts of a line are the
//! server's words.

use std::net::IpAddr;

use super::options::MTUS;

/// One line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It waits to be let go.
    Hold,
    /// It is about to be connected, with this MTU of the tunnel, in bytes.
    Mtu(u32),
    /// It is connected, with these addresses for the tunnel.
    Connected(Vec<IpAddr>),
    /// It connects anew; why, in a word of its own.
    Reconnecting(String),
    /// It wants user name and password; with `challenge` a code beside the password.
    NeedLogin {
        /// The config has `static-challenge`.
        challenge: bool,
    },
    /// It wants a password of something else.
    NeedPassword(String),
    /// The server wants a code of a session that is begun (CR_TEXT).
    Challenge,
    /// The server has refused the login.
    Refused {
        /// It would take a code with this state (CRV1).
        challenge: Option<String>,
    },
    /// Why it is about to end.
    Fatal(String),
    /// Nothing that is acted upon.
    Other,
}

/// Reads a line.
pub(super) fn parse(line: &str) -> Said {
    let Some((kind, rest)) = line.strip_prefix('>').and_then(|line| line.split_once(':')) else {
        return Said::Other;
    };
    match kind {
        "HOLD" => Said::Hold,
        "UPDOWN" => environment(rest),
        "STATE" => state(rest),
        "PASSWORD" => password(rest),
        "FATAL" => Said::Fatal(plain(rest)),
        "INFOMSG" if rest.starts_with("CR_TEXT:") => Said::Challenge,
        _ => Said::Other,
    }
}

/// Of what OpenVPN would tell a script, the tunnel's MTU alone: the file's, or what the server has
/// pushed in its place.
fn environment(rest: &str) -> Said {
    let mtu = rest.strip_prefix("ENV,tun_mtu=").and_then(|mtu| mtu.parse().ok());
    mtu.filter(|mtu| MTUS.contains(mtu)).map_or(Said::Other, Said::Mtu)
}

/// Time, name, detail, the tunnel's IPv4 address, the server's address and port, the own address and
/// port, the tunnel's IPv6 address.
fn state(rest: &str) -> Said {
    let fields: Vec<&str> = rest.split(',').collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    match field(1) {
        "CONNECTED" => {
            let addresses = [3, 8].map(field).into_iter().filter_map(|text| text.parse().ok());
            Said::Connected(addresses.collect())
        }
        "RECONNECTING" => Said::Reconnecting(plain(field(2))),
        _ => Said::Other,
    }
}

fn password(rest: &str) -> Said {
    if let Some(rest) = rest.strip_prefix("Need '") {
        let (what, rest) = rest.split_once('\'').unwrap_or((rest, ""));
        return match what {
            "Auth" => Said::NeedLogin { challenge: rest.contains(" SC:") },
            other => Said::NeedPassword(plain(other)),
        };
    }
    let Some(rest) = rest.strip_prefix("Verification Failed: 'Auth'") else {
        return match rest.strip_prefix("Verification Failed: '") {
            Some(rest) => Said::NeedPassword(plain(rest.split('\'').next().unwrap_or_default())),
            None => Said::Other,
        };
    };
    // ['CRV1:FLAGS:STATE:USER:TEXT']
    let reason = rest.trim().strip_prefix("['").unwrap_or_default();
    let mut parts = reason.split(':');
    let state = match (parts.next(), parts.next(), parts.next()) {
        (Some("CRV1"), Some(_), Some(state)) if !state.is_empty() => Some(state.to_owned()),
        _ => None,
    };
    Said::Refused { challenge: state }
}

/// Fit for one line of a log.
fn plain(text: &str) -> String {
    let printable = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().take(200).map(printable).collect()
}

/// A command's word in quotes (management-notes.txt, COMMAND -- password and username). A line feed
/// would begin another command.
pub(super) fn quoted(word: &str) -> String {
    let mut text = String::from("\"");
    for c in word.chars().filter(|c| !c.is_control()) {
        if matches!(c, '"' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text.push('"');
    text
}
