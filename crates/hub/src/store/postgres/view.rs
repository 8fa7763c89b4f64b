//! The reading side: a few connections that are lent out, one statement per question.

use super::Address;
use super::desk::Desk;
use super::ground::pack;
use super::rows::{self, Said};
use crate::store::batch::{self, Pack, numbers};
use crate::store::{HistoryRow, ItemRow, NodeRow, Place, Ranges, Result, Told, View};
use evenkeel_report::Status;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// How many connections read at once.
const READERS: usize = 4;
/// How many packs of a timeline are read at once.
const CHUNK: usize = 200;
/// How many items' facts are read at once.
const FACTS: usize = 20_000;
/// What reads a whole table reads beside somebody who waits: it is not to take every core.
const READER: &str = "SET default_transaction_read_only = on; SET max_parallel_workers_per_gather = 0";

/// Readers of one database.
#[derive(Debug)]
pub struct PgView {
    desk: Desk,
}

fn node_row(row: &Row) -> Result<NodeRow> {
    let mut doc = Said::read(row.get(4))?.onto(row.get(2), row.get(3))?;
    doc.retired = row.get(5);
    Ok(NodeRow { key: row.get(0), source: row.get(1), doc })
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl PgView {
    /// Reads the store at `address`, which has been opened for writing before.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self { desk: Desk::new(address, READER, READERS) }
    }

    fn rows(
        &self,
        doing: &'static str,
        text: &'static str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        self.desk.rows(doing, text, with)
    }

    fn packs(&self, node: i64, below: (i64, i64, i64), limit: usize) -> Result<Vec<Pack>> {
        let text = "SELECT epoch, n, sub, at, got, commit_id, body FROM history \
                    WHERE node = $1 AND (epoch, n, sub) < ($2, $3, $4) \
                    ORDER BY epoch DESC, n DESC, sub DESC LIMIT $5";
        let (epoch, n, sub) = below;
        let rows = self.rows("reading a timeline", text, &[&node, &epoch, &n, &sub, &most(limit)])?;
        rows.iter().map(|row| pack(row, 0)).collect()
    }
}

impl View for PgView {
    fn nodes(&self, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<NodeRow>> {
        let text = "SELECT n.id, n.source, n.doc, p.last_seen, p.said, r.at FROM nodes n JOIN pulses p ON p.node = n.id \
                    LEFT JOIN retired r ON r.name = n.name WHERE (n.name, n.source) > ($1, $2) ORDER BY n.name, n.source LIMIT $3";
        let (name, source) = after.unwrap_or_default();
        self.rows("reading nodes", text, &[&name, &source, &most(limit)])?.iter().map(node_row).collect()
    }

    fn node(&self, name_or_source: &str) -> Result<Option<NodeRow>> {
        let text = "SELECT n.id, n.source, n.doc, p.last_seen, p.said, r.at FROM nodes n JOIN pulses p ON p.node = n.id \
                    LEFT JOIN retired r ON r.name = n.name WHERE n.source = $1 OR n.name = $1 ORDER BY n.source = $1 DESC, p.last_seen DESC, n.source LIMIT 1";
        self.rows("reading a node", text, &[&name_or_source])?.first().map(node_row).transpose()
    }

    fn items(&self, node: i64) -> Result<Vec<(String, ItemRow)>> {
        let text =
            "SELECT id, status, epoch, n, detail FROM items WHERE node = $1 AND status <> 'gone' ORDER BY id";
        self.rows("reading items", text, &[&node])?.iter().map(|row| rows::item(row, 0)).collect()
    }

    fn open_items(&self, limit: usize) -> Result<Vec<(i64, String, ItemRow)>> {
        let text = "SELECT node, id, status, epoch, n, detail FROM items \
                    WHERE status IN ('pending', 'non_compliant', 'error') ORDER BY node, id LIMIT $1";
        let rows = self.rows("reading open items", text, &[&most(limit)])?;
        rows.iter().map(|row| rows::item(row, 1).map(|(id, item)| (row.get(0), id, item))).collect()
    }

    fn facts(&self, with: &mut dyn FnMut(Told)) -> Result<()> {
        let text = "SELECT node, id, status, epoch, n, detail FROM items \
                    WHERE detail LIKE '%\"facts\":{\"%' AND status <> 'gone' AND (node, id) > ($1, $2) \
                    ORDER BY node, id LIMIT $3";
        let (mut after, limit) = ((i64::MIN, String::new()), most(FACTS));
        loop {
            let rows = self.rows("reading facts", text, &[&after.0, &after.1, &limit])?;
            for row in &rows {
                let (id, item) = rows::item(row, 1)?;
                after = (row.get(0), id.clone());
                with((after.0, id, item.detail.facts));
            }
            if rows.len() < FACTS {
                return Ok(());
            }
        }
    }

    fn facts_of(&self, nodes: &[i64], with: &mut dyn FnMut(Told)) -> Result<()> {
        let text = "SELECT node, id, status, epoch, n, detail FROM items WHERE node = ANY($1) \
                    AND detail LIKE '%\"facts\":{\"%' AND status <> 'gone' ORDER BY node, id";
        for row in self.rows("reading facts", text, &[&nodes])? {
            let (id, item) = rows::item(&row, 1)?;
            with((row.get(0), id, item.detail.facts));
        }
        Ok(())
    }

    fn timeline(&self, node: i64, before: Option<(Place, &str)>, limit: usize) -> Result<Vec<HistoryRow>> {
        let mut below = (i64::MAX, i64::MAX, i64::MAX);
        if let Some((place, _)) = before {
            // What is left of that event's own entries comes first.
            let (epoch, n, sub) = numbers(place);
            below = (epoch, n, sub.saturating_add(1));
        }
        let mut found = vec![];
        loop {
            let packs = self.packs(node, below, CHUNK)?;
            let last = packs.len() < CHUNK;
            if let Some(pack) = packs.last() {
                below = numbers(pack.place);
            }
            let rows =
                packs.into_iter().flat_map(|pack| pack.rows().into_iter().rev()).filter(|row| !row.echo);
            found.extend(
                rows.filter(|row| before.is_none_or(|before| (row.place, row.item.as_str()) < before)),
            );
            if last || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
        }
    }

    fn repairs(&self, limit: usize) -> Result<Vec<(i64, HistoryRow)>> {
        let text = "SELECT node, epoch, n, sub, at, got, commit_id, body FROM history \
                    WHERE repaired ORDER BY got DESC, at DESC LIMIT $1";
        let mut found = vec![];
        for row in self.rows("reading repairs", text, &[&most(limit)])? {
            let rows = pack(&row, 1)?.rows().into_iter().filter(|one| one.status == Status::Repaired.word());
            found.extend(rows.map(|one| (row.get(0), one)));
        }
        found.truncate(limit);
        Ok(found)
    }

    fn seen(&self, node: i64, epoch: u64) -> Result<Ranges> {
        let rows =
            self.rows("reading which reports came", "SELECT told FROM nodes WHERE id = $1", &[&node])?;
        let told: Option<batch::Told> =
            rows.first().map(|row| rows::from_json(row.get(0), "node")).transpose()?;
        Ok(told.unwrap_or_default().ranges(epoch))
    }

    fn these(&self, keys: &[i64]) -> Result<Vec<NodeRow>> {
        let text = "SELECT n.id, n.source, n.doc, p.last_seen, p.said, r.at FROM nodes n JOIN pulses p ON p.node = n.id \
                    LEFT JOIN retired r ON r.name = n.name WHERE n.id = ANY($1)";
        self.rows("reading nodes", text, &[&keys])?.iter().map(node_row).collect()
    }

    fn between(&self, from: i64, to: i64, limit: usize) -> Result<Vec<(i64, HistoryRow)>> {
        let text = "SELECT node, epoch, n, sub, at, got, commit_id, body FROM history \
                    WHERE got >= $1 AND got < $2 ORDER BY got DESC LIMIT $3";
        let mut found = vec![];
        for row in self.rows("reading a span of time", text, &[&from, &to, &most(limit)])? {
            let rows = pack(&row, 1)?.rows().into_iter().filter(|one| !one.echo);
            found.extend(rows.map(|one| (row.get(0), one)));
        }
        found.truncate(limit);
        Ok(found)
    }

    fn taken(&self, commit: &str) -> Result<Vec<(i64, i64)>> {
        // As in the index: a pack's entry of the spec is the one that has no item.
        let text = "SELECT node, min(got) FROM history \
                    WHERE commit_id = $1 AND body LIKE '%{\"s\":\"in_force\"%' GROUP BY node";
        let rows = self.rows("reading who took a commit", text, &[&commit])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn retired(&self) -> Result<Vec<(String, i64)>> {
        let rows = self.rows("reading who was taken out", "SELECT name, at FROM retired", &[])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }

    fn shared(&self) -> bool {
        true
    }

    fn heard(&self, since: i64) -> Result<Vec<(i64, i64)>> {
        let text = "SELECT node, last_seen FROM pulses WHERE last_seen >= $1";
        let rows = self.rows("reading who was heard of", text, &[&since])?;
        Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
    }
}
