//! `/etc/guppy/exit-router.toml` and `/etc/guppy/exit-router.d/*.toml`. The defaults are right for a
//! box that forwards for nobody but its tailnet.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use service::config::{Invalid, Validate};

use crate::prefix::Prefix;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The interface on which peers' packets come in (tailscaled(8), `--tun`).
    pub tailscale_interface: String,
    /// tailscaled's socket, which is only ever read from.
    pub tailscaled_socket: PathBuf,
    /// What this box forwards besides.
    pub also_forward: Vec<AlsoForward>,
}

/// Forwarding that stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AlsoForward {
    /// The interface it comes in by; None: from peers, who then reach `to` past the VPN.
    pub from: Option<String>,
    /// Where to.
    pub to: Prefix,
    /// The interface it leaves by.
    pub via: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tailscale_interface: "tailscale0".to_owned(),
            tailscaled_socket: "/run/tailscale/tailscaled.sock".into(),
            also_forward: Vec::new(),
        }
    }
}

/// Whether the kernel takes it as an interface's name (dev_valid_name(), net/core/dev.c: 15 bytes,
/// no slash, colon or white space), and nft(8) in quotes.
pub fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-@+".contains(c))
}

const INTERFACE: &str =
    "the name of an interface: 1 to 15 letters, digits and . _ - @ +, as `ip link` shows it";

impl Validate for Config {
    fn validate(&self) -> Result<(), Invalid> {
        let peers = &self.tailscale_interface;
        if !is_interface_name(peers) {
            return Err(Invalid::new("tailscale_interface", quoted(peers), INTERFACE));
        }
        if !self.tailscaled_socket.is_absolute() {
            let socket = quoted(&self.tailscaled_socket.display().to_string());
            return Err(Invalid::new("tailscaled_socket", socket, "a path that begins with /"));
        }
        for also in &self.also_forward {
            for name in [also.from.as_ref(), Some(&also.via)].into_iter().flatten() {
                if !is_interface_name(name) {
                    return Err(Invalid::new("also_forward", quoted(name), INTERFACE));
                }
            }
            let from_peers = also.from.as_ref().is_none_or(|from| from == peers);
            if from_peers && also.to.length() == 0 {
                let valid = "a network that peers may reach past the VPN, or `from` with it: all of \
                             the internet is what must not be reached past it";
                return Err(Invalid::new("also_forward", quoted(&also.to.to_string()), valid));
            }
            if &also.via == peers {
                let valid =
                    "the interface that it leaves by: what goes to peers is forwarded anyway";
                return Err(Invalid::new("also_forward", quoted(&also.via), valid));
            }
        }
        Ok(())
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn said(text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("x.toml");
        std::fs::write(&file, text).unwrap();
        match service::config::load_files::<Config>(&[file]) {
            Ok(config) => format!("{config:?}"),
            Err(error) => error.to_string().rsplit_once("x.toml:").unwrap().1.to_owned(),
        }
    }

    #[test]
    fn the_installed_file_says_the_defaults() {
        let installed = include_str!("../../../packaging/guppy-exit-router/exit-router.toml");
        let all: String = installed
            .lines()
            .filter_map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')))
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\n"))
            .collect();
        let config: Config = toml::from_str(&all).unwrap();
        assert_eq!(all.lines().count(), 3);
        assert_eq!(config, Config::default());
        let commented: Config = toml::from_str(installed).unwrap();
        assert_eq!(commented, Config::default());
    }

    #[test]
    fn a_mistake_is_named_with_its_line_and_remedy() {
        for (text, expected) in [
            (
                "\nalso_forward = [{ to = \"0.0.0.0/0\", via = \"eth0\" }]",
                "2:1: also_forward = \"0.0.0.0/0\" is not valid: say a network",
            ),
            (
                "also_forward = [{ to = \"10.1.0.0/33\", via = \"eth0\" }]",
                "is no network: write it as in",
            ),
            (
                "also_forward = [{ to = \"10.1.0.0/16\", via = \"eth 0\" }]",
                "also_forward = \"eth 0\" is not valid",
            ),
            ("tailscale_interface = \"\"", "1:1: tailscale_interface = \"\" is not valid"),
            ("also_foward = []", "did you mean \"also_forward\"?"),
        ] {
            let said = said(text);
            assert!(said.contains(expected), "{said}");
        }
        let fine =
            said("also_forward = [{ from = \"docker0\", to = \"0.0.0.0/0\", via = \"eth0\" }]");
        assert!(fine.contains("docker0"), "{fine}");
    }
}
