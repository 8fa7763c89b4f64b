//! Rows as the columns have them.

use crate::store::{Beat, GONE, ItemRow, NodeDoc, Result, StoreError, Voice};
use evenkeel_report::{Seq, Status};
use tokio_postgres::Row;

/// What every heartbeat changes of a node; kept apart from the rest, which is wide.
#[derive(Debug, Default)]
pub(super) struct Said {
    voice: Voice,
    beat: Option<Beat>,
    age_s: Option<u64>,
}

impl Said {
    /// That part of a node.
    pub(super) fn of(doc: &NodeDoc) -> Self {
        Self { voice: doc.voice, beat: doc.beat.clone(), age_s: doc.spec.age_s }
    }

    /// As text.
    pub(super) fn text(&self) -> Result<String> {
        json(&(&self.voice, &self.beat, self.age_s), "pulse")
    }

    /// From its text; nothing was said yet where it is empty.
    pub(super) fn read(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let (voice, beat, age_s) = from_json(text, "pulse")?;
        Ok(Self { voice, beat, age_s })
    }

    /// The whole node again.
    pub(super) fn onto(self, doc: &str, last_seen: i64) -> Result<NodeDoc> {
        let mut doc = NodeDoc { last_seen, voice: self.voice, beat: self.beat, ..from_json(doc, "node")? };
        doc.spec.age_s = self.age_s;
        Ok(doc)
    }
}

/// The rest of a node, as text.
pub(super) fn rest(doc: &NodeDoc) -> Result<String> {
    let mut doc = NodeDoc { last_seen: 0, voice: Voice::default(), beat: None, ..doc.clone() };
    doc.spec.age_s = None;
    json(&doc, "node")
}

/// `id, status, epoch, n, detail`, which start at column `first`.
pub(super) fn item(row: &Row, first: usize) -> Result<(String, ItemRow)> {
    let status: &str = row.get(first + 1);
    let status =
        if status == GONE { None } else { Some(from_json::<Status>(&format!("\"{status}\""), "status")?) };
    let nat = |at: usize| u64::try_from(row.get::<_, i64>(at)).unwrap_or(0);
    let seq = Seq { epoch: nat(first + 2), n: nat(first + 3) };
    Ok((row.get(first), ItemRow { status, detail: from_json(row.get(first + 4), "item")?, seq }))
}

pub(super) fn json<T: serde::Serialize>(value: &T, what: &'static str) -> Result<String> {
    serde_json::to_string(value).map_err(|source| StoreError::Row { what, source })
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|source| StoreError::Row { what, source })
}
