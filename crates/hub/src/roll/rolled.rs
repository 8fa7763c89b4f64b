//! A store that enters into the roll whatever it commits.

use super::{Line, Named, News as Facts, Roll};
use crate::store::telling::News;
use crate::store::{HistoryRow, ItemRow, NodeDoc, NodeRow, Place, Ranges, Result, Store, Touch, Tx};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A store and its roll.
pub struct Rolled {
    store: Box<dyn Store>,
    roll: Arc<Roll>,
}

impl Rolled {
    /// Enters into `roll` what `store` commits from now on.
    #[must_use]
    pub fn new(store: Box<dyn Store>, roll: Arc<Roll>) -> Self {
        Self { store, roll }
    }
}

impl Store for Rolled {
    fn transaction(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        let mut heard = Heard::default();
        self.store.transaction(&mut |tx| {
            // A store may try a second time, from the start.
            heard = Heard::default();
            work(&mut Ear { tx, heard: &mut heard })
        })?;
        self.roll.enter(heard.lines.into_values());
        self.roll.note(heard.facts);
        Ok(())
    }

    fn prune(&mut self, before: i64, most: usize) -> Result<usize> {
        self.store.prune(before, most)
    }

    fn note_up(&mut self, now: i64) -> Result<()> {
        self.store.note_up(now)
    }

    fn last_up(&mut self) -> Result<Option<i64>> {
        self.store.last_up()
    }
}

/// What a transaction said of nodes.
#[derive(Default)]
struct Heard {
    sources: HashMap<i64, Arc<str>>,
    lines: HashMap<i64, Line>,
    facts: HashMap<i64, Facts>,
}

/// A transaction that is listened to.
struct Ear<'a> {
    tx: &'a mut dyn Tx,
    heard: &'a mut Heard,
}

impl Ear<'_> {
    fn note(&mut self, node: i64, doc: &NodeDoc) {
        if let Some(source) = self.heard.sources.get(&node) {
            self.heard.lines.insert(node, Line::new(node, source, doc));
        }
        self.facts(node).labels = Some(doc.node.labels.clone());
    }

    fn facts(&mut self, node: i64) -> &mut Facts {
        self.heard.facts.entry(node).or_default()
    }
}

/// The facts of an item; a tombstone has none.
fn facts_of(item: &ItemRow) -> Named {
    if item.status.is_some() { item.detail.facts.clone() } else { Named::new() }
}

impl Tx for Ear<'_> {
    fn expect(&mut self, touches: &[Touch<'_>]) -> Result<()> {
        self.tx.expect(touches)
    }
    fn node(&mut self, source: &str) -> Result<Option<NodeRow>> {
        let found = self.tx.node(source)?;
        if let Some(row) = &found {
            self.heard.sources.entry(row.key).or_insert_with(|| source.into());
        }
        Ok(found)
    }
    fn add_node(&mut self, source: &str, doc: &NodeDoc) -> Result<i64> {
        let node = self.tx.add_node(source, doc)?;
        self.heard.sources.insert(node, source.into());
        self.note(node, doc);
        Ok(node)
    }
    fn put_node(&mut self, node: i64, doc: &NodeDoc) -> Result<()> {
        self.tx.put_node(node, doc)?;
        self.note(node, doc);
        Ok(())
    }
    fn seen(&mut self, node: i64, epoch: u64) -> Result<Ranges> {
        self.tx.seen(node, epoch)
    }
    fn put_seen(&mut self, node: i64, epoch: u64, drop: &[u64], put: (u64, u64), got: i64) -> Result<()> {
        self.tx.put_seen(node, epoch, drop, put, got)
    }
    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>> {
        let items = self.tx.items(node)?;
        let facts = items.iter().map(|(id, item)| (id.clone(), facts_of(item))).collect();
        let news = self.facts(node);
        (news.whole, news.items) = (true, facts);
        Ok(items)
    }
    fn put_item(&mut self, node: i64, id: &str, item: &ItemRow) -> Result<()> {
        self.tx.put_item(node, id, item)?;
        self.facts(node).items.push((id.to_owned(), facts_of(item)));
        Ok(())
    }
    fn drop_item(&mut self, node: i64, id: &str) -> Result<()> {
        self.tx.drop_item(node, id)?;
        self.facts(node).items.push((id.to_owned(), Named::new()));
        Ok(())
    }
    fn before(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        self.tx.before(node, item, place)
    }
    fn after(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        self.tx.after(node, item, place)
    }
    fn put_history(&mut self, node: i64, row: &HistoryRow) -> Result<()> {
        self.tx.put_history(node, row)
    }
    fn tell(&mut self, node: i64, news: &News) -> Result<()> {
        self.tx.tell(node, news)
    }
    fn drop_echoes(&mut self, node: i64, epoch: u64, lo: u64, hi: u64) -> Result<()> {
        self.tx.drop_echoes(node, epoch, lo, hi)
    }
}
