//! What is told with a change, as text. One letter for each field and no empty ones, because a fleet keeps millions of
//! them; still JSON, so that a person with a database shell can read it. The legend is in `postgres/schema.rs`.

use super::{Detail, Result, StoreError};
use evenkeel_report::{Change, Drift, Layer, Phase, Timestamp, Writer};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A change with one letter for each field.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Lean {
    /// The item; nothing for the spec, and where the row has it.
    #[serde(rename = "i", default, skip_serializing_if = "String::is_empty")]
    pub(super) item: String,
    /// The status word; nothing where the row has it.
    #[serde(rename = "s", default, skip_serializing_if = "String::is_empty")]
    pub(super) status: String,
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) echo: bool,
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

impl Lean {
    /// What is told with a change, as text.
    ///
    /// # Errors
    /// When it does not become JSON.
    pub(super) fn text(detail: &Detail) -> Result<String> {
        let lean = Self::from(detail.clone());
        serde_json::to_string(&lean).map_err(|source| StoreError::Row { what: "history entry", source })
    }

    /// What [`Lean::text`] made a text of.
    ///
    /// # Errors
    /// When it is no such text.
    pub(super) fn detail(text: &str) -> Result<Detail> {
        let lean: Self =
            serde_json::from_str(text).map_err(|source| StoreError::Row { what: "history entry", source })?;
        Ok(lean.into())
    }
}

impl From<Detail> for Lean {
    fn from(detail: Detail) -> Self {
        let drift = |one: Drift| (one.attr, one.layer, one.observed, one.desired);
        Self {
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
            ..Self::default()
        }
    }
}

impl From<Lean> for Detail {
    fn from(lean: Lean) -> Self {
        let drift = |(attr, layer, observed, desired)| Drift { attr, layer, observed, desired };
        Self {
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
        }
    }
}
