//! What a run found and did, region by region. The report is made of nothing else.

/// An instance that this run stopped, or in a drill would stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Its id, e.g. i-0123456789abcdef0.
    pub id: String,
    /// Its tag `Name`.
    pub name: Option<String>,
    /// Whether it was hibernated: its memory is kept.
    pub hibernated: bool,
}

/// What this run could not deal with, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// An instance's id, a group, or the region itself.
    pub what: String,
    /// Why, with the remedy where there is one.
    pub why: String,
}

/// An Auto Scaling group that was kept from replacing what is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspended {
    /// The group's name.
    pub group: String,
    /// The processes that this run suspended; those that were suspended before are not among them.
    pub processes: Vec<String>,
}

/// One region.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegionOutcome {
    /// Its name, e.g. eu-west-1.
    pub region: String,
    /// What was stopped.
    pub stopped: Vec<Stopped>,
    /// Instances that were gone, or ending, before they could be stopped.
    pub gone: Vec<String>,
    /// What still runs, or may, and why.
    pub left: Vec<Left>,
    /// Groups that no longer start instances.
    pub suspended: Vec<Suspended>,
    /// Instances whose DisableApiStop was lifted.
    pub lifted: Vec<String>,
    /// ARNs of tagged resources that cost money all the same.
    pub costs: Vec<String>,
    /// Why those could not be listed.
    pub costs_unknown: Option<String>,
}

impl RegionOutcome {
    /// A region of which nothing is known yet.
    #[must_use]
    pub fn new(region: impl Into<String>) -> Self {
        Self { region: region.into(), ..Self::default() }
    }

    /// Whether the run changed something here that somebody may want to undo.
    #[must_use]
    pub fn changed_something(&self) -> bool {
        !self.stopped.is_empty() || !self.suspended.is_empty() || !self.lifted.is_empty()
    }

    /// Whether something here may go on costing what the cap was to end.
    #[must_use]
    pub fn left_something(&self) -> bool {
        !self.left.is_empty()
    }

    /// Says that something is left.
    pub fn leave(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.left.push(Left { what: what.into(), why: why.into() });
    }
}
