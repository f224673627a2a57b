//! What a person is told: what was stopped, what was not, what still costs, and how to undo it.

use std::fmt::Write as _;

use crate::config::Config;
use crate::decide::budget::Budget;
use crate::outcome::RegionOutcome;
use crate::{TAG_KEY, TAG_VALUE};

/// SNS takes messages of at most 256 KiB.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
pub const BYTES_AT_MOST: usize = 256 * 1024;

/// What a report is about.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The deployment that tells it.
    pub config: &'a Config,
    /// Cost and cap, as AWS said them at the start of the run.
    pub budget: &'a Budget,
    /// Whether it was a drill.
    pub drill: bool,
    /// The regions.
    pub regions: &'a [RegionOutcome],
}

impl Report<'_> {
    /// One line, at most 100 characters of ASCII as SNS wants it.
    #[must_use]
    pub fn subject(&self) -> String {
        let (stopped, left) = (self.stopped(), self.left());
        let mut line = format!("guppy: cap of {} reached, {stopped} stopped", self.budget.cap);
        if left > 0 {
            // An infinite writer never fails.
            let _ = write!(line, ", {left} NOT");
        }
        line.retain(|letter| letter.is_ascii() && !letter.is_ascii_control());
        line.truncate(100);
        line
    }

    /// The text: at most [`BYTES_AT_MOST`], with the most important first. However much was not
    /// stopped, the commands that undo the rest are in it.
    #[must_use]
    pub fn text(&self) -> String {
        let whole = self.whole();
        if whole.len() <= BYTES_AT_MOST {
            return whole;
        }
        let (head, left, rest) = self.parts();
        cut(head + &cut(left, BYTES_AT_MOST / 2) + &rest, BYTES_AT_MOST)
    }

    /// All of it, however long.
    #[must_use]
    pub fn whole(&self) -> String {
        let (head, left, rest) = self.parts();
        head + &left + &rest
    }

    fn parts(&self) -> (String, String, String) {
        let (head, mut left, mut rest) = (self.headline(), String::new(), String::new());
        self.not_stopped(&mut left);
        self.undo(&mut rest);
        self.list_stopped(&mut rest);
        self.still_costs(&mut rest);
        (head, left, rest)
    }

    /// How many instances were stopped.
    #[must_use]
    pub fn stopped(&self) -> usize {
        self.regions.iter().map(|region| region.stopped.len()).sum()
    }

    /// How many things could not be dealt with.
    #[must_use]
    pub fn left(&self) -> usize {
        self.regions.iter().map(|region| region.left.len()).sum()
    }

    fn headline(&self) -> String {
        let (spend, cap) = (self.budget.cost(), &self.budget.cap);
        let (stopped, regions) = (self.stopped(), self.regions.len());
        let mut text = String::new();
        if self.drill {
            let _ = writeln!(
                text,
                "A drill: nothing was stopped. The month's cost is {spend}, the cap {cap}."
            );
            let _ = writeln!(
                text,
                "A run would stop {stopped} instances tagged {TAG_KEY}={TAG_VALUE} in {regions} regions."
            );
        } else {
            let _ = writeln!(
                text,
                "The month's cost is {spend}: the cap of {cap} (budget {}) is reached.",
                self.config.budget
            );
            let _ = writeln!(
                text,
                "Stopped {stopped} instances tagged {TAG_KEY}={TAG_VALUE} in {regions} regions; nothing was terminated."
            );
        }
        let gone: Vec<&str> =
            self.regions.iter().flat_map(|region| &region.gone).map(String::as_str).collect();
        if !gone.is_empty() {
            let _ = writeln!(text, "Gone before they could be stopped: {}", gone.join(" "));
        }
        text
    }

    fn not_stopped(&self, text: &mut String) {
        if self.left() == 0 {
            return;
        }
        let _ = writeln!(text, "\nNOT STOPPED, and goes on costing:");
        for region in self.regions {
            for left in &region.left {
                let (what, why) = (one_line(&left.what), one_line(&left.why));
                let _ = writeln!(text, "  {} {what}: {why}", region.region);
            }
        }
    }

    fn undo(&self, text: &mut String) {
        if self.drill || !self.regions.iter().any(RegionOutcome::changed_something) {
            return;
        }
        let _ = writeln!(
            text,
            "\nTo undo it, raise the cap first, or what you start is stopped within 15 minutes:"
        );
        // Read in a mail, where no shell knows which stack and which region are meant.
        let Config { stack, region, .. } = self.config;
        let _ = writeln!(
            text,
            "AWS_REGION={region} GUPPY_STACK={stack} just --justfile packaging/justfile budget-deploy cap=DOLLARS"
        );
        for outcome in self.regions {
            let region = &outcome.region;
            for id in &outcome.lifted {
                let _ = writeln!(
                    text,
                    "aws ec2 modify-instance-attribute --region {region} --instance-id {id} --disable-api-stop"
                );
            }
            let ids: Vec<&str> = outcome.stopped.iter().map(|one| one.id.as_str()).collect();
            for ids in ids.chunks(100).map(|some| some.join(" ")) {
                let _ = writeln!(
                    text,
                    "aws ec2 start-instances --region {region} --instance-ids {ids}"
                );
                if !outcome.suspended.is_empty() {
                    let _ = writeln!(
                        text,
                        "aws ec2 wait instance-running --region {region} --instance-ids {ids}"
                    );
                }
            }
            // Last: a group whose health checks come back first terminates what is still stopped.
            // https://docs.aws.amazon.com/autoscaling/ec2/userguide/ec2-auto-scaling-health-checks.html
            for group in &outcome.suspended {
                let (name, processes) = (quoted(&group.group), group.processes.join(" "));
                // With "=", a name that begins with a dash is no option.
                let _ = writeln!(
                    text,
                    "aws autoscaling resume-processes --region {region} --auto-scaling-group-name={name} --scaling-processes {processes}"
                );
            }
        }
    }

    fn list_stopped(&self, text: &mut String) {
        if !self.regions.iter().any(RegionOutcome::changed_something) {
            return;
        }
        let _ = writeln!(text, "\n{}:", if self.drill { "Would be stopped" } else { "Stopped" });
        for region in self.regions {
            for group in &region.suspended {
                let (name, processes) = (one_line(&group.group), group.processes.join(", "));
                let _ =
                    writeln!(text, "  {} Auto Scaling group {name}: {processes}", region.region);
            }
            for one in &region.stopped {
                let name = one_line(one.name.as_deref().unwrap_or(""));
                let how = if one.hibernated { " (hibernated)" } else { "" };
                let line = format!("  {} {} {name}{how}", region.region, one.id);
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
    }

    fn still_costs(&self, text: &mut String) {
        let any = self.regions.iter().any(|region| !region.costs.is_empty());
        let unknown = self.regions.iter().any(|region| region.costs_unknown.is_some());
        if !any && !unknown {
            return;
        }
        let _ = writeln!(text, "\nTagged too, not touched, and still costing money:");
        for region in self.regions {
            for arn in &region.costs {
                let _ = writeln!(text, "  {}", one_line(arn));
            }
            if let Some(why) = &region.costs_unknown {
                let why = one_line(why);
                let _ = writeln!(text, "  {}: could not be listed: {why}", region.region);
            }
        }
    }
}

/// Whether a letter is not one to be seen: it would break a line, or turn it around, or be refused by
/// SNS, which takes what XML may hold.
fn is_unseen(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

/// What others have written, kept from looking like lines of the report: a tag's value may have any
/// letter, and the report's commands are carried out by people.
fn one_line(text: &str) -> String {
    let mut line = String::new();
    for letter in text.chars() {
        match is_unseen(letter) {
            true => line.extend(letter.escape_default()),
            false => line.push(letter),
        }
    }
    line
}

/// A name as a shell reads it, on one line.
fn quoted(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if !name.is_empty() && name.chars().all(plain) {
        return name.to_owned();
    }
    if !name.chars().any(is_unseen) {
        return format!("'{}'", name.replace('\'', r"'\''"));
    }
    let mut word = String::from("$'");
    for byte in name.bytes() {
        match byte {
            b' '..=b'~' if byte != b'\'' && byte != b'\\' => word.push(char::from(byte)),
            // Three digits always, so that none of what follows is taken for one.
            _ => word.push_str(&format!("\\{byte:03o}")),
        }
    }
    word + "'"
}

/// Cuts between two lines, and says so.
fn cut(mut text: String, most: usize) -> String {
    const NOTE: &str = "(cut: the rest is in the function's log)\n";
    if text.len() <= most {
        return text;
    }
    let end = text.floor_char_boundary(most - NOTE.len());
    let end = text.get(..end).and_then(|head| head.rfind('\n')).map_or(0, |line| line + 1);
    text.truncate(end);
    text.push_str(NOTE);
    text
}

#[cfg(test)]
mod tests;
