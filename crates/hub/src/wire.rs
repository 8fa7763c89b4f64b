//! What comes in: a body becomes events, or a problem that names the event and what is wrong with it.
//!
//! Nothing here is trusted and nothing is stored. A body that cannot be read is malformed as a whole; an event
//! that reads and cannot be right is refused alone, so that it does not hold up the others.

use evenkeel_report::{
    Event, HEARTBEAT_V1, Heartbeat, Item, REPORT_CAP, REPORT_V1, Report, Seq, VALUE_CAP, event_id,
};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The most bytes of a body.
pub const BODY_CAP: usize = 1024 * 1024;
/// The most bytes of a name, a source, an id or a label.
const WORD_CAP: usize = 1024;

/// One event of a kind that the hub keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A report.
    Report(Box<Event<Report>>),
    /// A heartbeat.
    Beat(Box<Event<Heartbeat>>),
}

impl Incoming {
    /// Its kind, for the metrics.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Report(_) => Kind::Report,
            Self::Beat(_) => Kind::Heartbeat,
        }
    }

    /// The name of the node that speaks.
    #[must_use]
    pub fn node_name(&self) -> &str {
        match self {
            Self::Report(event) => &event.data.node.name,
            Self::Beat(event) => &event.data.node.name,
        }
    }

    /// Who says it: source, subject, and the node in the data.
    #[must_use]
    pub fn said_by(&self) -> (&str, &str, &evenkeel_report::Node) {
        match self {
            Self::Report(event) => (&event.source, &event.subject, &event.data.node),
            Self::Beat(event) => (&event.source, &event.subject, &event.data.node),
        }
    }
}

/// The kinds of events, as they are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// [`REPORT_V1`].
    Report,
    /// [`HEARTBEAT_V1`].
    Heartbeat,
    /// Anything else.
    Other,
}

/// An event that reads and is not taken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, JsonSchema)]
#[schemars(rename = "RefusedEvent")]
pub struct Refused {
    /// The event's id.
    pub id: String,
    /// Why, for a person.
    pub why: String,
    /// Its kind.
    #[serde(skip)]
    pub kind: Kind,
}

/// A body that reads.
#[derive(Debug, Default)]
pub struct Body {
    /// What is to be kept.
    pub events: Vec<Incoming>,
    /// What is not taken.
    pub refused: Vec<Refused>,
    /// How many were of a type that this hub does not know.
    pub ignored: usize,
}

/// Why a body does not read.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It is neither a JSON array nor a JSON object.
    #[error("the body is no JSON array of events and no event: {why}")]
    Body {
        /// What the parser said.
        why: serde_json::Error,
    },
    /// One event does not read.
    #[error("event {index}{}: {why}", id.as_ref().map(|id| format!(" (id {id:?})")).unwrap_or_default())]
    Event {
        /// Which, from 0.
        index: usize,
        /// Its id, where that much reads.
        id: Option<String>,
        /// What is wrong.
        why: String,
    },
}

/// What every event has, whatever its type.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    specversion: Cow<'a, str>,
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    source: Cow<'a, str>,
    #[serde(borrow)]
    id: Cow<'a, str>,
}

/// Reads a batch or a single event.
///
/// # Errors
/// When something in it does not read; then nothing of it is to be stored.
pub fn parse(body: &[u8]) -> Result<Body, Malformed> {
    let starts = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let malformed = |why| Malformed::Body { why };
    let events: Vec<&RawValue> = if starts == Some(&b'[') {
        serde_json::from_slice(body).map_err(malformed)?
    } else {
        vec![serde_json::from_slice(body).map_err(malformed)?]
    };
    let mut parsed = Body::default();
    for (index, raw) in events.into_iter().enumerate() {
        one(raw.get(), &mut parsed).map_err(|(id, why)| Malformed::Event { index, id, why })?;
    }
    Ok(parsed)
}

fn one(raw: &str, into: &mut Body) -> Result<(), (Option<String>, String)> {
    let envelope: Envelope<'_> = serde_json::from_str(raw).map_err(|why| (None, why.to_string()))?;
    let Envelope { specversion, kind, source, id } = envelope;
    let broken = |why: String| (Some(id.to_string()), why);
    if specversion != "1.0" {
        return Err(broken(format!("specversion is {specversion:?}, this hub reads \"1.0\"")));
    }
    if source.is_empty() || id.is_empty() {
        return Err(broken("`source` and `id` must not be empty".to_owned()));
    }
    let (kind, event, judged) = match kind.as_ref() {
        REPORT_V1 => {
            let event: Event<Report> = serde_json::from_str(raw).map_err(|why| broken(why.to_string()))?;
            let judged = check(&event, &event.data.node.name, event.data.seq, &event.data.state_digest)
                .and_then(|()| check_report(&event));
            (Kind::Report, Incoming::Report(Box::new(event)), judged)
        }
        HEARTBEAT_V1 => {
            let event: Event<Heartbeat> = serde_json::from_str(raw).map_err(|why| broken(why.to_string()))?;
            let judged = check(&event, &event.data.node.name, event.data.seq, &event.data.state_digest);
            (Kind::Heartbeat, Incoming::Beat(Box::new(event)), judged)
        }
        _ => {
            into.ignored += 1;
            return Ok(());
        }
    };
    let judged = if raw.len() > REPORT_CAP {
        Err(format!("it has {} bytes; the most is {REPORT_CAP}", raw.len()))
    } else {
        judged
    };
    match judged {
        Ok(()) => into.events.push(event),
        Err(why) => into.refused.push(Refused { id: id.into_owned(), why, kind }),
    }
    Ok(())
}

fn check<T>(event: &Event<T>, name: &str, seq: Seq, digest: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("`data.node.name` is empty".to_owned());
    }
    if event.subject != name {
        return Err(format!("`subject` {:?} is not `data.node.name` {name:?}", event.subject));
    }
    if [name, &event.source, &event.id].iter().any(|word| word.len() > WORD_CAP) {
        return Err(format!("`source`, `id` and names have at most {WORD_CAP} bytes"));
    }
    if [name, &event.source, &event.id].iter().any(|word| word.contains('\0')) {
        return Err("`source`, `id` and names have no character U+0000".to_owned());
    }
    if i64::try_from(seq.epoch).is_err() || i64::try_from(seq.n).is_err() {
        return Err("`data.seq` has a number above 2^63 - 1".to_owned());
    }
    if !digest.starts_with("sha256:") {
        return Err("`data.state_digest` does not start with \"sha256:\"".to_owned());
    }
    Ok(())
}

fn check_report(event: &Event<Report>) -> Result<(), String> {
    let data = &event.data;
    if event.id != event_id(data.seq) {
        return Err(format!("its id is not its number: `data.seq` says {}", event_id(data.seq)));
    }
    if data.seq.n == 0 {
        return Err("`data.seq.n` is 0; reports count from 1".to_owned());
    }
    let mut ids = std::collections::BTreeSet::new();
    for id in data.items.iter().map(|item| &item.id).chain(&data.gone) {
        if id.is_empty() || id.len() > WORD_CAP {
            return Err(format!("an item's id must have 1 to {WORD_CAP} bytes"));
        }
        if id.contains('\0') {
            return Err("an item's id has no character U+0000".to_owned());
        }
        if !ids.insert(id) {
            return Err(format!("item {id:?} is listed twice"));
        }
    }
    data.items.iter().try_for_each(check_values)
}

fn check_values(item: &Item) -> Result<(), String> {
    let long = |text: &str| text.len() > VALUE_CAP;
    match item.drift.iter().find(|drift| long(&drift.desired) || drift.observed.as_deref().is_some_and(long))
    {
        Some(drift) => {
            Err(format!("item {:?}: a value of {:?} has more than {VALUE_CAP} bytes", item.id, drift.attr))
        }
        None => Ok(()),
    }
}
