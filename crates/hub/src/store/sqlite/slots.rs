//! Slots in SQLite, on a connection of their own beside the writer's.

use super::{open_writer, sql};
use crate::store::{Result, SlotBook, SlotRow, Taken};
use rusqlite::{Connection, TransactionBehavior, params};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The most slots that are held at once, over all groups: a bound against nonsense, not a limit on anybody.
const MOST: i64 = 10_000;

/// The book of slots.
#[derive(Debug)]
pub struct SqliteSlots {
    conn: Mutex<Connection>,
}

impl SqliteSlots {
    /// Opens the book in the store at `path`, which has been opened and brought up to date before.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { conn: Mutex::new(open_writer(path)?) })
    }

    fn conn(&self) -> MutexGuard<'_, Connection> {
        self.conn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotBook for SqliteSlots {
    fn take(&self, group: &str, id: &str, size: u32, now: i64) -> Result<Taken> {
        let mut conn = self.conn();
        // Locked for writing from its first look on: two questions at once are one after the other.
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(sql("asking for a slot"))?;
        let holders: rusqlite::Result<Vec<String>> = tx
            .prepare_cached("SELECT id FROM slots WHERE grp = ?1 ORDER BY since, id")
            .and_then(|mut found| found.query_map([group], |row| row.get(0))?.collect());
        let holders = holders.map_err(sql("reading slots"))?;
        if holders.iter().any(|holder| holder == id) {
            return Ok(Taken::Granted);
        }
        let all: i64 = tx
            .query_row("SELECT count(*) FROM slots", [], |row| row.get(0))
            .map_err(sql("counting slots"))?;
        if holders.len() >= size as usize || all >= MOST {
            return Ok(Taken::Full(holders));
        }
        tx.execute("INSERT INTO slots (grp, id, since) VALUES (?1, ?2, ?3)", params![group, id, now])
            .map_err(sql("granting a slot"))?;
        tx.commit().map_err(sql("granting a slot"))?;
        Ok(Taken::Granted)
    }

    fn leave(&self, group: &str, id: &str) -> Result<bool> {
        let gone = self.conn().execute("DELETE FROM slots WHERE grp = ?1 AND id = ?2", params![group, id]);
        gone.map(|gone| gone > 0).map_err(sql("taking a slot back"))
    }

    fn all(&self) -> Result<Vec<SlotRow>> {
        let conn = self.conn();
        let rows: rusqlite::Result<Vec<SlotRow>> =
            conn.prepare_cached("SELECT grp, id, since FROM slots ORDER BY grp, id").and_then(|mut found| {
                let row = |row: &rusqlite::Row<'_>| {
                    Ok(SlotRow { group: row.get(0)?, id: row.get(1)?, since: row.get(2)? })
                };
                found.query_map([], row)?.collect()
            });
        rows.map_err(sql("reading slots"))
    }
}
