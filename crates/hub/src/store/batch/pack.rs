//! A pack: everything one event added to the history, as one row. Short keys and no empty fields, because a fleet
//! keeps millions of them; still JSON, so that a person with a database shell can read it.

use crate::store::{Detail, HistoryRow, Place, Result, StoreError};
use evenkeel_report::{Change, Drift, Layer, Phase, Seq, Status, Timestamp, Writer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

/// An entry with one letter for each field.
#[derive(Serialize, Deserialize)]
struct Lean {
    /// The item; nothing for the spec.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    item: String,
    #[serde(rename = "s")]
    status: String,
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    echo: bool,
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    #[serde(rename = "r", default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    drift: Vec<LeanDrift>,
    /// `[pid, comm, unit]`.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    writer: Option<(u32, Option<String>, Option<String>)>,
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    declared_at: Option<String>,
    /// Unix ms.
    #[serde(rename = "b", default, skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(rename = "f", default, skip_serializing_if = "BTreeMap::is_empty")]
    facts: BTreeMap<String, String>,
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(rename = "x", default, skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

/// A drift as `[attr, layer, observed, desired]`.
type LeanDrift = (String, Layer, Option<String>, String);

impl From<&Entry> for Lean {
    fn from(entry: &Entry) -> Self {
        let detail = entry.detail.clone();
        let drift = |one: Drift| (one.attr, one.layer, one.observed, one.desired);
        Self {
            item: entry.item.clone(),
            status: entry.status.clone(),
            echo: entry.echo,
            change: detail.change,
            phase: detail.phase,
            reason: detail.reason,
            drift: detail.drift.into_iter().map(drift).collect(),
            writer: detail.writer.map(|who| (who.pid, who.comm, who.unit)),
            declared_at: detail.declared_at,
            since: detail.since.map(Timestamp::unix_ms),
            attempts: Some(detail.attempts).filter(|n| *n != 0),
            facts: detail.facts,
            target: detail.target,
            errors: detail.errors,
        }
    }
}

impl From<Lean> for Entry {
    fn from(lean: Lean) -> Self {
        let drift = |(attr, layer, observed, desired)| Drift { attr, layer, observed, desired };
        let detail = Detail {
            change: lean.change,
            phase: lean.phase,
            reason: lean.reason,
            drift: lean.drift.into_iter().map(drift).collect(),
            writer: lean.writer.map(|(pid, comm, unit)| Writer { pid, comm, unit }),
            declared_at: lean.declared_at,
            since: lean.since.and_then(Timestamp::from_unix_ms),
            attempts: lean.attempts.unwrap_or(0),
            facts: lean.facts,
            target: lean.target,
            errors: lean.errors,
        };
        Self { item: lean.item, status: lean.status, echo: lean.echo, detail }
    }
}
