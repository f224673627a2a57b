//! The config file, as OpenVPN splits it into words and blocks (options_parse.c, parse_line()):
//! read strictly, so that what is judged here is what OpenVPN reads.

use super::super::secret::Secret;
use super::super::wrong::{Wrong, shown};

/// What OpenVPN takes in one line (OPTION_LINE_SIZE, options.h, less one for its end).
const LINE_AT_MOST: usize = 254;
/// MAX_PARMS of options.h.
const WORDS_AT_MOST: usize = 16;

/// An option, or a block between `<name>` and `</name>`.
#[derive(Debug)]
pub(super) struct Entry {
    /// From 1.
    pub(super) line: usize,
    pub(super) name: String,
    pub(super) words: Vec<String>,
    /// Of a block: its lines.
    pub(super) block: Option<Secret>,
}

/// Reads the file.
///
/// # Errors
/// Its first mistake, without any text that may be a key's.
pub(super) fn parse(text: &str) -> Result<Vec<Entry>, Wrong> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut entries = Vec::new();
    let mut lines = (1..).zip(text.lines());
    while let Some((number, line)) = lines.next() {
        if line.len() > LINE_AT_MOST {
            let what = format!("longer than {LINE_AT_MOST} bytes, which OpenVPN does not take");
            return Err(Wrong::at(number, what));
        }
        let mut words = split(number, line)?.into_iter();
        let Some(name) = words.next() else { continue };
        let words: Vec<String> = words.collect();
        if words.len() >= WORDS_AT_MOST {
            return Err(Wrong::at(number, format!("more than {WORDS_AT_MOST} words")));
        }
        let block = name.strip_prefix('<').and_then(|name| name.strip_suffix('>'));
        let entry = match block.filter(|_| words.is_empty()) {
            Some(name) => {
                let block = Some(block_of(number, name, &mut lines)?);
                Entry { line: number, name: name.to_owned(), words, block }
            }
            None => {
                let name = name.strip_prefix("--").unwrap_or(&name).to_owned();
                Entry { line: number, name, words, block: None }
            }
        };
        entries.push(entry);
    }
    Ok(entries)
}

/// The lines up to the block's end.
fn block_of<'a>(
    begin: usize,
    name: &str,
    lines: &mut impl Iterator<Item = (usize, &'a str)>,
) -> Result<Secret, Wrong> {
    let end = format!("</{name}>");
    let mut block = String::new();
    for (number, line) in lines {
        let line = line.trim();
        if line == end {
            return Ok(Secret(block));
        }
        // OpenVPN's end of a block is whatever begins as it: nothing may stand behind it.
        if line.starts_with("</") {
            return Err(Wrong::at(
                number,
                format!("<{name}> of line {begin} ends with {end} alone"),
            ));
        }
        if line.len() > LINE_AT_MOST
            || !line.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b))
        {
            let what = format!("<{name}> of line {begin} has lines of printable ASCII only");
            return Err(Wrong::at(number, what));
        }
        block.push_str(line);
        block.push('\n');
    }
    Err(Wrong::at(begin, format!("{} has no end: add </…>", shown(name))))
}

enum Reading {
    Between,
    Plain,
    Quoted(char),
}

/// A line's words: a backslash takes the meaning from a space, a double quote and itself, except
/// within single quotes; what follows # or ; between words is a comment.
fn split(number: usize, line: &str) -> Result<Vec<String>, Wrong> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut reading = Reading::Between;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        if c.is_control() && c != '\t' {
            return Err(Wrong::at(number, "a control character: write plain text"));
        }
        let escaped = c == '\\' && !matches!(reading, Reading::Quoted('\''));
        let taken = match (escaped, chars.clone().next()) {
            (false, _) => c,
            (true, Some(next @ ('\\' | '"' | ' '))) => {
                chars.next();
                next
            }
            (true, _) => {
                let what = "a backslash before none of \\, \" and space: write it twice";
                return Err(Wrong::at(number, what));
            }
        };
        match reading {
            Reading::Between if !escaped && (c == ' ' || c == '\t') => {}
            Reading::Between if !escaped && (c == '#' || c == ';') => break,
            Reading::Between if !escaped && (c == '"' || c == '\'') => reading = Reading::Quoted(c),
            Reading::Between => {
                reading = Reading::Plain;
                word.push(taken);
            }
            Reading::Plain if !escaped && (c == ' ' || c == '\t') => {
                words.push(std::mem::take(&mut word));
                reading = Reading::Between;
            }
            Reading::Quoted(quote) if !escaped && c == quote => {
                words.push(std::mem::take(&mut word));
                reading = Reading::Between;
            }
            Reading::Plain | Reading::Quoted(_) => word.push(taken),
        }
    }
    match reading {
        Reading::Between => {}
        Reading::Plain => words.push(word),
        Reading::Quoted(_) => return Err(Wrong::at(number, "a quote that does not end: close it")),
    }
    Ok(words)
}
