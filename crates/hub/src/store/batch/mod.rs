//! A transaction in memory: what a batch touches is loaded with a few questions, `merge` runs on maps, and what it
//! changed is written with a few statements. Over a network a question costs more than an answer.
//!
//! No SQL here: what lies under a batch is a [`Ground`]. The newest part of a node's history is not needed as long as
//! its reports come in order; where one comes late, the history is loaded backwards from the newest entry, as far as
//! the question goes, and no further.

mod node;
mod pack;

pub use node::{Known, Run, Told};
pub use pack::{Entry, Pack};
pub(crate) use pack::{numbers, place};

use super::telling::News;
use super::{HistoryRow, ItemRow, NodeDoc, NodeRow, Place, Ranges, Result, Touch, Tx};
use std::collections::{BTreeMap, HashMap};

/// What lies under a batch: where it is loaded from. Everything that it answers stands still until the batch is
/// written or dropped.
pub trait Ground {
    /// The nodes of these sources, each once, in any order. One that was never heard of gets a key and has no `doc`.
    /// Items are wanted where a touch says so.
    ///
    /// # Errors
    /// When the store fails.
    fn nodes(&mut self, touches: &[Touch<'_>]) -> Result<Vec<Known>>;
    /// Every item of a node, tombstones included.
    ///
    /// # Errors
    /// When the store fails.
    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>>;
    /// Up to `most` packs of a node below `below` (or from the newest), newest first.
    ///
    /// # Errors
    /// When the store fails.
    fn packs(&mut self, node: i64, below: Option<Place>, most: usize) -> Result<Vec<Pack>>;
    /// How many packs are worth loading at once.
    fn piece(&self) -> usize {
        256
    }
}

/// One transaction in memory.
pub struct Batch<'a> {
    ground: &'a mut dyn Ground,
    keys: HashMap<String, i64>,
    nodes: HashMap<i64, Known>,
}

impl<'a> Batch<'a> {
    /// An empty batch on `ground`.
    pub fn new(ground: &'a mut dyn Ground) -> Self {
        Self { ground, keys: HashMap::new(), nodes: HashMap::new() }
    }

    /// What was touched, changed or not, by key.
    #[must_use]
    pub fn finish(self) -> Vec<Known> {
        let mut nodes: Vec<_> = self.nodes.into_values().collect();
        nodes.sort_by_key(|known| known.key);
        nodes
    }

    fn load(&mut self, touches: &[Touch<'_>]) -> Result<()> {
        let missing: Vec<Touch<'_>> =
            touches.iter().filter(|touch| !self.keys.contains_key(touch.source)).copied().collect();
        if missing.is_empty() {
            return Ok(());
        }
        for known in self.ground.nodes(&missing)? {
            self.keys.insert(known.source.clone(), known.key);
            self.nodes.insert(known.key, known);
        }
        Ok(())
    }

    /// The node of a key that this batch gave out.
    fn at(&mut self, node: i64) -> &mut Known {
        self.nodes.entry(node).or_insert_with(|| Known::new(node, ""))
    }

    fn with_items(&mut self, node: i64) -> Result<&mut BTreeMap<String, ItemRow>> {
        let loaded = match self.at(node).items.take() {
            Some(items) => items,
            None => self.ground.items(node)?,
        };
        Ok(self.at(node).items.insert(loaded))
    }

    /// Loads one more piece of the history; whether there was any.
    fn dig(&mut self, node: i64) -> Result<bool> {
        let below = self.at(node).floor;
        let piece = self.ground.piece();
        let packs = self.ground.packs(node, below, piece)?;
        let all = packs.len() < piece;
        let known = self.at(node);
        known.bottom = all;
        known.lay(packs);
        Ok(!all)
    }

    /// Has every entry from `place` on in memory.
    fn reach(&mut self, node: i64, place: Place) -> Result<()> {
        while !self.at(node).reaches(place) {
            self.dig(node)?;
        }
        Ok(())
    }

    /// The newest entry of `item` before `place`.
    fn search(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        self.reach(node, place)?;
        loop {
            let known = self.at(node);
            if let Some(found) = known.older(item, place) {
                return Ok(Some(found));
            }
            if known.bottom {
                return Ok(None);
            }
            self.dig(node)?;
        }
    }

    /// Whether the history of a node may have an entry of `item`.
    fn heard_of(&mut self, node: i64, item: &str) -> Result<bool> {
        Ok(self.with_items(node)?.contains_key(item) || self.at(node).told.ghosts.contains(item))
    }
}

impl Tx for Batch<'_> {
    fn expect(&mut self, touches: &[Touch<'_>]) -> Result<()> {
        self.load(touches)
    }

    fn node(&mut self, source: &str) -> Result<Option<NodeRow>> {
        self.load(&[Touch { source, items: false }])?;
        let known = self.keys.get(source).and_then(|key| self.nodes.get(key));
        Ok(known.and_then(|known| {
            let doc = known.doc.clone()?;
            Some(NodeRow { key: known.key, source: known.source.clone(), doc })
        }))
    }

    fn add_node(&mut self, source: &str, doc: &NodeDoc) -> Result<i64> {
        self.load(&[Touch { source, items: false }])?;
        let key = self.keys.get(source).copied().unwrap_or_default();
        self.put_node(key, doc)?;
        Ok(key)
    }

    fn put_node(&mut self, node: i64, doc: &NodeDoc) -> Result<()> {
        self.at(node).tell(doc);
        Ok(())
    }

    fn seen(&mut self, node: i64, epoch: u64) -> Result<Ranges> {
        Ok(self.at(node).told.ranges(epoch))
    }

    fn put_seen(&mut self, node: i64, epoch: u64, drop: &[u64], put: (u64, u64), got: i64) -> Result<()> {
        let known = self.at(node);
        known.changed.doc = true;
        let runs = known.told.seen.entry(epoch).or_default();
        runs.retain(|run| !drop.contains(&run.lo));
        runs.push(Run { lo: put.0, hi: put.1, got });
        runs.sort_unstable_by_key(|run| run.lo);
        Ok(())
    }

    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>> {
        self.with_items(node).map(|items| items.clone())
    }

    fn put_item(&mut self, node: i64, id: &str, item: &ItemRow) -> Result<()> {
        self.with_items(node)?.insert(id.to_owned(), item.clone());
        let known = self.at(node);
        known.changed.items.insert(id.to_owned());
        known.told.ghosts.remove(id);
        Ok(())
    }

    fn drop_item(&mut self, node: i64, id: &str) -> Result<()> {
        self.with_items(node)?.remove(id);
        let known = self.at(node);
        known.changed.items.insert(id.to_owned());
        known.haunt(id);
        Ok(())
    }

    fn before(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        if item.is_empty() {
            match &self.at(node).told.spec {
                None => return Ok(None),
                Some(newest) if newest.place < place => return Ok(newest.row(item)),
                Some(_) => {}
            }
        } else if !self.heard_of(node, item)? {
            return Ok(None);
        }
        self.search(node, item, place)
    }

    fn after(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        if self.at(node).told.top.is_none_or(|top| top <= place) {
            return Ok(None);
        }
        self.reach(node, place)?;
        Ok(self.at(node).newer(item, place))
    }

    fn put_history(&mut self, node: i64, row: &HistoryRow) -> Result<()> {
        // Two heartbeats can have the same place; no two reports can.
        if row.place.sub > 0 && self.at(node).told.top.is_some_and(|top| row.place <= top) {
            self.reach(node, row.place)?;
        }
        if !row.item.is_empty() && !self.heard_of(node, &row.item)? {
            self.at(node).haunt(&row.item);
        }
        self.at(node).write(row);
        Ok(())
    }

    fn tell(&mut self, node: i64, news: &News) -> Result<()> {
        self.at(node).news.push(news.clone());
        Ok(())
    }

    fn drop_echoes(&mut self, node: i64, epoch: u64, lo: u64, hi: u64) -> Result<()> {
        let from = Place { seq: evenkeel_report::Seq { epoch, n: lo }, sub: i64::MIN };
        let to = Place { seq: evenkeel_report::Seq { epoch, n: hi }, sub: i64::MAX };
        self.reach(node, from)?;
        let known = self.at(node);
        known.hush(from, to);
        // The newest word of the spec may have been one of them.
        if let Some(newest) = known.told.spec.as_ref().map(|spec| spec.place)
            && (from..=to).contains(&newest)
            && known
                .older("", Place { sub: newest.sub.saturating_add(1), ..newest })
                .is_none_or(|row| row.place < newest)
        {
            let row = self.search(node, "", newest)?;
            self.at(node).told.spec = row.map(|row| node::alone(&row));
        }
        Ok(())
    }
}
