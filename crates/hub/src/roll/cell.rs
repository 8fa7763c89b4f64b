//! What counts and filters ask of a node, without a text. A look at a large fleet reads all of them one after another, and
//! what it costs is their bytes: 32 a node, where a whole line has two hundred and its texts beside.

use super::Line;
use crate::liveness::{HubTimes, liveness};
use evenkeel_report::{Liveness, Status, Sync};
use std::num::NonZeroU32;

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    /// Last event received (unix ms, the hub's clock).
    last_seen: i64,
    /// Seconds between heartbeats.
    interval_s: u32,
    /// The worst status of any item.
    pub(crate) worst: Status,
    /// How its spec stands.
    pub(crate) sync: Sync,
    /// How bad it is, but for what the hour tells: see [`Marks::severity`].
    bad: u8,
    /// Which of the words below hold.
    says: u8,
}

/// It was taken out and not heard of since.
const RETIRED: u8 = 1;
/// It refused a spec.
const REFUSES: u8 = 2;
/// Some items are open.
const OPEN: u8 = 4;
/// Two machines have spoken under its identity, at some time.
const ALTERNATED: u8 = 8;

impl From<&Line> for Marks {
    fn from(line: &Line) -> Self {
        let words = [
            (RETIRED, line.retired),
            (REFUSES, line.refused.is_some()),
            (OPEN, line.open() > 0),
            (ALTERNATED, line.alternated.is_some()),
        ];
        let [pending, non_compliant, error] = line.open;
        let no_spec = line.sync == Sync::Unknown && line.commit.is_none();
        let bad = [
            (6, error > 0),
            (5, line.sync == Sync::Failed),
            (3, non_compliant > 0 || line.stalled),
            (2, pending > 0 || line.sync == Sync::OutOfSync),
            (1, no_spec || line.unproved),
        ];
        Self {
            last_seen: line.last_seen,
            interval_s: u32::try_from(line.interval_s).unwrap_or(u32::MAX),
            worst: line.worst,
            sync: line.sync,
            bad: bad.into_iter().find(|(_, raised)| *raised).map_or(0, |(how, _)| how),
            says: words.into_iter().filter(|(_, holds)| *holds).fold(0, |all, (word, _)| all | word),
        }
    }
}

impl Marks {
    /// Whether it was taken out and not heard of since.
    pub(crate) fn retired(&self) -> bool {
        self.says & RETIRED != 0
    }

    /// Whether it refused a spec.
    pub(crate) fn refuses(&self) -> bool {
        self.says & REFUSES != 0
    }

    /// Whether any item is open.
    pub(crate) fn open(&self) -> bool {
        self.says & OPEN != 0
    }

    /// Whether two machines have spoken under its identity, at some time.
    pub(crate) fn alternated(&self) -> bool {
        self.says & ALTERNATED != 0
    }

    /// Whether it is heard of.
    pub(crate) fn liveness(&self, times: HubTimes) -> Liveness {
        if self.retired() {
            return Liveness::Decommissioned;
        }
        liveness(Some(self.last_seen), u64::from(self.interval_s), times)
    }

    /// How bad it is, worst last; 0 for a node that is even or was taken out. Says the same as the sentence on the node's page.
    pub(crate) fn severity(&self, alive: Liveness, cloned: bool) -> u8 {
        let quiet = if matches!(alive, Liveness::Silent | Liveness::Missing) { 4 } else { 0 };
        let cloned = if cloned { 3 } else { 0 };
        if self.retired() { 0 } else { self.bad.max(quiet).max(cloned) }
    }
}

/// One of the texts that lines have in common: while nothing is entered, two are equal where the texts are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TextId(NonZeroU32);

impl TextId {
    /// Of a text that no line has.
    pub(super) const NONE: Self = Self(NonZeroU32::MAX);

    /// The id of the text at a place.
    pub(super) fn new(at: usize) -> Option<Self> {
        let id = NonZeroU32::new(u32::try_from(at).ok()?.checked_add(1)?)?;
        (Self(id) != Self::NONE).then_some(Self(id))
    }

    /// The place of its text.
    pub(super) fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

/// The marks of a node, and its common texts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) marks: Marks,
    pub(crate) tier: TextId,
    /// The commit in force.
    pub(crate) commit: Option<TextId>,
    /// The newest commit it has seen.
    pub(crate) target: Option<TextId>,
    /// The repository and the branch that it follows.
    pub(crate) follows: TextId,
}

#[cfg(test)]
mod tests {
    use super::Cell;

    #[test]
    fn a_cell_is_as_small_as_is_said() {
        assert_eq!(size_of::<Option<Cell>>(), 32);
    }
}
