//! The reading side: a few connections that are lent out, one snapshot per question.

use super::tx::{
    HISTORY, NODE, RawNode, history_row, item_row, node_row, seen, to_history, to_item, to_node,
};
use super::{from_json, int, open_reader, sql};
use crate::store::{GONE, HistoryRow, ItemRow, NodeRow, Place, Ranges, Result, Told, View};
use evenkeel_report::Seq;
use rusqlite::{Connection, OptionalExtension as _, Row, ToSql, params};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How many idle reading connections are kept.
const IDLE: usize = 4;

/// Readers of one file.
#[derive(Debug)]
pub struct SqliteView {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl SqliteView {
    /// Reads the store at `path`, which has been opened for writing before.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let first = open_reader(path)?;
        Ok(Self { path: path.to_owned(), idle: Mutex::new(vec![first]) })
    }

    fn with<T>(&self, ask: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let conn = idle.map_or_else(|| open_reader(&self.path), Ok)?;
        let answer = ask(&conn);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE {
            idle.push(conn);
        }
        answer
    }
}

/// When a node's name was taken out.
const RETIRED: &str = "(SELECT at FROM retired WHERE retired.name = nodes.name)";

/// A row of [`NODE`] and [`RETIRED`].
fn with_retired(row: &Row<'_>) -> rusqlite::Result<(RawNode, Option<i64>)> {
    Ok((node_row(row)?, row.get(3)?))
}

fn whole((raw, retired): (RawNode, Option<i64>)) -> Result<NodeRow> {
    let mut row = to_node(raw)?;
    row.doc.retired = retired;
    Ok(row)
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// Items that tell facts, as in their index.
const FACTS: &str = "SELECT node, id, json_extract(detail, '$.facts') FROM items INDEXED BY items_facts \
                     WHERE json_extract(detail, '$.facts') IS NOT NULL AND status <> ?1";

fn facts(conn: &Connection, text: &str, of: &[&dyn ToSql], with: &mut dyn FnMut(Told)) -> Result<()> {
    let doing = || sql("reading facts");
    let mut found = conn.prepare_cached(text).map_err(doing())?;
    let mut rows = found.query(of).map_err(doing())?;
    while let Some(row) = rows.next().map_err(doing())? {
        let told: rusqlite::Result<(i64, String, String)> =
            (|| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))();
        let (node, id, facts) = told.map_err(doing())?;
        with((node, id, from_json(&facts, "item's facts")?));
    }
    Ok(())
}

impl View for SqliteView {
    fn nodes(&self, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<NodeRow>> {
        let text = format!(
            "SELECT {NODE}, {RETIRED} FROM nodes WHERE (name, source) > (?1, ?2) ORDER BY name, source LIMIT ?3"
        );
        let (name, source) = after.unwrap_or_default();
        let bound = params![name, source, most(limit)];
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<_>> = conn
                .prepare_cached(&text)
                .and_then(|mut found| found.query_map(bound, with_retired)?.collect());
            rows.map_err(sql("reading nodes"))?.into_iter().map(whole).collect()
        })
    }

    fn node(&self, name_or_source: &str) -> Result<Option<NodeRow>> {
        let text = format!(
            "SELECT {NODE}, {RETIRED} FROM nodes WHERE source = ?1 OR name = ?1 \
             ORDER BY source = ?1 DESC, last_seen DESC, source LIMIT 1"
        );
        self.with(|conn| {
            let found = conn
                .prepare_cached(&text)
                .and_then(|mut s| s.query_row([name_or_source], with_retired).optional());
            found.map_err(sql("reading a node"))?.map(whole).transpose()
        })
    }

    fn items(&self, node: i64) -> Result<Vec<(String, ItemRow)>> {
        let text =
            "SELECT id, status, epoch, n, detail FROM items WHERE node = ?1 AND status <> ?2 ORDER BY id";
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<_>> = conn.prepare_cached(text).and_then(|mut found| {
                found.query_map(params![node, GONE], |row| item_row(row, 0))?.collect()
            });
            rows.map_err(sql("reading items"))?.into_iter().map(to_item).collect()
        })
    }

    fn open_items(&self, limit: usize) -> Result<Vec<(i64, String, ItemRow)>> {
        let text = "SELECT node, id, status, epoch, n, detail FROM items \
                    WHERE status IN ('pending', 'non_compliant', 'error') ORDER BY node, id LIMIT ?1";
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<(i64, _)>> = conn.prepare_cached(text).and_then(|mut found| {
                found.query_map([most(limit)], |row| Ok((row.get(0)?, item_row(row, 1)?)))?.collect()
            });
            let rows = rows.map_err(sql("reading open items"))?;
            rows.into_iter().map(|(node, raw)| to_item(raw).map(|(id, item)| (node, id, item))).collect()
        })
    }

    fn facts(&self, with: &mut dyn FnMut(Told)) -> Result<()> {
        let text = format!("{FACTS} ORDER BY node, id");
        self.with(|conn| facts(conn, &text, params![GONE], with))
    }

    fn facts_of(&self, nodes: &[i64], with: &mut dyn FnMut(Told)) -> Result<()> {
        let text = format!("{FACTS} AND node = ?2 ORDER BY node, id");
        self.with(|conn| nodes.iter().try_for_each(|node| facts(conn, &text, params![GONE, node], with)))
    }

    fn timeline(&self, node: i64, before: Option<(Place, &str)>, limit: usize) -> Result<Vec<HistoryRow>> {
        let text = format!(
            "SELECT {HISTORY} FROM entries WHERE node = ?1 AND echo = 0 \
             AND (epoch, n, sub, item) < (?2, ?3, ?4, ?5) \
             ORDER BY epoch DESC, n DESC, sub DESC, item DESC LIMIT ?6"
        );
        // No entry has an epoch this large and an item after it: the start is the end of everything.
        let end = Place { seq: Seq { epoch: u64::MAX, n: u64::MAX }, sub: i64::MAX };
        let (place, item) = before.unwrap_or((end, ""));
        let bound = params![node, int(place.seq.epoch), int(place.seq.n), place.sub, item, most(limit)];
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<_>> = conn
                .prepare_cached(&text)
                .and_then(|mut found| found.query_map(bound, |row| history_row(row, 0))?.collect());
            rows.map_err(sql("reading a timeline"))?.into_iter().map(to_history).collect()
        })
    }

    fn repairs(&self, limit: usize) -> Result<Vec<(i64, HistoryRow)>> {
        let text = format!(
            "SELECT node, {HISTORY} FROM entries WHERE status = 'repaired' ORDER BY got DESC, at DESC LIMIT ?1"
        );
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<(i64, _)>> = conn.prepare_cached(&text).and_then(|mut found| {
                found.query_map([most(limit)], |row| Ok((row.get(0)?, history_row(row, 1)?)))?.collect()
            });
            let rows = rows.map_err(sql("reading repairs"))?;
            rows.into_iter().map(|(node, raw)| Ok((node, to_history(raw)?))).collect()
        })
    }

    fn seen(&self, node: i64, epoch: u64) -> Result<Ranges> {
        self.with(|conn| seen(conn, node, epoch))
    }

    fn these(&self, keys: &[i64]) -> Result<Vec<NodeRow>> {
        let text = format!("SELECT {NODE}, {RETIRED} FROM nodes WHERE id = ?1");
        self.with(|conn| {
            let mut found = conn.prepare_cached(&text).map_err(sql("reading nodes"))?;
            let mut row =
                |key: &i64| found.query_row([key], with_retired).optional().map_err(sql("reading nodes"));
            keys.iter().filter_map(|key| row(key).transpose()).map(|row| whole(row?)).collect()
        })
    }

    fn between(&self, from: i64, to: i64, limit: usize) -> Result<Vec<(i64, HistoryRow)>> {
        let text = format!(
            "SELECT node, {HISTORY} FROM entries WHERE got >= ?1 AND got < ?2 AND echo = 0 \
             ORDER BY got DESC LIMIT ?3"
        );
        self.with(|conn| {
            let bound = params![from, to, most(limit)];
            let rows: rusqlite::Result<Vec<(i64, _)>> = conn.prepare_cached(&text).and_then(|mut found| {
                found.query_map(bound, |row| Ok((row.get(0)?, history_row(row, 1)?)))?.collect()
            });
            let rows = rows.map_err(sql("reading a span of time"))?;
            rows.into_iter().map(|(node, raw)| Ok((node, to_history(raw)?))).collect()
        })
    }

    fn taken(&self, commit: &str) -> Result<Vec<(i64, i64)>> {
        let text = "SELECT node, min(got) FROM history INDEXED BY history_taken \
                    WHERE item = 0 AND status = 'in_force' \
                    AND commit_id = (SELECT id FROM words WHERE word = ?1) GROUP BY node";
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<(i64, i64)>> = conn.prepare_cached(text).and_then(|mut found| {
                found.query_map([commit], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            });
            rows.map_err(sql("reading who took a commit"))
        })
    }

    fn retired(&self) -> Result<Vec<(String, i64)>> {
        self.with(|conn| {
            let rows: rusqlite::Result<Vec<(String, i64)>> = conn
                .prepare_cached("SELECT name, at FROM retired")
                .and_then(|mut found| found.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect());
            rows.map_err(sql("reading who was taken out"))
        })
    }

    fn heard(&self, since: i64) -> Result<Vec<(i64, i64)>> {
        self.with(|conn| {
            let text = "SELECT id, last_seen FROM nodes WHERE last_seen >= ?1";
            let rows: rusqlite::Result<Vec<(i64, i64)>> = conn.prepare_cached(text).and_then(|mut found| {
                found.query_map([since], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            });
            rows.map_err(sql("reading who was heard of"))
        })
    }
}
