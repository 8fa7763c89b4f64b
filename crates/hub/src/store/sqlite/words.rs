//! Words: texts that the history says again and again, each kept once.

use super::sql;
use crate::store::Result;
use rusqlite::{Connection, OptionalExtension as _, params};

const DAY_MS: i64 = 86_400_000;

/// The day (since 1970) of a moment (unix ms).
pub(super) fn day(at: i64) -> i64 {
    at.div_euclid(DAY_MS)
}

/// The key of `word`, which a row of `day` says.
pub(super) fn id(conn: &Connection, word: &str, day: i64) -> Result<i64> {
    let found: Option<(i64, i64)> = conn
        .prepare_cached("SELECT id, last FROM words WHERE word = ?1")
        .and_then(|mut found| found.query_row([word], |row| Ok((row.get(0)?, row.get(1)?))).optional())
        .map_err(sql("reading a word"))?;
    match found {
        Some((id, last)) if last >= day => Ok(id),
        Some((id, _)) => {
            let text = "UPDATE words SET last = ?2 WHERE id = ?1";
            conn.prepare_cached(text)
                .and_then(|mut put| put.execute([id, day]))
                .map_err(sql("noting a word"))?;
            Ok(id)
        }
        None => {
            let text = "INSERT INTO words (word, last) VALUES (?1, ?2)";
            conn.prepare_cached(text)
                .and_then(|mut put| put.insert(params![word, day]))
                .map_err(sql("keeping a word"))
        }
    }
}

/// Forgets the words that nobody says, once every row from before `before` (unix ms) is forgotten.
pub(super) fn prune(conn: &Connection, before: i64) -> Result<()> {
    conn.execute("DELETE FROM words WHERE last < ?1", [day(before)]).map_err(sql("forgetting words"))?;
    Ok(())
}
