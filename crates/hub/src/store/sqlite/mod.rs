//! The SQLite store: one file, one writing connection, reading connections beside it (WAL).

mod accounts;
mod acts;
mod registry;
mod schema;
mod slots;
mod telling;
mod tx;
mod view;
mod words;

pub use accounts::SqliteAccounts;
pub use registry::SqliteRegistry;
pub use slots::SqliteSlots;
pub use telling::SqliteTelling;
pub use view::SqliteView;

use super::{ON_ITS_WAY_MS, Result, Store, StoreError, Tx};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a statement waits for another process (a backup, an operator's shell) to let go of the file.
const BUSY: Duration = Duration::from_secs(5);

/// The writing side.
#[derive(Debug)]
pub struct SqliteStore {
    conn: Connection,
}

impl SqliteStore {
    /// Opens or creates the store at `path`, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file cannot be opened, is no database, or was written by a newer hub.
    pub fn open(path: &Path) -> Result<Self> {
        let mut conn = open_writer(path)?;
        conn.execute_batch("PRAGMA journal_mode=WAL;").map_err(opened(path))?;
        schema::migrate(&mut conn, path)?;
        conn.set_prepared_statement_cache_capacity(64);
        Ok(Self { conn })
    }
}

/// How many nodes are forgotten at once: each has some hundred rows.
const NODES: i64 = 20;

impl SqliteStore {
    /// Forgets some nodes that were taken out before `before` (unix ms) and not heard of since; how many.
    fn forget_retired(&mut self, before: i64) -> Result<usize> {
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = tx.map_err(sql("forgetting nodes"))?;
        let text = "SELECT n.id FROM retired r JOIN nodes n ON n.name = r.name \
                    WHERE r.at < ?1 AND n.last_seen <= r.at + ?3 LIMIT ?2";
        let keys: rusqlite::Result<Vec<i64>> = tx.prepare_cached(text).and_then(|mut found| {
            found.query_map([before, NODES, ON_ITS_WAY_MS], |row| row.get(0))?.collect()
        });
        let keys = keys.map_err(sql("forgetting nodes"))?;
        for key in &keys {
            for text in [
                "DELETE FROM items WHERE node = ?1",
                "DELETE FROM seen WHERE node = ?1",
                "DELETE FROM history WHERE node = ?1",
                "DELETE FROM nodes WHERE id = ?1",
            ] {
                tx.execute(text, [key]).map_err(sql("forgetting nodes"))?;
            }
        }
        if keys.is_empty() {
            tx.execute("DELETE FROM retired WHERE at < ?1", [before]).map_err(sql("forgetting nodes"))?;
        }
        tx.commit().map_err(sql("forgetting nodes"))?;
        Ok(keys.len())
    }
}

impl Store for SqliteStore {
    fn transaction(&mut self, work: &mut dyn FnMut(&mut dyn Tx) -> Result<()>) -> Result<()> {
        // Locked for writing from its first look on: one that reads first and writes later fails where another
        // connection (the outbox, the registry, a command) wrote in between, and no patience helps it then.
        let tx = self.conn.transaction_with_behavior(TransactionBehavior::Immediate);
        let tx = tx.map_err(sql("beginning a transaction"))?;
        work(&mut tx::SqliteTx(&tx))?;
        tx.commit().map_err(sql("committing"))
    }

    fn prune(&mut self, before: i64, most: usize) -> Result<usize> {
        let text = "DELETE FROM history WHERE id IN \
                    (SELECT id FROM history WHERE got < ?1 ORDER BY got LIMIT ?2)";
        let bound = params![before, i64::try_from(most).unwrap_or(i64::MAX)];
        let gone = self.conn.execute(text, bound).map_err(sql("pruning the history"))?;
        if gone < most {
            words::prune(&self.conn, before)?;
            // Nodes go when their history has gone.
            return Ok(gone + self.forget_retired(before)?);
        }
        Ok(gone)
    }

    fn note_up(&mut self, now: i64) -> Result<()> {
        let text = "INSERT INTO meta (key, value) VALUES ('up', ?1) \
                    ON CONFLICT (key) DO UPDATE SET value = excluded.value";
        self.conn.execute(text, [now]).map_err(sql("noting that the hub is up")).map(|_| ())
    }

    fn last_up(&mut self) -> Result<Option<i64>> {
        let text = "SELECT value FROM meta WHERE key = 'up'";
        self.conn.query_row(text, [], |row| row.get(0)).optional().map_err(sql("reading when the hub was up"))
    }
}

fn sql(doing: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| StoreError::Sql { doing, source: Box::new(source) }
}

fn opened(path: &Path) -> impl Fn(rusqlite::Error) -> StoreError + '_ {
    |source| StoreError::Open { path: path.display().to_string(), source: Box::new(source) }
}

/// A connection that writes. An acknowledgement means committed: FULL syncs the log at every commit, also before a power cut.
fn open_writer(path: &Path) -> Result<Connection> {
    let conn = Connection::open(path).map_err(opened(path))?;
    conn.busy_timeout(BUSY).map_err(opened(path))?;
    conn.execute_batch("PRAGMA synchronous=FULL;").map_err(opened(path))?;
    Ok(conn)
}

fn open_reader(path: &Path) -> Result<Connection> {
    let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(opened(path))?;
    conn.busy_timeout(BUSY).map_err(opened(path))?;
    conn.set_prepared_statement_cache_capacity(64);
    Ok(conn)
}

/// Runs `work` in a transaction that nobody else writes beside.
fn write<T>(conn: &Mutex<Connection>, work: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
    let mut conn = conn.lock().unwrap_or_else(PoisonError::into_inner);
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate);
    let tx = tx.map_err(sql("beginning a transaction"))?;
    let done = work(&tx)?;
    tx.commit().map_err(sql("committing"))?;
    Ok(done)
}

/// SQLite has no unsigned 64-bit numbers; larger ones are refused at the door (`wire`).
fn int(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn nat(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

fn json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Row { what, source })
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| StoreError::Row { what, source })
}
