//! What is told about a node: status words, drift, reports, heartbeats and the digest that proves silence.
//!
//! Types only: nothing here reads a clock, a file or a socket. The agent fills these in, the hub reads them,
//! and `docs/report.md` describes the same wire for anybody else.

mod digest;
mod event;
mod item;
mod node;
mod status;

pub use digest::state_digest;
pub use event::{Event, HEARTBEAT_V1, REPORT_V1, event_id};
pub use item::{Drift, Item, Layer, Writer};
pub use node::{Agent, Heartbeat, Node, Pass, Report, Scope, Seq, SpecState, Spool, Trigger};
pub use status::{Change, Counts, Liveness, Mode, Phase, Status, Sync};

use serde::{Deserialize, Serialize};

/// The most bytes a report may have on the wire, before compression; above it items are cut and `truncated` is set.
pub const REPORT_CAP: usize = 256 * 1024;
/// The most bytes one observed or desired value may have; longer ones are cut.
pub const VALUE_CAP: usize = 4 * 1024;

/// A moment in UTC, told to the millisecond (RFC 3339).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(#[serde(with = "time::serde::rfc3339")] time::OffsetDateTime);

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "format": "date-time",
            "description": "A moment in UTC, told to the millisecond (RFC 3339)."
        })
    }
}

impl Timestamp {
    /// The moment `at`, cut to whole milliseconds and told in UTC.
    #[must_use]
    pub fn new(at: time::OffsetDateTime) -> Self {
        let at = at.to_offset(time::UtcOffset::UTC);
        let whole = at.replace_nanosecond(at.nanosecond() / 1_000_000 * 1_000_000);
        Self(whole.unwrap_or(at))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn unix_ms(self) -> i64 {
        i64::try_from(self.0.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
    }

    /// The moment `ms` milliseconds after 1970-01-01T00:00:00Z; `None` outside of years 1 to 9999.
    #[must_use]
    pub fn from_unix_ms(ms: i64) -> Option<Self> {
        time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok().map(Self)
    }

    /// The same moment as a date with time.
    #[must_use]
    pub fn get(self) -> time::OffsetDateTime {
        self.0
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = self.0.format(&time::format_description::well_known::Rfc3339);
        f.write_str(&text.map_err(|_| std::fmt::Error)?)
    }
}

impl std::str::FromStr for Timestamp {
    type Err = time::error::Parse;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).map(Self::new)
    }
}

/// `text` cut to at most `cap` bytes, at a character's edge.
#[must_use]
pub fn cut(text: &str, cap: usize) -> &str {
    &text[..text.floor_char_boundary(cap)]
}
