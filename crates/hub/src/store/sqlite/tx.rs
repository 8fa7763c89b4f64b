//! One transaction's statements.

use super::{from_json, int, json, nat, sql, words};
use crate::store::lean::Lean;
use crate::store::telling::News;
use crate::store::{GONE, HistoryRow, ItemRow, NodeDoc, NodeRow, Place, Ranges, Result, Tx};
use evenkeel_report::{Seq, Status};
use rusqlite::{Connection, OptionalExtension as _, Params, Row, params};
use std::collections::BTreeMap;

/// Reads and writes on the connection that holds the transaction.
pub(super) struct SqliteTx<'a>(pub(super) &'a Connection);

impl SqliteTx<'_> {
    fn run(&self, doing: &'static str, text: &str, params: impl Params) -> Result<()> {
        let done = self.0.prepare_cached(text).and_then(|mut statement| statement.execute(params));
        done.map(|_| ()).map_err(sql(doing))
    }
}

pub(super) const NODE: &str = "id, source, doc";
/// Of the view `entries`.
pub(super) const HISTORY: &str = "epoch, n, sub, item, status, at, got, echo, commit_word, body";

/// The word `?2`.
const WORD: &str = "(SELECT id FROM words WHERE word = ?2)";

/// A node's row as SQLite has it: key, source, document.
pub(super) type RawNode = (i64, String, String);

/// A row of [`NODE`].
pub(super) fn node_row(row: &Row<'_>) -> rusqlite::Result<RawNode> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?))
}

pub(super) fn to_node((key, source, doc): RawNode) -> Result<NodeRow> {
    Ok(NodeRow { key, source, doc: from_json(&doc, "node")? })
}

/// An item's row as SQLite has it: id, status, epoch, n, detail.
pub(super) type RawItem = (String, String, i64, i64, String);

pub(super) fn item_row(row: &Row<'_>, first: usize) -> rusqlite::Result<RawItem> {
    Ok((row.get(first)?, row.get(first + 1)?, row.get(first + 2)?, row.get(first + 3)?, row.get(first + 4)?))
}

pub(super) fn to_item((id, status, epoch, n, detail): RawItem) -> Result<(String, ItemRow)> {
    let seq = Seq { epoch: nat(epoch), n: nat(n) };
    let status =
        if status == GONE { None } else { Some(from_json::<Status>(&format!("\"{status}\""), "status")?) };
    Ok((id, ItemRow { status, detail: from_json(&detail, "item")?, seq }))
}

/// A row of [`HISTORY`], which starts at column `first`; the detail is still text.
pub(super) fn history_row(row: &Row<'_>, first: usize) -> rusqlite::Result<(HistoryRow, String)> {
    let seq = Seq { epoch: nat(row.get(first)?), n: nat(row.get(first + 1)?) };
    let entry = HistoryRow {
        place: Place { seq, sub: row.get(first + 2)? },
        item: row.get(first + 3)?,
        status: row.get(first + 4)?,
        detail: crate::store::Detail::default(),
        at: row.get(first + 5)?,
        got: row.get(first + 6)?,
        commit: row.get(first + 8)?,
        echo: row.get(first + 7)?,
    };
    Ok((entry, row.get(first + 9)?))
}

pub(super) fn to_history((mut entry, body): (HistoryRow, String)) -> Result<HistoryRow> {
    entry.detail = Lean::detail(&body)?;
    Ok(entry)
}

impl SqliteTx<'_> {
    fn neighbour(&self, text: &str, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        let bound = params![node, item, int(place.seq.epoch), int(place.seq.n), place.sub];
        let found = self
            .0
            .prepare_cached(text)
            .and_then(|mut found| found.query_row(bound, |row| history_row(row, 0)).optional())
            .map_err(sql("reading the history"))?;
        found.map(to_history).transpose()
    }
}

impl Tx for SqliteTx<'_> {
    fn node(&mut self, source: &str) -> Result<Option<NodeRow>> {
        let text = format!("SELECT {NODE} FROM nodes WHERE source = ?1");
        let found = self.0.prepare_cached(&text).and_then(|mut s| s.query_row([source], node_row).optional());
        found.map_err(sql("reading a node"))?.map(to_node).transpose()
    }

    fn add_node(&mut self, source: &str, doc: &NodeDoc) -> Result<i64> {
        let text = "INSERT INTO nodes (source, name, tier, last_seen, doc) VALUES (?1, ?2, ?3, ?4, ?5)";
        let bound = params![source, doc.node.name, doc.node.tier, doc.last_seen, json(doc, "node")?];
        self.run("adding a node", text, bound)?;
        Ok(self.0.last_insert_rowid())
    }

    fn put_node(&mut self, node: i64, doc: &NodeDoc) -> Result<()> {
        let text = "UPDATE nodes SET name = ?2, tier = ?3, last_seen = ?4, doc = ?5 WHERE id = ?1";
        let bound = params![node, doc.node.name, doc.node.tier, doc.last_seen, json(doc, "node")?];
        self.run("writing a node", text, bound)
    }

    fn seen(&mut self, node: i64, epoch: u64) -> Result<Ranges> {
        seen(self.0, node, epoch)
    }

    fn put_seen(&mut self, node: i64, epoch: u64, drop: &[u64], put: (u64, u64), got: i64) -> Result<()> {
        for lo in drop {
            let text = "DELETE FROM seen WHERE node = ?1 AND epoch = ?2 AND lo = ?3";
            self.run("joining runs of numbers", text, params![node, int(epoch), int(*lo)])?;
        }
        let text = "INSERT INTO seen (node, epoch, lo, hi, got) VALUES (?1, ?2, ?3, ?4, ?5)";
        self.run("noting a number", text, params![node, int(epoch), int(put.0), int(put.1), got])
    }

    fn items(&mut self, node: i64) -> Result<BTreeMap<String, ItemRow>> {
        let text = "SELECT id, status, epoch, n, detail FROM items WHERE node = ?1";
        let rows: rusqlite::Result<Vec<_>> = self
            .0
            .prepare_cached(text)
            .and_then(|mut found| found.query_map([node], |row| item_row(row, 0))?.collect());
        rows.map_err(sql("reading items"))?.into_iter().map(to_item).collect()
    }

    fn put_item(&mut self, node: i64, id: &str, item: &ItemRow) -> Result<()> {
        let text = "INSERT INTO items (node, id, status, epoch, n, detail) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                    ON CONFLICT (node, id) DO UPDATE SET status = excluded.status, epoch = excluded.epoch, \
                    n = excluded.n, detail = excluded.detail";
        let status = item.status.map_or(GONE, Status::word);
        let detail = json(&item.detail, "item")?;
        let bound = params![node, id, status, int(item.seq.epoch), int(item.seq.n), detail];
        self.run("writing an item", text, bound)
    }

    fn drop_item(&mut self, node: i64, id: &str) -> Result<()> {
        self.run("forgetting an item", "DELETE FROM items WHERE node = ?1 AND id = ?2", params![node, id])
    }

    fn before(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        let text = format!(
            "SELECT {HISTORY} FROM entries WHERE node = ?1 AND item_id = {WORD} AND sub >= 0 \
             AND (epoch, n, sub) < (?3, ?4, ?5) \
             ORDER BY epoch DESC, n DESC, sub DESC LIMIT 1"
        );
        self.neighbour(&text, node, item, place)
    }

    fn after(&mut self, node: i64, item: &str, place: Place) -> Result<Option<HistoryRow>> {
        let text = format!(
            "SELECT {HISTORY} FROM entries WHERE node = ?1 AND item_id = {WORD} AND sub >= 0 \
             AND (epoch, n, sub) > (?3, ?4, ?5) \
             ORDER BY epoch, n, sub LIMIT 1"
        );
        self.neighbour(&text, node, item, place)
    }

    fn put_history(&mut self, node: i64, row: &HistoryRow) -> Result<()> {
        let text = "INSERT OR REPLACE INTO history \
                    (node, item, epoch, n, sub, status, at, got, echo, commit_id, body) \
                    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let day = words::day(row.got);
        let item = words::id(self.0, &row.item, day)?;
        let commit = row.commit.as_deref().map(|commit| words::id(self.0, commit, day)).transpose()?;
        let (seq, sub) = (row.place.seq, row.place.sub);
        let (epoch, n, body) = (int(seq.epoch), int(seq.n), Lean::text(&row.detail)?);
        let bound = params![node, item, epoch, n, sub, row.status, row.at, row.got, row.echo, commit, body];
        self.run("writing the history", text, bound)
    }

    fn tell(&mut self, _: i64, news: &News) -> Result<()> {
        let text = "INSERT INTO news (due, subject, body) VALUES (0, ?1, ?2)";
        self.run("noting news", text, params![news.subject(), json(news, "news")?])
    }

    fn drop_echoes(&mut self, node: i64, epoch: u64, lo: u64, hi: u64) -> Result<()> {
        let text = "DELETE FROM history WHERE node = ?1 AND epoch = ?2 AND n >= ?3 AND n <= ?4 AND echo = 1";
        self.run("dropping echoes", text, params![node, int(epoch), int(lo), int(hi)])
    }
}

pub(super) fn seen(conn: &Connection, node: i64, epoch: u64) -> Result<Ranges> {
    let text = "SELECT lo, hi FROM seen WHERE node = ?1 AND epoch = ?2";
    let runs: rusqlite::Result<Vec<(i64, i64)>> = conn.prepare_cached(text).and_then(|mut found| {
        found.query_map(params![node, int(epoch)], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
    });
    let runs = runs.map_err(sql("reading which reports came"))?;
    Ok(Ranges::new(runs.into_iter().map(|(lo, hi)| (nat(lo), nat(hi))).collect()))
}
