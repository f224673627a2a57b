//! OpenVPN's management interface (management-notes.txt): what it asks for, and what it tells. Names
//! and passwords go this way alone.

use std::net::IpAddr;

/// Something that OpenVPN says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// It waits to be let go.
    Hold,
    /// It wants a name and a password; with the server's question for a code, where it has one.
    WantsAuth {
        /// The server asks for a code too (static challenge).
        challenge: bool,
    },
    /// It wants something that nobody has, as the passphrase of a key.
    WantsElse(String),
    /// The server has refused the login.
    Refused(String),
    /// It is connected, and the server has given these addresses.
    Connected(Vec<IpAddr>),
    /// It is at something else: why, or at what.
    At(String),
}

/// Reads one line; None: nothing of interest.
pub(super) fn parse(line: &str) -> Option<Said> {
    let (kind, rest) = line.strip_prefix('>')?.split_once(':')?;
    match kind {
        "HOLD" => Some(Said::Hold),
        "PASSWORD" => {
            if let Some(why) = rest.strip_prefix("Verification Failed: ") {
                return Some(Said::Refused(why.to_owned()));
            }
            let wanted = rest.strip_prefix("Need ")?;
            if wanted.starts_with("'Auth' username/password") {
                return Some(Said::WantsAuth { challenge: wanted.contains(" SC:") });
            }
            Some(Said::WantsElse(wanted.to_owned()))
        }
        "STATE" => state(rest),
        "FATAL" => Some(Said::At(rest.to_owned())),
        _ => None,
    }
}

/// time, state, description, own IPv4 address, remote address and port, local address and port, own
/// IPv6 address.
fn state(fields: &str) -> Option<Said> {
    let fields: Vec<&str> = fields.split(',').collect();
    let field = |index: usize| fields.get(index).copied().unwrap_or_default();
    match field(1) {
        "CONNECTED" if field(2) == "SUCCESS" => {
            let addresses = [field(3), field(8)];
            Some(Said::Connected(addresses.iter().filter_map(|text| text.parse().ok()).collect()))
        }
        "" => None,
        word if field(2).is_empty() => Some(Said::At(word.to_lowercase())),
        word => Some(Said::At(format!("{}: {}", word.to_lowercase(), field(2)))),
    }
}

/// `text` as one word of a command.
pub(super) fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A password together with the answer to the server's question.
pub(super) fn with_code(password: &str, code: &str, challenge: bool) -> String {
    if challenge {
        format!("SCRV1:{}:{}", base64(password.as_bytes()), base64(code.as_bytes()))
    } else {
        format!("{password}{code}")
    }
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let of = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for place in 0..4 {
            let letter =
                LETTERS.get((bits >> (18 - 6 * place) & 63) as usize).copied().unwrap_or(b'=');
            text.push(if place > chunk.len() { '=' } else { char::from(letter) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_openvpn_says_is_understood() {
        let addresses = |texts: &[&str]| {
            Said::Connected(texts.iter().map(|text| text.parse().unwrap()).collect())
        };
        for (line, expected) in [
            (">HOLD:Waiting for hold release:0", Some(Said::Hold)),
            (">PASSWORD:Need 'Auth' username/password", Some(Said::WantsAuth { challenge: false })),
            (
                ">PASSWORD:Need 'Auth' username/password SC:1,Code?",
                Some(Said::WantsAuth { challenge: true }),
            ),
            (
                ">PASSWORD:Need 'Private Key' password",
                Some(Said::WantsElse("'Private Key' password".into())),
            ),
            (">PASSWORD:Verification Failed: 'Auth'", Some(Said::Refused("'Auth'".into()))),
            (
                ">STATE:17,CONNECTED,SUCCESS,10.8.0.2,203.0.113.1,1194,,,fd08::2",
                Some(addresses(&["10.8.0.2", "fd08::2"])),
            ),
            (
                ">STATE:17,CONNECTED,SUCCESS,10.8.0.2,203.0.113.1,1194,,",
                Some(addresses(&["10.8.0.2"])),
            ),
            (
                ">STATE:17,CONNECTED,ERROR,10.8.0.2,203.0.113.1,1194,,",
                Some(Said::At("connected: ERROR".into())),
            ),
            (
                ">STATE:17,RECONNECTING,ping-restart,,,,,",
                Some(Said::At("reconnecting: ping-restart".into())),
            ),
            (">STATE:17,WAIT,,,,,,", Some(Said::At("wait".into()))),
            (">INFO:OpenVPN Management Interface", None),
            ("SUCCESS: hold release succeeded", None),
            ("", None),
        ] {
            assert_eq!(parse(line), expected, "{line}");
        }
    }

    #[test]
    fn passwords_are_quoted_and_codes_joined() {
        assert_eq!(quoted(r#"a"b\c d"#), r#""a\"b\\c d""#);
        assert_eq!(with_code("pass", "123456", false), "pass123456");
        // RFC 4648, section 10.
        assert_eq!(with_code("foobar", "fooba", true), "SCRV1:Zm9vYmFy:Zm9vYmE=");
        assert_eq!((base64(b"f"), base64(b"")), ("Zg==".to_owned(), String::new()));
    }
}
