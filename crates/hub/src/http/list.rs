//! Nodes as a list for programs: JSON in pages, CSV and NDJSON as a stream that goes through to the end.

use super::api::{NodeJson, encode};
use super::{Hub, Problem};
use crate::liveness::{self, flags};
use crate::roll::{BadFilter, Filter, Line, sync_word};
use crate::store::NodeRow;
use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::unfold;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many nodes a page of JSON has, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MOST: usize = 1000;

/// The parameters of an address.
pub(super) type Params = Query<BTreeMap<String, String>>;

/// What a list is asked for.
pub(super) struct Asked {
    pub(super) filter: Filter,
    pub(super) after: Option<(String, Option<String>)>,
    pub(super) limit: Option<usize>,
    pub(super) format: Option<String>,
}

/// Every parameter that a list of nodes knows.
const KNOWN: [&str; 12] = [
    "tier",
    "liveness",
    "status",
    "sync",
    "even",
    "commit",
    "behind",
    "q",
    "after",
    "after_source",
    "limit",
    "format",
];

impl From<BadFilter> for Problem {
    fn from(why: BadFilter) -> Self {
        Self::new(StatusCode::BAD_REQUEST, why.to_string())
    }
}

impl Asked {
    pub(super) fn read(params: Result<Params, QueryRejection>) -> Result<Self, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
        let Query(params) = params.map_err(|why| bad(why.body_text()))?;
        if let Some(unknown) = params.keys().find(|name| !KNOWN.contains(&name.as_str())) {
            return Err(bad(format!("unknown parameter {unknown:?}; known are: {}", KNOWN.join(", "))));
        }
        let filter = Filter::parse(|name| params.get(name).cloned())?;
        let limit = match params.get("limit").filter(|text| !text.is_empty()) {
            Some(text) => Some(text.parse().map_err(|_| bad(format!("limit {text:?} is no number")))?),
            None => None,
        };
        let after = params.get("after").map(|name| (name.clone(), params.get("after_source").cloned()));
        Ok(Self { filter, after, limit, format: params.get("format").cloned() })
    }

    pub(super) fn after(&self) -> Option<(&str, Option<&str>)> {
        self.after.as_ref().map(|(name, source)| (name.as_str(), source.as_deref()))
    }
}

/// An address with these parameters.
pub(crate) fn address(path: &str, params: &[(&'static str, String)]) -> String {
    let params: Vec<_> = params.iter().map(|(name, value)| format!("{name}={}", encode(value))).collect();
    if params.is_empty() { path.to_owned() } else { format!("{path}?{}", params.join("&")) }
}

/// The address of what comes after `last`.
pub(crate) fn next(path: &str, filter: &Filter, last: &Line, limit: Option<usize>) -> String {
    let mut params = filter.params();
    params.push(("after", last.name.to_string()));
    params.push(("after_source", last.source.to_string()));
    params.extend(limit.map(|limit| ("limit", limit.to_string())));
    address(path, &params)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    Csv,
    Ndjson,
}

fn format(asked: &Asked, headers: &HeaderMap) -> Result<Format, Problem> {
    match asked.format.as_deref() {
        Some("json") => return Ok(Format::Json),
        Some("csv") => return Ok(Format::Csv),
        Some("ndjson") => return Ok(Format::Ndjson),
        Some(other) if !other.is_empty() => {
            let detail = format!("format {other:?} is none of: json, csv, ndjson");
            return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
        }
        _ => {}
    }
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // In the order in which they are named; whoever takes anything gets JSON.
    let first = accept.split(',').find_map(|one| match one.split(';').next().unwrap_or_default().trim() {
        "application/json" | "*/*" => Some(Format::Json),
        "text/csv" => Some(Format::Csv),
        "application/x-ndjson" | "application/ndjson" => Some(Format::Ndjson),
        _ => None,
    });
    Ok(first.unwrap_or(Format::Json))
}

/// A page of nodes, by name.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Nodes")]
pub(super) struct NodesPage {
    /// The nodes of this page.
    nodes: Vec<NodeJson>,
    /// The address of the next page; nothing on the last.
    next: Option<String>,
}

pub(super) async fn nodes(
    State(hub): State<Arc<Hub>>,
    headers: HeaderMap,
    params: Result<Params, QueryRejection>,
) -> Result<Response, Problem> {
    let asked = Asked::read(params)?;
    let format = format(&asked, &headers)?;
    if format != Format::Json {
        return Ok(export(hub, asked, format));
    }
    let limit = asked.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    let page = hub.look(move |look| {
        let picked = look.roll.pick(&asked.filter, asked.after(), limit, look.times);
        let last = picked.lines.last().filter(|_| picked.more);
        let next = last.map(|last| next("/api/v1/nodes", &asked.filter, last, Some(limit)));
        let rows = look.rows(&picked.lines)?;
        Ok(NodesPage { nodes: rows.into_iter().map(|row| NodeJson::new(row, look.times)).collect(), next })
    });
    Ok(Json(page.await?).into_response())
}

/// What is left of an export.
struct Rest {
    hub: Arc<Hub>,
    asked: Asked,
    format: Format,
    /// How many nodes may still come.
    left: usize,
    head: bool,
    done: bool,
}

/// A stream of pieces, each of up to a thousand nodes; memory is the same however many there are.
fn export(hub: Arc<Hub>, asked: Asked, format: Format) -> Response {
    let left = asked.limit.unwrap_or(usize::MAX).max(1);
    let rest = Rest { hub, asked, format, left, head: true, done: false };
    let pieces = unfold(rest, |mut rest| async move {
        if rest.done {
            return None;
        }
        let piece = rest.piece().await.map_err(|problem| std::io::Error::other(problem.detail));
        rest.done |= piece.is_err();
        Some((piece, rest))
    });
    let (kind, name) = match format {
        Format::Csv => ("text/csv; charset=utf-8", "nodes.csv"),
        _ => ("application/x-ndjson", "nodes.ndjson"),
    };
    let disposition = format!("attachment; filename=\"{name}\"");
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, disposition)];
    (headers, Body::from_stream(pieces)).into_response()
}

impl Rest {
    async fn piece(&mut self) -> Result<String, Problem> {
        let (filter, after) = (self.asked.filter.clone(), self.asked.after.clone());
        let (limit, format, head) = (self.left.min(PAGE_MOST), self.format, std::mem::take(&mut self.head));
        let (text, last, more) = self
            .hub
            .look(move |look| {
                let after = after.as_ref().map(|(name, source)| (name.as_str(), source.as_deref()));
                let picked = look.roll.pick(&filter, after, limit, look.times);
                let rows = look.rows(&picked.lines)?;
                let text = match format {
                    Format::Csv => csv_text(rows, look.times, head),
                    _ => rows.into_iter().map(|row| ndjson(&NodeJson::new(row, look.times))).collect(),
                };
                Ok((text, picked.lines.last().cloned(), picked.more))
            })
            .await?;
        self.left = self.left.saturating_sub(limit);
        self.done = !more || self.left == 0;
        self.asked.after = last.map(|line| (line.name.to_string(), Some(line.source.to_string())));
        Ok(text)
    }
}

fn ndjson(node: &NodeJson) -> String {
    serde_json::to_string(node).unwrap_or_default() + "\n"
}

const COLUMNS: [&str; 15] = [
    "name",
    "source",
    "tier",
    "liveness",
    "status",
    "sync",
    "commit",
    "target_commit",
    "last_seen",
    "items",
    "pending",
    "non_compliant",
    "error",
    "flags",
    "agent",
];

fn csv_text(rows: Vec<NodeRow>, times: crate::liveness::HubTimes, head: bool) -> String {
    let mut out = csv::Writer::from_writer(vec![]);
    // Writing to memory does not fail.
    let mut record = |fields: Vec<String>| drop(out.write_record(fields.iter().map(|field| cell(field))));
    if head {
        record(COLUMNS.map(str::to_owned).into());
    }
    for row in rows {
        let (doc, counts) = (&row.doc, &row.doc.counts);
        let alive = liveness::of(doc, times);
        let seen = evenkeel_report::Timestamp::from_unix_ms(doc.last_seen);
        record(vec![
            doc.node.name.clone(),
            row.source.clone(),
            doc.node.tier.clone(),
            liveness::word(alive).to_owned(),
            doc.worst().word().to_owned(),
            sync_word(doc.spec.sync).to_owned(),
            doc.spec.observed_commit.clone().unwrap_or_default(),
            doc.spec.target_commit.clone().unwrap_or_default(),
            seen.map(|seen| seen.to_string()).unwrap_or_default(),
            counts.total().to_string(),
            counts.pending.to_string(),
            counts.non_compliant.to_string(),
            counts.error.to_string(),
            flags(doc, times.now).join(" "),
            doc.agent.version.clone(),
        ]);
    }
    out.into_inner().ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// A spreadsheet takes a cell that begins like this for a formula, and nodes write what they like.
fn cell(text: &str) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text.to_owned() }
}
