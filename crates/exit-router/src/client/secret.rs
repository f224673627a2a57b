//! What systemd hands over: files of this process alone, in `$CREDENTIALS_DIRECTORY`
//! (systemd.exec(5), CREDENTIALS).

use std::fmt;
use std::path::PathBuf;

use super::Ended;

/// A config with all certificates in it is some ten kilobytes; systemd takes a megabyte.
const AT_MOST: usize = 1 << 20;

/// A text that no record shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(pub(super) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// The credentials of one profile.
pub(super) struct Secrets {
    folder: PathBuf,
    name: String,
}

impl Secrets {
    pub(super) fn new(folder: PathBuf, name: &str) -> Self {
        Self { folder, name: name.to_owned() }
    }

    /// What a person calls the credential of a kind (`conf`, `auth`, `code`).
    pub(super) fn file(&self, kind: &str) -> String {
        format!("guppy-vpn-{}.{kind}", self.name)
    }

    /// Its text; None: there is none.
    pub(super) fn read(&self, kind: &str) -> Result<Option<Secret>, Ended> {
        // systemd takes an encrypted one only by the name that it was encrypted for, and the unit
        // cannot give two the same name: the plain one has another.
        for name in [&self.file(kind), kind] {
            match service::state::read(&self.folder.join(name), AT_MOST) {
                Ok(Some(text)) => return Ok(Some(Secret(text))),
                Ok(None) => {}
                Err(error) => {
                    return Err(Ended::Wrong(format!("{}: {error}", self.file(kind))));
                }
            }
        }
        Ok(None)
    }

    /// The text of the client's own config file.
    pub(super) fn config(&self) -> Result<Secret, Ended> {
        self.read("conf")?.ok_or_else(|| {
            let file = self.file("conf");
            Ended::Wrong(format!(
                "there is no credential {file}: put the customer's config file, mode 0600, at \
                 /etc/credstore/{file}, or encrypt it: systemd-creds encrypt --name={file} FILE \
                 /etc/credstore.encrypted/{file}.cred"
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    #[test]
    fn the_encrypted_one_is_taken_before_the_plain_one() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::new(folder.path().into(), "acme");
        assert_eq!(secrets.read("auth").unwrap(), None);
        let Err(Ended::Wrong(said)) = secrets.config() else { panic!() };
        assert!(said.contains("/etc/credstore/guppy-vpn-acme.conf"), "{said}");
        fs::write(folder.path().join("conf"), "plain").unwrap();
        assert_eq!(secrets.config().unwrap().0, "plain");
        fs::write(folder.path().join("guppy-vpn-acme.conf"), "encrypted").unwrap();
        assert_eq!(secrets.config().unwrap().0, "encrypted");
        assert_eq!(format!("{:?}", secrets.config().unwrap()), "(secret)");
        // What cannot be read is not what is not there.
        fs::create_dir(folder.path().join("auth")).unwrap();
        assert!(secrets.read("auth").is_err());
    }
}
