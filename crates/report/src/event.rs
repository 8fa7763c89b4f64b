//! The envelope: CloudEvents 1.0, structured JSON.

use crate::{Seq, Timestamp};
use serde::{Deserialize, Serialize};

/// The type of a report's event.
pub const REPORT_V1: &str = "dev.evenkeel.report.v1";
/// The type of a heartbeat's event.
pub const HEARTBEAT_V1: &str = "dev.evenkeel.heartbeat.v1";

/// One CloudEvent. `source` and `id` together are the idempotency key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event<T> {
    /// Always `1.0`.
    pub specversion: String,
    /// What `data` is.
    #[serde(rename = "type")]
    pub kind: String,
    /// `urn:uuid:…`, the node's own.
    pub source: String,
    /// `epoch:n`.
    pub id: String,
    /// The node's name.
    pub subject: String,
    /// When it was made.
    pub time: Timestamp,
    /// Always `application/json`.
    pub datacontenttype: String,
    /// What is told.
    pub data: T,
}

impl<T> Event<T> {
    /// An event of type `kind` around `data`.
    pub fn new(kind: &str, source: &str, id: String, subject: &str, time: Timestamp, data: T) -> Self {
        Self {
            specversion: "1.0".to_owned(),
            kind: kind.to_owned(),
            source: source.to_owned(),
            id,
            subject: subject.to_owned(),
            time,
            datacontenttype: "application/json".to_owned(),
            data,
        }
    }
}

/// `epoch:n`, a report's id on the wire.
#[must_use]
pub fn event_id(seq: Seq) -> String {
    format!("{}:{}", seq.epoch, seq.n)
}
