//! A merged spec of one node: every kind's goal, in the order they are applied.

use crate::{Goal, Mode};
use std::collections::BTreeMap;

/// Where in a repository something is said: shown as `tiers/db.yaml:9`, or
/// `fleet.yaml:17 (path database)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Origin {
    /// The file, from the repository's root.
    pub file: String,
    /// The line, from 1.
    pub line: u32,
    /// The path that it was derived from, where nobody has said it by hand.
    pub path: Option<String>,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)?;
        self.path.iter().try_for_each(|path| write!(f, " (path {path})"))
    }
}

/// One item of a section: what is wished for it, how strictly, and where it is said.
#[derive(Debug, Clone)]
pub struct Item<W> {
    /// What is wished.
    pub wish: crate::Wish<W>,
    /// Whether drift is put right or only told. Audit wins over every layer that says enforce.
    pub mode: Mode,
    /// Where the winning layer says it.
    pub origin: Origin,
}

impl<W> Item<W> {
    /// What is to be kept; `None` where the item is wished away.
    pub fn kept(&self) -> Option<&W> {
        match &self.wish {
            crate::Wish::Keep(want) => Some(want),
            crate::Wish::Absent(_) => None,
        }
    }

    /// Whether drift of this item is to be put right.
    pub fn enforced(&self) -> bool {
        self.mode == Mode::Enforce
    }
}

/// Who a node is in its fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// The fleet's name.
    pub fleet: String,
    /// The node's name.
    pub name: String,
    /// Its tier.
    pub tier: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What one node should be.
pub struct Spec {
    /// Who it is.
    pub identity: Identity,
    /// The mode of whatever says none of its own.
    pub mode: Mode,
    /// One goal for every kind there is, empty ones too (a drop-in that nobody asks for any more must shrink),
    /// in the order they are applied.
    pub goals: Vec<Box<dyn Goal>>,
}
