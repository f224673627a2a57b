//! What a person is told: what was stopped, what was not, what still costs, and how to undo it.

use std::fmt::Write as _;

use crate::decide::budget::Budget;
use crate::outcome::RegionOutcome;
use crate::{TAG_KEY, TAG_VALUE};

/// SNS takes messages of at most 256 KiB.
/// <https://docs.aws.amazon.com/sns/latest/api/API_Publish.html>
pub const BYTES_AT_MOST: usize = 256 * 1024;

/// What a report is about.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// The budget's name.
    pub name: &'a str,
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

    /// The text. Its most important part comes first: what is over [`BYTES_AT_MOST`] is cut off.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = self.headline();
        self.not_stopped(&mut text);
        self.undo(&mut text);
        self.list_stopped(&mut text);
        self.still_costs(&mut text);
        cut(text)
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
        let Budget { spend, cap } = self.budget;
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
                self.name
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
                let _ = writeln!(text, "  {} {}: {}", region.region, left.what, left.why);
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
        let _ = writeln!(text, "just budget-deploy cap=DOLLARS");
        for outcome in self.regions {
            let region = &outcome.region;
            for group in &outcome.suspended {
                let (name, processes) = (quoted(&group.group), group.processes.join(" "));
                let _ = writeln!(
                    text,
                    "aws autoscaling resume-processes --region {region} --auto-scaling-group-name {name} --scaling-processes {processes}"
                );
            }
            for id in &outcome.lifted {
                let _ = writeln!(
                    text,
                    "aws ec2 modify-instance-attribute --region {region} --instance-id {id} --disable-api-stop"
                );
            }
            let ids: Vec<&str> = outcome.stopped.iter().map(|one| one.id.as_str()).collect();
            for some in ids.chunks(100) {
                let _ = writeln!(
                    text,
                    "aws ec2 start-instances --region {region} --instance-ids {}",
                    some.join(" ")
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
                let (name, processes) = (&group.group, group.processes.join(", "));
                let _ =
                    writeln!(text, "  {} Auto Scaling group {name}: {processes}", region.region);
            }
            for one in &region.stopped {
                let name = one.name.as_deref().unwrap_or("");
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
                let _ = writeln!(text, "  {arn}");
            }
            if let Some(why) = &region.costs_unknown {
                let _ = writeln!(text, "  {}: could not be listed: {why}", region.region);
            }
        }
    }
}

/// A name as a shell reads it. Auto Scaling allows nearly any letter in one.
fn quoted(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:".contains(letter);
    if name.chars().all(plain) {
        return name.to_owned();
    }
    format!("'{}'", name.replace('\'', r"'\''"))
}

/// Cuts between two lines, and says so.
fn cut(mut text: String) -> String {
    const NOTE: &str = "(cut: the rest is in the function's log)\n";
    if text.len() <= BYTES_AT_MOST {
        return text;
    }
    let end = text.floor_char_boundary(BYTES_AT_MOST - NOTE.len());
    let end = text.get(..end).and_then(|head| head.rfind('\n')).map_or(0, |line| line + 1);
    text.truncate(end);
    text.push_str(NOTE);
    text
}

#[cfg(test)]
mod tests;
