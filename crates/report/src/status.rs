//! The words for how things stand: of an item, of a node's spec, of a node's voice. Three axes, never mixed.

use serde::{Deserialize, Serialize};

/// How one item stands after a pass. The order is from best to worst, so `max` picks what to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// This node cannot have it: a read-only tree, a kernel without the feature.
    NotApplicable,
    /// Every layer is as desired.
    Compliant,
    /// Not looked at in this pass, and the reason says why.
    Skipped,
    /// Something was off, was put right, and a second look saw it right.
    Repaired,
    /// What is desired is written, and not in effect yet; the reason says what it waits for.
    Pending,
    /// Something is off and stays so: audit mode, or not ours to change.
    NonCompliant,
    /// It could not be observed, put right, or verified.
    Error,
}

impl Status {
    /// Every status, best first.
    pub const ALL: [Self; 7] = [
        Self::NotApplicable,
        Self::Compliant,
        Self::Skipped,
        Self::Repaired,
        Self::Pending,
        Self::NonCompliant,
        Self::Error,
    ];

    /// The word on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotApplicable => "not_applicable",
            Self::Compliant => "compliant",
            Self::Skipped => "skipped",
            Self::Repaired => "repaired",
            Self::Pending => "pending",
            Self::NonCompliant => "non_compliant",
            Self::Error => "error",
        }
    }

    /// What is left once the pass is over: a repaired item is a compliant one. This is what the digest hashes.
    #[must_use]
    pub fn settled(self) -> Self {
        if self == Self::Repaired { Self::Compliant } else { self }
    }

    /// Whether somebody should look: pending, non-compliant, or an error.
    #[must_use]
    pub fn is_open(self) -> bool {
        self >= Self::Pending
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

/// Why a repair was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// The node moved and the spec did not.
    Corrective,
    /// The spec moved.
    Intentional,
}

/// Where an error happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// While looking.
    Observe,
    /// While putting it right.
    Apply,
    /// At the second look.
    Verify,
}

/// Whether drift is put right or only told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Put drift right.
    #[default]
    Enforce,
    /// Look and report, touch nothing. It is the greater of the two: audit wins.
    Audit,
}

/// Which commit a node keeps, against the one it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Sync {
    /// The newest commit is in force.
    Synced,
    /// It is being applied.
    Progressing,
    /// An older commit is in force.
    OutOfSync,
    /// The newest commit was refused; the last good one is in force.
    Failed,
    /// Somebody holds this node.
    Held,
    /// Nothing was fetched yet.
    #[default]
    Unknown,
}

/// Whether a node is heard of. The hub alone decides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// Known by name only.
    NeverReported,
    /// Heard of within 1.5 intervals + 5 s.
    Online,
    /// Not heard of for 1.5 intervals + 5 s.
    Late,
    /// Not heard of for 2 intervals + 5 s.
    Silent,
    /// Not heard of for 24 h.
    Missing,
    /// Taken out of the fleet.
    Decommissioned,
}

/// How many items stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Counts {
    /// [`Status::Compliant`].
    pub compliant: u32,
    /// [`Status::Repaired`].
    pub repaired: u32,
    /// [`Status::Pending`].
    pub pending: u32,
    /// [`Status::NonCompliant`].
    pub non_compliant: u32,
    /// [`Status::Error`].
    pub error: u32,
    /// [`Status::Skipped`].
    pub skipped: u32,
    /// [`Status::NotApplicable`].
    pub not_applicable: u32,
}

impl Counts {
    /// The number for one status.
    #[must_use]
    pub fn of(&self, status: Status) -> u32 {
        match status {
            Status::NotApplicable => self.not_applicable,
            Status::Compliant => self.compliant,
            Status::Skipped => self.skipped,
            Status::Repaired => self.repaired,
            Status::Pending => self.pending,
            Status::NonCompliant => self.non_compliant,
            Status::Error => self.error,
        }
    }

    /// How many items want somebody's eye.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.pending + self.non_compliant + self.error
    }

    /// How many items there are.
    #[must_use]
    pub fn total(&self) -> u32 {
        Status::ALL.iter().map(|&status| self.of(status)).sum()
    }
}

impl FromIterator<Status> for Counts {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        let mut counts = Self::default();
        for status in statuses {
            *match status {
                Status::NotApplicable => &mut counts.not_applicable,
                Status::Compliant => &mut counts.compliant,
                Status::Skipped => &mut counts.skipped,
                Status::Repaired => &mut counts.repaired,
                Status::Pending => &mut counts.pending,
                Status::NonCompliant => &mut counts.non_compliant,
                Status::Error => &mut counts.error,
            } += 1;
        }
        counts
    }
}
