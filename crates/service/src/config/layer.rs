//! One file of the config, and which line of it set which key.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::fault::{Fault, plainly, shown};
use super::{Problem, merge};
use crate::state;

/// A larger file is refused.
pub(super) const FILE_AT_MOST: usize = 1 << 20;

/// toml's words where one of some words is wanted and stands none.
const NO_WORD: &str = "wanted string or table";

/// What a file says.
pub(super) struct Layer {
    file: PathBuf,
    text: String,
    /// Its TOML.
    pub(super) table: toml::Table,
    /// Dotted key → where it and its value stand in the text.
    places: BTreeMap<String, Place>,
}

/// Where a key begins, and its value's bytes.
struct Place {
    key: usize,
    value: Range<usize>,
}

impl Layer {
    /// Reads a file that must be there, be a regular one, small and TOML.
    pub(super) fn read(file: &Path) -> Result<Self, Fault> {
        let text = state::read(file, FILE_AT_MOST)
            .map_err(|error| Fault::of_file(file, format!("cannot read it: {error}")))?
            .ok_or_else(|| Fault::of_file(file, gone(file)))?;
        let mut layer = Self {
            file: file.to_owned(),
            text,
            table: toml::Table::new(),
            places: BTreeMap::new(),
        };
        let mut places = BTreeMap::new();
        match DeTable::parse(&layer.text) {
            Ok(table) => walk(table.get_ref(), "", &mut places),
            Err(error) => return Err(layer.fault(&error)),
        }
        layer.places = places;
        match toml::from_str(&layer.text) {
            Ok(table) => layer.table = table,
            Err(error) => return Err(layer.fault(&error)),
        }
        Ok(layer)
    }

    /// Whether the file by itself is a config of this type.
    pub(super) fn check<T: DeserializeOwned>(&self) -> Result<(), Fault> {
        toml::from_str::<T>(&self.text).map(drop).map_err(|error| {
            let mut fault = self.fault(&error);
            if fault.what.contains(NO_WORD)
                && let Some(words) = self.words_for::<T>(&error)
            {
                fault.what = fault.what.replace(NO_WORD, &format!("say one of {words}"));
            }
            fault
        })
    }

    /// The words that a key takes whose value is none: serde lists them to one that has a text.
    fn words_for<T: DeserializeOwned>(&self, error: &toml::de::Error) -> Option<String> {
        let mut text = self.text.clone();
        text.get(error.span()?)?;
        text.replace_range(error.span()?, "\"\"");
        let said = plainly(toml::from_str::<T>(&text).err()?.message());
        said.rsplit_once("valid values: ").map(|(_, words)| words.to_owned())
    }

    /// Each of its keys in a table of its own.
    fn leaves(&self) -> Vec<toml::Table> {
        let mut leaves = Vec::new();
        flatten(&self.table, &mut Vec::new(), &mut leaves);
        leaves
    }

    fn fault(&self, error: &toml::de::Error) -> Fault {
        let what = plainly(error.message());
        let Some(range) = error.span() else { return Fault::of_file(&self.file, what) };
        if what == "duplicate key" {
            let key = shown(self.text.get(range.clone()).unwrap_or_default());
            let what = format!("{key} is set a second time in this file: keep one of the two");
            return Fault { file: self.file.clone(), at: Some(self.position(range.start)), what };
        }
        let what = match self.owner(&range) {
            Some((key, Some(value))) => format!("{} = {}: {what}", shown(key), shown(value)),
            Some((key, None)) => format!("in {}: {what}", shown(key)),
            None => match self.begun(range.start) {
                Some(key) => format!("in {}: {what}", shown(key)),
                None => what,
            },
        };
        Fault { file: self.file.clone(), at: Some(self.position(range.start)), what }
    }

    /// The key that an error at `range` belongs to, with its value if that is what is wrong.
    fn owner(&self, range: &Range<usize>) -> Option<(&str, Option<&str>)> {
        let around =
            |place: &Place| place.value.start <= range.start && range.end <= place.value.end;
        let innermost = self
            .places
            .iter()
            // A table's value may begin at its header: an error at the key is none in the value.
            .filter(|(_, place)| around(place) && place.key != range.start)
            .max_by_key(|(_, place)| place.value.start);
        if let Some((key, place)) = innermost {
            let whole = place.value == *range;
            return Some((key, self.text.get(range.clone()).filter(|_| whole)));
        }
        // A table's own span is its header's: a key below it is found by where the key stands.
        let (key, _) = self.places.iter().find(|(_, place)| place.key == range.start)?;
        key.rsplit_once('.').map(|(table, _)| (table, None))
    }

    /// The key whose value begins on the line of a byte before it: for what is no TOML and so has no
    /// places.
    fn begun(&self, byte: usize) -> Option<&str> {
        let (key, _) = self.text.get(..byte)?.rsplit('\n').next()?.split_once('=')?;
        Some(key.trim())
    }

    /// Line and column of a byte, both from 1; columns are characters.
    fn position(&self, byte: usize) -> (usize, usize) {
        let before = self.text.get(..byte).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }
}

/// What to say of a name in a folder with nothing behind it.
fn gone(file: &Path) -> String {
    match std::fs::read_link(file) {
        Ok(target) => format!(
            "a link to {}, which is not there: mend the link or remove it",
            shown(&target.display().to_string())
        ),
        Err(_) => "cannot read it: it is gone".to_owned(),
    }
}

/// Blames the layer that set the key last.
pub(super) fn blame(layers: &[Layer], problem: &Problem) -> Fault {
    let invalid = match problem {
        Problem::Values(invalid) => invalid,
        Problem::Types(message) => {
            let file = layers.last().map(|layer| layer.file.clone()).unwrap_or_default();
            let what = format!("contradicts the files before it: {}", plainly(message));
            return Fault::of_file(&file, what);
        }
    };
    if let Some((file, at)) = set_at(layers, &invalid.key) {
        return Fault { file, at, what: invalid.to_string() };
    }
    let (other, place) = match &invalid.beside {
        Some(other) => (other.as_str(), set_at(layers, other)),
        None => ("another setting", None),
    };
    let last = || Some((layers.last()?.file.clone(), None));
    let (file, at) = place.or_else(last).unwrap_or_default();
    let what = format!(
        "{invalid} (no file sets {}: this is its default, for which {other} leaves no room; set \
         both)",
        invalid.key
    );
    Fault { file, at, what }
}

/// Where a key was set last; one inside an array is set where the array is.
fn set_at(layers: &[Layer], key: &str) -> Option<(PathBuf, Option<(usize, usize)>)> {
    for layer in layers.iter().rev() {
        if let Some(place) = layer.places.get(key) {
            return Some((layer.file.clone(), Some(layer.position(place.key))));
        }
    }
    set_at(layers, key.rsplit_once('.')?.0)
}

fn walk(table: &DeTable<'_>, above: &str, places: &mut BTreeMap<String, Place>) {
    for (key, value) in table {
        let name = key.get_ref();
        let path = if above.is_empty() { name.to_string() } else { format!("{above}.{name}") };
        if let DeValue::Table(table) = value.get_ref() {
            walk(table, &path, places);
        }
        places.insert(path, Place { key: key.span().start, value: value.span() });
    }
}

fn flatten(table: &toml::Table, above: &mut Vec<String>, leaves: &mut Vec<toml::Table>) {
    for (key, value) in table {
        above.push(key.clone());
        if let toml::Value::Table(table) = value {
            flatten(table, above, leaves);
        } else {
            let mut leaf = value.clone();
            for key in above.iter().rev() {
                let mut table = toml::Table::new();
                table.insert(key.clone(), leaf);
                leaf = toml::Value::Table(table);
            }
            if let toml::Value::Table(leaf) = leaf {
                leaves.push(leaf);
            }
        }
        above.pop();
    }
}

/// Adds to `table` each leaf that leaves it valid.
pub(super) fn salvage(
    layer: &Layer,
    table: &mut toml::Table,
    valid: impl Fn(&toml::Table) -> bool,
) {
    for leaf in layer.leaves() {
        let mut with = table.clone();
        merge(&mut with, leaf);
        if valid(&with) {
            *table = with;
        }
    }
}
