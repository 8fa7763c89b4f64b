//! The reading side: a few connections that are lent out, one statement per question.

use super::Address;
use super::ground::pack;
use super::link::{Asker, Link};
use super::rows::{self, Said};
use crate::store::batch::{Pack, Told, numbers};
use crate::store::{HistoryRow, ItemRow, NodeRow, Place, Ranges, Result, StoreError, View};
use evenkeel_report::Status;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row};

/// How many connections read at once.
const READERS: usize = 4;
/// How long a question waits for one of them.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many packs of a timeline are read at once.
const CHUNK: usize = 200;
const READER: &str = "SET default_transaction_read_only = on";

/// Readers of one database.
#[derive(Debug)]
pub struct PgView {
    address: Address,
    desk: Mutex<Desk>,
    back: Condvar,
}

#[derive(Debug, Default)]
struct Desk {
    idle: Vec<Link>,
    lent: usize,
}

fn node_row(row: &Row) -> Result<NodeRow> {
    let doc = Said::read(row.get(4))?.onto(row.get(2), row.get(3))?;
    Ok(NodeRow { key: row.get(0), source: row.get(1), doc })
}

fn most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

impl PgView {
    /// Reads the store at `address`, which has been opened for writing before.
    #[must_use]
    pub fn new(address: &Address) -> Self {
        Self { address: address.clone(), desk: Mutex::default(), back: Condvar::new() }
    }

    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection, or nothing where a new one may be made.
    fn borrow(&self) -> Result<Option<Link>> {
        let full = |desk: &mut Desk| desk.lent >= READERS;
        let (mut desk, waited) =
            self.back.wait_timeout_while(self.desk(), PATIENCE, full).unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() && desk.lent >= READERS {
            let source = "every connection that reads is busy".into();
            return Err(StoreError::Away { doing: "reading", place: self.address.place(), source });
        }
        desk.lent += 1;
        Ok(desk.idle.pop())
    }

    fn give_back(&self, link: Option<Link>) {
        let mut desk = self.desk();
        desk.lent -= 1;
        desk.idle.extend(link.filter(|link| !link.broken()));
        self.back.notify_one();
    }

    fn rows(
        &self,
        doing: &'static str,
        text: &'static str,
        with: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>> {
        let idle = self.borrow()?.filter(|link| !link.broken());
        let (link, answer) = self.try_on(idle, doing, text, with);
        let (link, answer) = match (link, answer) {
            // It was lost while it lay idle.
            (Some((_, true)), Err(StoreError::Away { .. })) => self.try_on(None, doing, text, with),
            other => other,
        };
        let away = matches!(answer, Err(StoreError::Away { .. }));
        self.give_back(link.map(|(link, _)| link).filter(|_| !away));
        answer
    }

    /// The connection that was used, and whether it was an old one.
    fn try_on(
        &self,
        idle: Option<Link>,
        doing: &'static str,
        text: &'static str,
        with: &[&(dyn ToSql + Sync)],
    ) -> (Option<(Link, bool)>, Result<Vec<Row>>) {
        let old = idle.is_some();
        let link = match idle.map_or_else(|| Link::open(&self.address, READER), Ok) {
            Ok(link) => link,
            Err(why) => return (None, Err(why)),
        };
        let answer = link.tell(doing, |it| ask(it, text, with));
        (Some((link, old)), answer)
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

async fn ask(
    it: Asker<'_>,
    text: &'static str,
    with: &[&(dyn ToSql + Sync)],
) -> std::result::Result<Vec<Row>, Error> {
    let statement = it.prepared(text).await?;
    it.client.query(&statement, with).await
}

impl View for PgView {
    fn nodes(&self, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<NodeRow>> {
        let text = "SELECT n.id, n.source, n.doc, p.last_seen, p.said FROM nodes n JOIN pulses p ON p.node = n.id \
                    WHERE (n.name, n.source) > ($1, $2) ORDER BY n.name, n.source LIMIT $3";
        let (name, source) = after.unwrap_or_default();
        self.rows("reading nodes", text, &[&name, &source, &most(limit)])?.iter().map(node_row).collect()
    }

    fn node(&self, name_or_source: &str) -> Result<Option<NodeRow>> {
        let text = "SELECT n.id, n.source, n.doc, p.last_seen, p.said FROM nodes n JOIN pulses p ON p.node = n.id \
                    WHERE n.source = $1 OR n.name = $1 ORDER BY n.source = $1 DESC, p.last_seen DESC, n.source LIMIT 1";
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
        let told: Option<Told> = rows.first().map(|row| rows::from_json(row.get(0), "node")).transpose()?;
        Ok(told.unwrap_or_default().ranges(epoch))
    }
}
