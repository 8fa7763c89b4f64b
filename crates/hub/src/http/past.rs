//! How a node and the fleet stood at a moment in the past, as JSON.

use super::api::{ItemJson, unknown_node};
use super::{Hub, Problem};
use crate::past::{Past, Was, when};
use crate::spans;
use crate::store::NodeRow;
use axum::Json;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::StatusCode;
use evenkeel_report::{Counts, Status, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What is asked of a node or of the fleet: as of when.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AtQuery {
    at: Option<String>,
}

/// The moment that a query asks for (unix ms).
pub(super) fn asked(query: Result<Query<AtQuery>, QueryRejection>, now: i64) -> Result<Option<i64>, Problem> {
    let Query(query) = query.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    moment(query.at.as_deref(), now)
}

/// The moment of a text (unix ms), which must not lie ahead.
pub(super) fn moment(text: Option<&str>, now: i64) -> Result<Option<i64>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let at = crate::pages::moment(text);
    let at = at.ok_or_else(|| bad(format!("at {text:?} is no time; write 2026-11-23T10:00:00Z")))?;
    if at > now { Err(bad(format!("at {text:?} has not come yet"))) } else { Ok(Some(at)) }
}

fn forgotten(reaches: i64) -> Problem {
    let from = Timestamp::from_unix_ms(reaches).map(|at| at.to_string()).unwrap_or_default();
    Problem::new(StatusCode::GONE, format!("the history reaches back to {from}")).of("forgotten")
}

/// How a node stood at a moment.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NodeThen")]
pub(super) struct PastJson {
    /// Its name.
    name: String,
    /// `urn:uuid:…`.
    source: String,
    /// Its tier.
    tier: String,
    /// The moment.
    at: Option<Timestamp>,
    /// From when on it can be told.
    reaches_back_to: Option<Timestamp>,
    /// When it was last heard of, ever: of what came after, nothing is known.
    last_seen: Option<Timestamp>,
    /// What it held for its spec.
    spec: SpecJson,
    /// Items by status.
    counts: Counts,
    /// Of how many it is forgotten how they stood.
    unknown: usize,
    /// Worst first.
    items: Vec<WasJson>,
}

/// A node's spec at a moment.
#[derive(Debug, Default, Serialize, JsonSchema)]
#[schemars(rename = "SpecThen")]
struct SpecJson {
    /// `in_force`, `held` or `failed`; nothing where no change says it.
    status: Option<String>,
    /// The commit in force.
    commit: Option<String>,
    /// Since when it was so.
    since: Option<Timestamp>,
    /// The commit that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_commit: Option<String>,
    /// Why it was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

/// An item at a moment.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ItemThen")]
struct WasJson {
    #[serde(flatten)]
    item: ItemJson,
    /// How that is known: `told`, `unchanged`, `left` or `forgotten`.
    known: &'static str,
    /// When it came to stand so.
    changed: Option<Timestamp>,
}

impl PastJson {
    fn new(row: NodeRow, past: Past) -> Self {
        let moment = Timestamp::from_unix_ms;
        let spec = past.spec.map(|spec| SpecJson {
            since: moment(when(&spec)),
            status: Some(spec.status),
            commit: spec.commit,
            target_commit: spec.detail.target,
            errors: spec.detail.errors,
        });
        let statuses = || past.items.values().map(|was| was.item.status);
        let (counts, unknown) = (statuses().flatten().collect(), statuses().filter(Option::is_none).count());
        let mut items: Vec<(String, Was)> = past.items.into_iter().collect();
        items.sort_by(|(a_id, a), (b_id, b)| b.item.status.cmp(&a.item.status).then_with(|| a_id.cmp(b_id)));
        let one = |(id, was): (String, Was)| WasJson {
            known: was.known.word(),
            changed: was.changed.and_then(moment),
            item: ItemJson::new(id, was.item),
        };
        Self {
            name: row.doc.node.name,
            source: row.source,
            tier: row.doc.node.tier,
            at: moment(past.at),
            reaches_back_to: moment(past.reaches),
            last_seen: moment(row.doc.last_seen),
            spec: spec.unwrap_or_default(),
            counts,
            unknown,
            items: items.into_iter().map(one).collect(),
        }
    }
}

/// How a node stood at `at`.
pub(super) async fn node(hub: &Hub, name: String, at: i64) -> Result<Json<PastJson>, Problem> {
    let answer = hub.look(move |look| {
        let Some(row) = look.view.node(&name)? else { return Ok(None) };
        let past = Past::look(look.view, &row, at, look.kept_since())?;
        Ok(Some((row, past)))
    });
    let (row, past) = answer.await?.ok_or_else(unknown_node)?;
    if past.reached() { Ok(Json(PastJson::new(row, past))) } else { Err(forgotten(past.reaches)) }
}

/// How the fleet stood at a moment.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FleetThen")]
pub(super) struct FleetThenJson {
    /// The moment.
    at: Option<Timestamp>,
    /// How many nodes are known now.
    nodes: usize,
    /// How many of them had something off.
    adrift: usize,
    /// How many items were off, by status; `off` where the change that says how has been forgotten.
    items: BTreeMap<&'static str, usize>,
}

/// How the fleet stood at `at`.
pub(super) async fn fleet(hub: &Hub, at: i64) -> Result<Json<FleetThenJson>, Problem> {
    let answer = hub.look(move |look| {
        if at < look.kept_since() {
            return Ok(Err(look.kept_since()));
        }
        let moment = spans::moment(look.view, &|node| look.keeps(node), at, look.times.now)?;
        let nodes = look.tally()?.all.nodes;
        Ok(if moment.reaches > at { Err(moment.reaches) } else { Ok((moment, nodes)) })
    });
    let (moment, nodes) = answer.await?.map_err(forgotten)?;
    let mut items: BTreeMap<&'static str, usize> =
        crate::roll::OPEN.map(|status: Status| (status.word(), 0)).into();
    items.extend(moment.items);
    Ok(Json(FleetThenJson { at: Timestamp::from_unix_ms(at), nodes, adrift: moment.nodes, items }))
}
