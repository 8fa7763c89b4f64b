//! A pack: everything one event added to the history, as one row.

use crate::store::lean::Lean;
use crate::store::{Detail, HistoryRow, Place, Result, StoreError};
use evenkeel_report::{Seq, Status};
use serde::{Deserialize, Serialize};

/// One event's entries. They share its place, its times and its commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// Where they stand.
    pub place: Place,
    /// When, by the node's clock (unix ms).
    pub at: i64,
    /// When they were received, by the hub's clock (unix ms).
    pub got: i64,
    /// The commit in force.
    pub commit: Option<String>,
    /// What changed, each item once.
    pub entries: Vec<Entry>,
}

/// One change in a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The item.
    pub item: String,
    /// Its status word.
    pub status: String,
    /// Whether it says what the entry before it says.
    pub echo: bool,
    /// What is told with it.
    pub detail: Detail,
}

impl Pack {
    /// An empty pack for the event that `row` belongs to.
    #[must_use]
    pub fn of(row: &HistoryRow) -> Self {
        Self { place: row.place, at: row.at, got: row.got, commit: row.commit.clone(), entries: vec![] }
    }

    /// Puts `row` in, over the entry of the same item.
    pub fn put(&mut self, row: &HistoryRow) {
        (self.at, self.got) = (row.at, row.got);
        self.commit.clone_from(&row.commit);
        let entry = Entry {
            item: row.item.clone(),
            status: row.status.clone(),
            echo: row.echo,
            detail: row.detail.clone(),
        };
        match self.entries.iter_mut().find(|one| one.item == row.item) {
            Some(one) => *one = entry,
            None => self.entries.push(entry),
        }
    }

    /// The entry of `item`.
    #[must_use]
    pub fn row(&self, item: &str) -> Option<HistoryRow> {
        self.entries.iter().find(|entry| entry.item == item).map(|entry| self.unpack(entry.clone()))
    }

    /// Every entry, by item.
    #[must_use]
    pub fn rows(mut self) -> Vec<HistoryRow> {
        let mut entries = std::mem::take(&mut self.entries);
        entries.sort_by(|a, b| a.item.cmp(&b.item));
        entries.into_iter().map(|entry| self.unpack(entry)).collect()
    }

    fn unpack(&self, entry: Entry) -> HistoryRow {
        HistoryRow {
            place: self.place,
            item: entry.item,
            status: entry.status,
            detail: entry.detail,
            at: self.at,
            got: self.got,
            commit: self.commit.clone(),
            echo: entry.echo,
        }
    }

    /// Whether it tells of a repair.
    #[must_use]
    pub fn repaired(&self) -> bool {
        self.entries.iter().any(|entry| entry.status == Status::Repaired.word())
    }

    /// The entries as text.
    ///
    /// # Errors
    /// When they do not become JSON.
    pub fn body(&self) -> Result<String> {
        let lean: Vec<_> = self.entries.iter().map(Lean::from).collect();
        serde_json::to_string(&lean).map_err(|source| StoreError::Row { what: "pack", source })
    }

    /// The entries of a text that [`Pack::body`] made.
    ///
    /// # Errors
    /// When it is no such text.
    pub fn entries(body: &str) -> Result<Vec<Entry>> {
        let lean: Vec<Lean> =
            serde_json::from_str(body).map_err(|source| StoreError::Row { what: "pack", source })?;
        Ok(lean.into_iter().map(Entry::from).collect())
    }
}

/// The place as numbers, for a database that has no unsigned ones.
pub(crate) fn numbers(place: Place) -> (i64, i64, i64) {
    let int = |n| i64::try_from(n).unwrap_or(i64::MAX);
    (int(place.seq.epoch), int(place.seq.n), place.sub)
}

/// A place from its numbers.
pub(crate) fn place((epoch, n, sub): (i64, i64, i64)) -> Place {
    let nat = |n| u64::try_from(n).unwrap_or(0);
    Place { seq: Seq { epoch: nat(epoch), n: nat(n) }, sub }
}

/// A pack within another row.
#[derive(Serialize, Deserialize)]
pub(crate) struct PackJson {
    place: (i64, i64, i64),
    at: i64,
    got: i64,
    commit: Option<String>,
    entries: Vec<Lean>,
}

impl From<&Pack> for PackJson {
    fn from(pack: &Pack) -> Self {
        Self {
            place: numbers(pack.place),
            at: pack.at,
            got: pack.got,
            commit: pack.commit.clone(),
            entries: pack.entries.iter().map(Lean::from).collect(),
        }
    }
}

impl From<PackJson> for Pack {
    fn from(json: PackJson) -> Self {
        Self {
            place: place(json.place),
            at: json.at,
            got: json.got,
            commit: json.commit,
            entries: json.entries.into_iter().map(Entry::from).collect(),
        }
    }
}

impl From<&Entry> for Lean {
    fn from(entry: &Entry) -> Self {
        let mut lean = Self::from(entry.detail.clone());
        lean.item.clone_from(&entry.item);
        lean.status.clone_from(&entry.status);
        lean.echo = entry.echo;
        lean
    }
}

impl From<Lean> for Entry {
    fn from(mut lean: Lean) -> Self {
        let (item, status) = (std::mem::take(&mut lean.item), std::mem::take(&mut lean.status));
        Self { item, status, echo: lean.echo, detail: lean.into() }
    }
}
