//! How often the customer's server has refused the login: a client that went on would lock the
//! customer's account. Kept in `/var/lib/guppy-vpn/NAME.json`, over restarts and reboots, until a
//! person says `guppy vpn up` again.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Ended;
use crate::intent::Intent;

/// One may be a server that was just restarted. Many accounts are locked at the third.
const AT_MOST: u32 = 2;
const FILE_AT_MOST: usize = 4096;

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Record {
    /// The `guppy vpn up` that it belongs to, by the intent's count.
    asked: u64,
    /// Refusals without a login between them.
    refusals: u32,
    /// The one-time code was sent.
    code_sent: bool,
}

/// The count of one profile.
pub(super) struct Refusals {
    name: String,
    file: PathBuf,
    intent: PathBuf,
}

impl Refusals {
    pub(super) fn new(state: &Path, name: &str, intent: &Path) -> Self {
        let file = state.join(format!("{name}.json"));
        Self { name: name.to_owned(), file, intent: intent.to_owned() }
    }

    /// Before anything is sent.
    ///
    /// # Errors
    /// [`Ended::Parked`]: nothing may be sent until somebody asks again. What cannot be read may
    /// have been two refusals.
    pub(super) fn check(&self) -> Result<(), Ended> {
        let record = self.read()?;
        if record.refusals >= AT_MOST {
            return Err(self.parked(&format!("the server refused the login {AT_MOST} times")));
        }
        if record.code_sent {
            return Err(self.parked("the session has ended, and its one-time code was used"));
        }
        Ok(())
    }

    /// The server has refused: the end of this client, and at the second time of all attempts.
    pub(super) fn refused(&self) -> Ended {
        let mut record = match self.read() {
            Ok(record) => record,
            Err(ended) => return ended,
        };
        record.refusals += 1;
        if let Err(ended) = self.write(&record) {
            return ended;
        }
        match self.check() {
            Err(ended) => ended,
            Ok(()) => Ended::Failed(
                "the server refused the login; it is tried once more, then nobody tries until \
                 `guppy vpn up`"
                    .to_owned(),
            ),
        }
    }

    /// The server has let it in.
    pub(super) fn accepted(&self) -> Result<(), Ended> {
        let record = self.read()?;
        if record.refusals == 0 {
            return Ok(());
        }
        self.write(&Record { refusals: 0, ..record })
    }

    /// A one-time code is about to be sent: never again, even if this process is killed now.
    pub(super) fn code_sent(&self) -> Result<(), Ended> {
        let record = self.read()?;
        self.write(&Record { code_sent: true, ..record })
    }

    /// Nothing more until a person comes.
    pub(super) fn parked(&self, why: &str) -> Ended {
        Ended::Parked(format!("{why}; parked until `guppy vpn up {}`", self.name))
    }

    fn read(&self) -> Result<Record, Ended> {
        let said = |why: String| {
            let file = self.file.display();
            Ended::Parked(format!("{file}: {why}; parked until somebody removes that file"))
        };
        let record: Record = match service::state::read(&self.file, FILE_AT_MOST) {
            Ok(Some(text)) => {
                serde_json::from_str(&text).map_err(|error| said(error.to_string()))?
            }
            Ok(None) => Record::default(),
            Err(error) => return Err(said(error.to_string())),
        };
        // An intent that cannot be read says nothing new: the count goes on.
        match Intent::read(&self.intent) {
            Ok(intent) if intent.asked != record.asked => {
                Ok(Record { asked: intent.asked, ..Record::default() })
            }
            _ => Ok(record),
        }
    }

    fn write(&self, record: &Record) -> Result<(), Ended> {
        // Whoever cannot count must not try.
        let said = |why: String| {
            self.parked(&format!("{}: cannot be written: {why}", self.file.display()))
        };
        let text = serde_json::to_string(record).map_err(|error| said(error.to_string()))?;
        service::state::write_durably(&self.file, text.as_bytes())
            .map_err(|error| said(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use super::*;

    fn refusals(folder: &Path) -> Refusals {
        Refusals::new(folder, "acme", &folder.join("intent.json"))
    }

    fn ask(folder: &Path, asked: u64) {
        Intent { asked, ..Intent::default() }.write(&folder.join("intent.json")).unwrap();
    }

    #[test]
    fn the_second_refusal_parks_until_somebody_asks_again() {
        let folder = tempfile::tempdir().unwrap();
        ask(folder.path(), 3);
        assert_eq!(refusals(folder.path()).check(), Ok(()));
        assert!(matches!(refusals(folder.path()).refused(), Ended::Failed(_)));
        assert_eq!(refusals(folder.path()).check(), Ok(()));
        assert!(matches!(refusals(folder.path()).refused(), Ended::Parked(_)));
        assert!(matches!(refusals(folder.path()).check(), Err(Ended::Parked(_))));
        ask(folder.path(), 4);
        assert_eq!(refusals(folder.path()).check(), Ok(()));
        assert!(matches!(refusals(folder.path()).refused(), Ended::Failed(_)));
    }

    #[test]
    fn a_login_between_two_refusals_begins_anew() {
        let folder = tempfile::tempdir().unwrap();
        refusals(folder.path()).refused();
        refusals(folder.path()).accepted().unwrap();
        assert!(matches!(refusals(folder.path()).refused(), Ended::Failed(_)));
    }

    #[test]
    fn a_code_is_sent_once() {
        let folder = tempfile::tempdir().unwrap();
        refusals(folder.path()).code_sent().unwrap();
        refusals(folder.path()).accepted().unwrap();
        assert!(matches!(refusals(folder.path()).check(), Err(Ended::Parked(_))));
        ask(folder.path(), 1);
        assert_eq!(refusals(folder.path()).check(), Ok(()));
    }

    #[test]
    fn whoever_cannot_count_does_not_try() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("acme.json"), "{").unwrap();
        assert!(matches!(refusals(folder.path()).check(), Err(Ended::Parked(_))));
        let nowhere = Refusals::new(&folder.path().join("nowhere"), "acme", folder.path());
        assert!(matches!(nowhere.refused(), Ended::Parked(_)));
        // An intent that cannot be read forgives nothing.
        fs::write(folder.path().join("acme.json"), "{\"asked\":3,\"refusals\":2}").unwrap();
        fs::write(folder.path().join("intent.json"), "{").unwrap();
        assert!(matches!(refusals(folder.path()).check(), Err(Ended::Parked(_))));
    }
}
