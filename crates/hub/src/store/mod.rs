//! What is kept, as rows and as two traits: [`Store`] for the one writer, [`View`] for the many readers.
//!
//! How events become rows is decided in `merge`; a store only keeps and finds rows. SQL lives in the
//! implementations and nowhere else. SQLite is asked row by row, as that costs nothing in one process; PostgreSQL is
//! asked once for a whole batch (`batch`).

pub mod accounts;
pub mod acts;
pub mod batch;
mod lean;
pub mod postgres;
pub mod registry;
mod rows;
mod slots;
pub mod sqlite;
pub mod telling;

pub use rows::{
    BY_THE_WAY, Beat, Detail, GONE, HistoryRow, ItemRow, Mark, NodeDoc, NodeRow, ON_ITS_WAY_MS, Place,
    Ranges, SPEC_ITEM, Voice,
};

pub use slots::{SlotBook, SlotRow, Taken};
use std::collections::BTreeMap;

/// Why a row could not be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database could not be opened.
    #[error("opening the store {path}")]
    Open {
        /// The file.
        path: String,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The database was written by a newer hub.
    #[error(
        "the store {path} has schema version {found}, this hub knows up to {known}: run a newer evenkeel-hub"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// The newest version this hub knows.
        known: i64,
    },
    /// The database does not answer; it may again.
    #[error("{doing}: the database at {place} is away")]
    Away {
        /// What was being done.
        doing: &'static str,
        /// Where it is, without a password.
        place: String,
        /// What the database or the network said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A statement failed.
    #[error("{doing} in the store")]
    Sql {
        /// What was being done.
        doing: &'static str,
        /// What the database said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored JSON column does not read.
    #[error("reading a stored {what}")]
    Row {
        /// Which column.
        what: &'static str,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// The result of anything that touches the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// What a transaction is about to touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Touch<'a> {
    /// The node.
    pub source: &'a str,
    /// Its items too.
    pub items: bool,
}

/// One transaction's reads and writes, as `merge` needs them.
pub trait Tx {
    /// Says what will be touched, so that it can be loaded at once; each source at most once. A store that is asked
    /// row by row has no use for it.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn expect(&mut self, touches: &[Touch<'_>]) -> Result<()> {
        let _ = touches;
        Ok(())
    }
    /// The node of `source`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn node(&mut self, source: &str) -> Result<Option<NodeRow>>;
    /// A new node; its key.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn add_node(&mut self, source: &str, doc: &NodeDoc) -> Result<i64>;
    /// What is known of a node now.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn put_node(&mut self, node: i64, doc: &NodeDoc) -> Result<()>;
    /// Which numbers of an epoch were received.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn seen(&mut self, node: i64, epoch: u64) -> Result<Ranges>;
    /// Replaces the ranges that start at `drop` by the range `put`, received at `got`.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn put_seen(&mut self, node: i64, epoch: u64, drop: &[u64], put: (u64, u64), got: i64) -> Result<()>;
    /// Every item of a node, tombstones included.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>>;
    /// One item as it stands now.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn put_item(&mut self, node: i64, id: &str, item: &ItemRow) -> Result<()>;
    /// Forgets one item.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn drop_item(&mut self, node: i64, id: &str) -> Result<()>;
    /// The newest entry of `item` before `place`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn before(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>>;
    /// The oldest entry of `item` after `place`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn after(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>>;
    /// One entry of the history; an entry at the same place is replaced.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn put_history(&mut self, node: i64, row: &HistoryRow) -> Result<()>;
    /// Forgets the echoes among the entries `lo..=hi` of an epoch.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn drop_echoes(&mut self, node: i64, epoch: u64, lo: u64, hi: u64) -> Result<()>;
    /// News of a node, to be told.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn tell(&mut self, node: i64, news: &telling::News) -> Result<()>;
}

/// What the one writer does.
pub trait Store: Send {
    /// Runs `work` in one transaction: all of it is on the disk when this returns, or none of it ever is.
    ///
    /// # Errors
    /// When `work` fails or the commit does.
    fn transaction(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()>;
    /// Forgets up to `most` pieces of the history received before `before` (unix ms), and nodes that were taken out before
    /// it and not heard of since; how many pieces it forgot. A piece is whatever the store forgets at once: an entry, a
    /// day, a node.
    ///
    /// # Errors
    /// When the store cannot be written.
    fn prune(&mut self, before: i64, most: usize) -> Result<usize>;
    /// Notes that the hub was up at `now` (unix ms).
    ///
    /// # Errors
    /// When the store cannot be written.
    fn note_up(&mut self, now: i64) -> Result<()>;
    /// When the hub was last known to be up (unix ms).
    ///
    /// # Errors
    /// When the store cannot be read.
    fn last_up(&mut self) -> Result<Option<i64>>;
}

/// A node's key, one of its items, and the facts that it tells.
pub type Told = (i64, String, BTreeMap<String, String>);

/// What readers ask, each call on its own snapshot.
pub trait View: Send + Sync {
    /// Up to `limit` nodes by (name, source), after `after`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn nodes(&self, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<NodeRow>>;
    /// A node by its source, or the one last heard of under a name.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn node(&self, name_or_source: &str) -> Result<Option<NodeRow>>;
    /// Every item of a node, without tombstones.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn items(&self, node: i64) -> Result<Vec<(String, ItemRow)>>;
    /// Up to `limit` items that are pending, non-compliant or in error, each with its node's key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn open_items(&self, limit: usize) -> Result<Vec<(i64, String, ItemRow)>>;
    /// Tells `with` the facts of every item that has some, tombstones left out, one node's after another's.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn facts(&self, with: &mut dyn FnMut(Told)) -> Result<()>;
    /// The same of the nodes of these keys alone.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn facts_of(&self, nodes: &[i64], with: &mut dyn FnMut(Told)) -> Result<()>;
    /// Up to `limit` entries of a node's history, newest first, before `before`.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn timeline(&self, node: i64, before: Option<(Place, &str)>, limit: usize) -> Result<Vec<HistoryRow>>;
    /// The last `limit` repairs received, each with its node's key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn repairs(&self, limit: usize) -> Result<Vec<(i64, HistoryRow)>>;
    /// Which numbers of an epoch were received.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn seen(&self, node: i64, epoch: u64) -> Result<Ranges>;
    /// The nodes of these keys, in no order; a key that nobody has is left out.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn these(&self, keys: &[i64]) -> Result<Vec<NodeRow>>;
    /// Up to `limit` entries of all histories received from `from` to before `to` (unix ms, the hub's clock), newest
    /// first, each with its node's key.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn between(&self, from: i64, to: i64, limit: usize) -> Result<Vec<(i64, HistoryRow)>>;
    /// When each node was first known to have `commit` in force (unix ms, the hub's clock), as far as the history goes
    /// back.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn taken(&self, commit: &str) -> Result<Vec<(i64, i64)>>;
    /// Every name that was taken out, and when (unix ms, the hub's clock).
    ///
    /// # Errors
    /// When the store cannot be read.
    fn retired(&self) -> Result<Vec<(String, i64)>> {
        Ok(vec![])
    }
    /// Whether other hubs may write to the same store.
    fn shared(&self) -> bool {
        false
    }
    /// The keys of the nodes that were last heard of at `since` or later (unix ms), and when; only a store that is
    /// shared is asked.
    ///
    /// # Errors
    /// When the store cannot be read.
    fn heard(&self, since: i64) -> Result<Vec<(i64, i64)>>;
}
