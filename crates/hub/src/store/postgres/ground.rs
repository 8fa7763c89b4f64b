//! What a batch is loaded from: the rows of its nodes, locked in one order by whichever hub comes first.
//!
//! Nodes that were written lately are still in memory. They are used only where the row that was just locked has been
//! written as often: another hub on the same database is noticed before anything rests on what it changed.

use super::link::{Link, Trouble};
use super::rows::{self, Said};
use crate::store::batch::{Entry, Ground, Known, Pack, numbers, place};
use crate::store::{ItemRow, Place, Result, Touch};
use std::collections::{BTreeMap, HashMap};

/// How much is kept in memory, of all nodes together (bytes, about).
const ROOM: usize = 48_000_000;
/// What a node takes, without its items (bytes, about): a kilobyte as it is, and two of texts and small allocations.
const NODE: usize = 3_000;
/// What an item takes: its row, its id, and what is told of it.
const ITEM: usize = 450;

/// Nodes as this hub last wrote them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    nodes: HashMap<String, Box<Known>>,
    bytes: usize,
}

impl Cache {
    /// The node of `source`, if it was written `rev` times.
    fn take(&mut self, source: &str, rev: i64) -> Option<Known> {
        let known = self.nodes.remove(source)?;
        self.bytes -= weight(&known);
        (known.rev == rev).then_some(*known)
    }

    /// Keeps a node for the next batch.
    pub(super) fn keep(&mut self, mut known: Known) {
        known.rev += i64::from(known.changed.any());
        known.settle();
        let weight = weight(&known);
        if self.bytes + weight > ROOM {
            // Which half does not matter: what is missing is loaded.
            let mut every_other = false;
            self.nodes.retain(|_, _| {
                every_other = !every_other;
                every_other
            });
            self.bytes = self.nodes.values().map(|known| self::weight(known)).sum();
        }
        self.bytes += weight;
        if let Some(old) = self.nodes.insert(known.source.clone(), Box::new(known)) {
            self.bytes -= self::weight(&old);
        }
    }
}

/// What a node takes: itself, its items and its ghosts.
fn weight(known: &Known) -> usize {
    NODE + ITEM * known.items.as_ref().map_or(0, BTreeMap::len) + ITEM / 4 * known.told.ghosts.len()
}

/// One transaction's reading side.
pub(super) struct PgGround<'a> {
    link: &'a Link,
    cache: &'a mut Cache,
    /// Whether the transaction has begun.
    pub(super) begun: bool,
    /// Whether another transaction was in the way.
    pub(super) contended: bool,
}

/// A node's row as it is locked: key, source, rev.
type Locked = (i64, String, i64);

const LOCK: &str = "SELECT n.id, n.source, p.rev FROM nodes n JOIN pulses p ON p.node = n.id \
                    WHERE n.source = ANY($1) ORDER BY n.id FOR UPDATE OF p";
const ADD: &str = "WITH added AS (INSERT INTO nodes (source, name, tier, doc, told) \
                   SELECT source, '', '', '', '' FROM unnest($1::text[]) AS u(source) ORDER BY source COLLATE \"C\" \
                   ON CONFLICT (source) DO NOTHING RETURNING id) \
                   INSERT INTO pulses (node, rev, last_seen, said) SELECT id, 0, 0, '' FROM added";
const NODES: &str = "SELECT n.id, n.source, p.rev, n.doc, n.told, p.last_seen, p.said \
                     FROM nodes n JOIN pulses p ON p.node = n.id WHERE n.id = ANY($1)";
const ITEMS_OF: &str = "SELECT node, id, status, epoch, n, detail FROM items WHERE node = ANY($1)";
const PACKS: &str = "SELECT epoch, n, sub, at, got, commit_id, body FROM history \
                     WHERE node = $1 AND (epoch, n, sub) < ($2, $3, $4) \
                     ORDER BY epoch DESC, n DESC, sub DESC LIMIT $5";

impl<'a> PgGround<'a> {
    pub(super) fn new(link: &'a Link, cache: &'a mut Cache) -> Self {
        Self { link, cache, begun: false, contended: false }
    }

    fn told<T>(&mut self, doing: &'static str, answer: std::result::Result<T, Trouble>) -> Result<T> {
        answer.map_err(|why| {
            self.contended |= why.contended();
            why.told(doing, self.link.place())
        })
    }

    fn lock(&mut self, sources: &[&str]) -> Result<Vec<Locked>> {
        let running = std::mem::replace(&mut self.begun, true);
        let locked = self.link.ask(|it| async move {
            let lock = it.prepared(LOCK).await?;
            let begin = async { if running { Ok(()) } else { it.client.batch_execute("BEGIN").await } };
            let ask = async { it.client.query(&lock, &[&sources]).await };
            let ((), rows) = tokio::try_join!(biased; begin, ask)?;
            Ok(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect())
        });
        self.told("locking nodes", locked)
    }

    fn add(&mut self, sources: &[&str]) -> Result<Vec<Locked>> {
        let added = self.link.ask(|it| async move {
            let add = it.prepared(ADD).await?;
            it.client.execute(&add, &[&sources]).await
        });
        self.told("adding nodes", added)?;
        self.lock(sources)
    }

    fn load(&mut self, keys: &[i64]) -> Result<Vec<Known>> {
        let rows = self.link.ask(|it| async move {
            let text = it.prepared(NODES).await?;
            it.client.query(&text, &[&keys]).await
        });
        self.told("reading nodes", rows)?.iter().map(known).collect()
    }

    fn load_items(&mut self, keys: &[i64]) -> Result<HashMap<i64, BTreeMap<String, ItemRow>>> {
        let rows = self.link.ask(|it| async move {
            let text = it.prepared(ITEMS_OF).await?;
            it.client.query(&text, &[&keys]).await
        });
        let mut items: HashMap<i64, BTreeMap<String, ItemRow>> =
            keys.iter().map(|key| (*key, BTreeMap::new())).collect();
        for row in self.told("reading items", rows)? {
            let (id, item) = rows::item(&row, 1)?;
            items.entry(row.get(0)).or_default().insert(id, item);
        }
        Ok(items)
    }
}

fn known(row: &tokio_postgres::Row) -> Result<Known> {
    let mut known = Known::new(row.get(0), row.get(1));
    known.rev = row.get(2);
    let (doc, told): (&str, &str) = (row.get(3), row.get(4));
    if !doc.is_empty() {
        known.doc = Some(Said::read(row.get(6))?.onto(doc, row.get(5))?);
        known.told = rows::from_json(told, "node")?;
    }
    Ok(known)
}

impl Ground for PgGround<'_> {
    fn nodes(&mut self, touches: &[Touch<'_>]) -> Result<Vec<Known>> {
        let sources: Vec<&str> = touches.iter().map(|touch| touch.source).collect();
        let mut locked = self.lock(&sources)?;
        let there: std::collections::HashSet<&str> =
            locked.iter().map(|(_, source, _)| source.as_str()).collect();
        let missing: Vec<&str> = sources.iter().filter(|source| !there.contains(**source)).copied().collect();
        if !missing.is_empty() {
            locked.extend(self.add(&missing)?);
        }
        let (mut nodes, mut unknown) = (vec![], vec![]);
        for (key, source, rev) in locked {
            match self.cache.take(&source, rev) {
                Some(known) => nodes.push(known),
                None => unknown.push(key),
            }
        }
        if !unknown.is_empty() {
            nodes.extend(self.load(&unknown)?);
        }
        let with_items: std::collections::HashSet<&str> =
            touches.iter().filter(|touch| touch.items).map(|touch| touch.source).collect();
        let lacks = |known: &Known| known.items.is_none() && with_items.contains(known.source.as_str());
        let bare: Vec<i64> = nodes.iter().filter(|known| lacks(known)).map(|known| known.key).collect();
        if !bare.is_empty() {
            let mut items = self.load_items(&bare)?;
            for known in &mut nodes {
                known.items = items.remove(&known.key).or(known.items.take());
            }
        }
        Ok(nodes)
    }

    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>> {
        Ok(self.load_items(&[node])?.remove(&node).unwrap_or_default())
    }

    fn packs(&mut self, node: i64, below: Option<Place>, most: usize) -> Result<Vec<Pack>> {
        let (epoch, n, sub) = below.map_or((i64::MAX, i64::MAX, i64::MAX), numbers);
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self.link.ask(|it| async move {
            let text = it.prepared(PACKS).await?;
            it.client.query(&text, &[&node, &epoch, &n, &sub, &most]).await
        });
        self.told("reading the history", rows)?.iter().map(|row| pack(row, 0)).collect()
    }
}

/// A pack from `epoch, n, sub, at, got, commit_id, body`, which start at column `first`.
pub(super) fn pack(row: &tokio_postgres::Row, first: usize) -> Result<Pack> {
    let entries: Vec<Entry> = Pack::entries(row.get(first + 6))?;
    Ok(Pack {
        place: place((row.get(first), row.get(first + 1), row.get(first + 2))),
        at: row.get(first + 3),
        got: row.get(first + 4),
        commit: row.get(first + 5),
        entries,
    })
}

#[cfg(test)]
mod tests {
    use super::{Cache, NODE, ROOM};
    use crate::store::batch::Known;

    #[test]
    fn a_hundred_thousand_nodes_do_not_take_more_than_there_is_room_for() {
        let mut cache = Cache::default();
        for key in 0..100_000 {
            cache.keep(Known::new(key, &format!("urn:uuid:{key}")));
            assert!(cache.bytes <= ROOM);
        }
        assert!(cache.nodes.len() > ROOM / NODE / 3, "{}", cache.nodes.len());
        let kept: Vec<String> = cache.nodes.keys().cloned().collect();
        for source in kept {
            assert!(cache.take(&source, 0).is_some_and(|known| known.source == source));
        }
        assert_eq!(cache.bytes, 0);
    }
}
