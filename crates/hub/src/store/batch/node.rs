//! What a batch has in memory of one node, and what it changed of it.

use super::pack::{Pack, PackJson};
use crate::store::telling::News;
use crate::store::{HistoryRow, ItemRow, NodeDoc, Place, Ranges, SPEC_ITEM};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Numbers that came, first and last, and when the last of them did (unix ms).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u64, u64, i64)", into = "(u64, u64, i64)")]
pub struct Run {
    /// The first.
    pub lo: u64,
    /// The last.
    pub hi: u64,
    /// When it last grew.
    pub got: i64,
}

impl From<(u64, u64, i64)> for Run {
    fn from((lo, hi, got): (u64, u64, i64)) -> Self {
        Self { lo, hi, got }
    }
}

impl From<Run> for (u64, u64, i64) {
    fn from(run: Run) -> Self {
        (run.lo, run.hi, run.got)
    }
}

/// What is remembered of what a node told: kept beside its `doc`, and never shown.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// Which numbers came, by epoch.
    pub seen: BTreeMap<u64, Vec<Run>>,
    /// Items that have a history and are no longer kept; it may name more than that, never fewer.
    pub ghosts: BTreeSet<String>,
    /// The newest entry of the spec in force.
    #[serde(with = "spec")]
    pub spec: Option<Pack>,
    /// No entry of the history is above this.
    #[serde(with = "top")]
    pub top: Option<Place>,
}

mod spec {
    use super::{Pack, PackJson};
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(spec: &Option<Pack>, to: S) -> Result<S::Ok, S::Error> {
        spec.as_ref().map(PackJson::from).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Pack>, D::Error> {
        Option::<PackJson>::deserialize(from).map(|spec| spec.map(Pack::from))
    }
}

mod top {
    use super::super::{numbers, place};
    use crate::store::Place;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde's signature")]
    pub(super) fn serialize<S: Serializer>(top: &Option<Place>, to: S) -> Result<S::Ok, S::Error> {
        top.map(numbers).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Place>, D::Error> {
        Option::deserialize(from).map(|top| top.map(place))
    }
}

impl Told {
    /// Which numbers of an epoch came.
    #[must_use]
    pub fn ranges(&self, epoch: u64) -> Ranges {
        let runs = self.seen.get(&epoch).map(|runs| runs.iter().map(|run| (run.lo, run.hi)).collect());
        Ranges::new(runs.unwrap_or_default())
    }
}

/// What has to be written.
#[derive(Debug, Default)]
pub struct Changed {
    /// `last_seen`, `voice`, `beat` or the spec's age: what every heartbeat changes.
    pub pulse: bool,
    /// The rest of `doc`, or `told`.
    pub doc: bool,
    /// Items that were put or dropped.
    pub items: BTreeSet<String>,
    /// Packs that were put or changed; one without entries is to be removed.
    pub packs: BTreeSet<Place>,
}

impl Changed {
    /// Whether anything has.
    #[must_use]
    pub fn any(&self) -> bool {
        self.pulse || self.doc || !self.items.is_empty() || !self.packs.is_empty()
    }
}

/// One node, as far as it was loaded.
#[derive(Debug)]
pub struct Known {
    /// The store's key.
    pub key: i64,
    /// `urn:uuid:…`.
    pub source: String,
    /// How often the store has written it.
    pub rev: i64,
    /// What is known; nothing for a node that was never heard of.
    pub doc: Option<NodeDoc>,
    /// What is remembered.
    pub told: Told,
    /// Every item, once it was asked for.
    pub items: Option<BTreeMap<String, ItemRow>>,
    /// The history from `floor` on, and what this batch wrote.
    pub packs: BTreeMap<Place, Pack>,
    /// Under which `got` a pack lies in the store.
    pub stored: BTreeMap<Place, i64>,
    /// Where the loaded history begins; nothing while none is loaded.
    pub floor: Option<Place>,
    /// Whether all of the history is loaded.
    pub bottom: bool,
    /// What has to be written.
    pub changed: Changed,
    /// What has to be told.
    pub news: Vec<News>,
}

impl Known {
    /// A node that was never heard of.
    #[must_use]
    pub fn new(key: i64, source: &str) -> Self {
        Self {
            key,
            source: source.to_owned(),
            rev: 0,
            doc: None,
            told: Told::default(),
            items: None,
            packs: BTreeMap::new(),
            stored: BTreeMap::new(),
            floor: None,
            bottom: false,
            changed: Changed::default(),
            news: vec![],
        }
    }

    /// Forgets what belongs to one batch only.
    pub fn settle(&mut self) {
        self.packs.clear();
        self.stored.clear();
        (self.floor, self.bottom) = (None, false);
        self.changed = Changed::default();
        self.news.clear();
    }

    /// Takes over `doc`, and notes which part of it is another.
    pub(super) fn tell(&mut self, doc: &NodeDoc) {
        self.changed.pulse = true;
        if !self.doc.as_mut().is_some_and(|old| like(old, doc)) {
            self.changed.doc = true;
            self.doc = Some(doc.clone());
        }
    }

    pub(super) fn haunt(&mut self, id: &str) {
        self.changed.doc |= self.told.ghosts.insert(id.to_owned());
    }

    /// Whether every entry from `place` on is in memory.
    pub(super) fn reaches(&self, place: Place) -> bool {
        self.bottom
            || self.floor.is_some_and(|floor| floor <= place)
            || self.told.top.is_none_or(|top| top < place)
    }

    /// Takes over packs that were loaded; what this batch wrote stays.
    pub(super) fn lay(&mut self, packs: Vec<Pack>) {
        for pack in packs {
            self.floor = Some(pack.place);
            self.stored.insert(pack.place, pack.got);
            self.packs.entry(pack.place).or_insert(pack);
        }
    }

    pub(super) fn older(&self, item: &str, place: Place) -> Option<HistoryRow> {
        self.packs.range(..place).rev().filter(|(at, _)| at.sub >= 0).find_map(|(_, pack)| pack.row(item))
    }

    pub(super) fn newer(&self, item: &str, place: Place) -> Option<HistoryRow> {
        let above = (std::ops::Bound::Excluded(place), std::ops::Bound::Unbounded);
        self.packs.range(above).filter(|(at, _)| at.sub >= 0).find_map(|(_, pack)| pack.row(item))
    }

    pub(super) fn write(&mut self, row: &HistoryRow) {
        self.packs.entry(row.place).or_insert_with(|| Pack::of(row)).put(row);
        self.changed.packs.insert(row.place);
        if self.told.top.is_none_or(|top| top < row.place) {
            self.told.top = Some(row.place);
            self.changed.doc = true;
        }
        let newest = self.told.spec.as_ref().is_none_or(|spec| spec.place <= row.place);
        if row.item == SPEC_ITEM && row.place.sub >= 0 && newest {
            self.told.spec = Some(alone(row));
            self.changed.doc = true;
        }
    }

    /// Forgets the echoes in `from..=to`.
    pub(super) fn hush(&mut self, from: Place, to: Place) {
        for (place, pack) in self.packs.range_mut(from..=to) {
            let before = pack.entries.len();
            pack.entries.retain(|entry| !entry.echo);
            if pack.entries.len() != before {
                self.changed.packs.insert(*place);
            }
        }
    }
}

/// A pack of this one entry.
pub(super) fn alone(row: &HistoryRow) -> Pack {
    let mut pack = Pack::of(row);
    pack.put(row);
    pack
}

/// Takes over what every heartbeat changes; whether the two are alike then.
fn like(old: &mut NodeDoc, new: &NodeDoc) -> bool {
    (old.last_seen, old.voice, old.spec.age_s) = (new.last_seen, new.voice, new.spec.age_s);
    old.beat.clone_from(&new.beat);
    old == new
}
