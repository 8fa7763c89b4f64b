//! The user API: JSON for programs, keyset pages, the same words as the reports.

use super::past::{self, AtQuery};
use super::{Hub, Problem};
use crate::invariants::{Broken, Invariant, Says};
use crate::liveness::{self, HubTimes, flags, skew_ms};
use crate::merge::holes;
use crate::slots::node_of;
use crate::store::{HistoryRow, ItemRow, NodeRow, Place, SPEC_ITEM, SlotRow};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use evenkeel_report::{
    Agent, Change, Counts, Drift, Liveness, Phase, Seq, SpecState, Spool, Status, Timestamp, Writer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

/// How many nodes or entries a page has, unless asked otherwise, and at most.
const PAGE: usize = 100;
const PAGE_MOST: usize = 1000;

/// A node, as it told of itself last and as the hub judges it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Node")]
pub(super) struct NodeJson {
    /// Its name.
    name: String,
    /// `urn:uuid:…`, its own.
    source: String,
    /// Its tier; empty where it is in none.
    tier: String,
    /// Its labels.
    labels: BTreeMap<String, String>,
    /// The kernel's id of this boot.
    boot_id: String,
    /// The program that speaks for it.
    agent: Agent,
    /// When it was first heard of.
    first_seen: Option<Timestamp>,
    /// When it was last heard of.
    last_seen: Option<Timestamp>,
    /// Whether it is heard of.
    liveness: Liveness,
    /// What is odd: `gap`, `clock_skew`, `cloned_identity`, `stalled`, `rewound`, `dropped`.
    flags: Vec<&'static str>,
    /// How far the node's clock is ahead (ms), where it is off by more than a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_ms: Option<i64>,
    /// The newest report's number.
    seq: Seq,
    /// How far apart its heartbeats are (s).
    interval_s: u64,
    /// Which spec is in force, and which should be.
    spec: SpecState,
    /// The worst status of any item.
    status: Status,
    /// How many items stand how.
    counts: Counts,
    /// The digest over its items, as it told it.
    state_digest: String,
    /// Whether the hub comes to the same digest; null where that cannot be said.
    digest_ok: Option<bool>,
    /// How many reports never came.
    missing_reports: u64,
    /// How its spool stands; null before its first heartbeat.
    spool: Option<Spool>,
}

impl NodeJson {
    pub(super) fn new(row: NodeRow, times: HubTimes) -> Self {
        let doc = row.doc;
        Self {
            source: row.source,
            first_seen: Timestamp::from_unix_ms(doc.first_seen),
            last_seen: Timestamp::from_unix_ms(doc.last_seen),
            liveness: liveness::of(&doc, times),
            flags: flags(&doc, times.now),
            clock_skew_ms: skew_ms(&doc),
            seq: doc.voice.seq,
            interval_s: doc.interval_s(),
            status: doc.worst(),
            counts: doc.counts,
            digest_ok: doc.digest_ok,
            missing_reports: doc.missing,
            spool: doc.beat.as_ref().map(|beat| beat.spool),
            name: doc.node.name,
            tier: doc.node.tier,
            labels: doc.node.labels,
            boot_id: doc.node.boot_id,
            agent: doc.agent,
            spec: doc.spec,
            state_digest: doc.digest_told,
        }
    }
}

/// Percent-encoding of everything that is not unreserved (RFC 3986, 2.3).
pub(crate) fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

/// How one item of a node stands.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Item")]
pub(super) struct ItemJson {
    /// `kind/name`.
    id: String,
    /// How it stands; null where no report of it ever came.
    status: Option<Status>,
    /// Where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// Why it stands so.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is off.
    drift: Vec<Drift>,
    /// Where the spec says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared_at: Option<String>,
    /// When it was first seen off.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// How many passes have tried to put it right.
    attempts: u32,
    /// Who did it, where the kernel could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<Writer>,
    /// What is worth knowing of it beside its status.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    facts: BTreeMap<String, String>,
    /// The report that last set it.
    seq: Seq,
}

impl ItemJson {
    pub(super) fn new(id: String, row: ItemRow) -> Self {
        let ItemRow { status, detail, seq } = row;
        Self {
            id,
            status,
            phase: detail.phase,
            reason: detail.reason,
            drift: detail.drift,
            declared_at: detail.declared_at,
            since: detail.since,
            attempts: detail.attempts,
            writer: detail.writer,
            facts: detail.facts,
            seq,
        }
    }
}

/// A node with all of its items.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NodeWithItems")]
pub(super) struct NodeAndItems {
    #[serde(flatten)]
    node: NodeJson,
    /// The runs of reports that never came, first and last number.
    gaps: Vec<(u64, u64)>,
    /// Worst first.
    items: Vec<ItemJson>,
}

pub(super) async fn node(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    query: Result<Query<AtQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let times = hub.times();
    if let Some(at) = past::asked(query, times.now)? {
        return past::node(&hub, name, at).await.map(IntoResponse::into_response);
    }
    let answer = hub.ask(move |view| {
        let Some(row) = view.node(&name)? else { return Ok(None) };
        let mut items = view.items(row.key)?;
        items.sort_by(|(a_id, a), (b_id, b)| b.status.cmp(&a.status).then_with(|| a_id.cmp(b_id)));
        let seen = view.seen(row.key, row.doc.voice.seq.epoch)?;
        let gaps = holes(&row.doc, &seen);
        let items = items.into_iter().map(|(id, item)| ItemJson::new(id, item)).collect();
        Ok(Some(NodeAndItems { node: NodeJson::new(row, times), gaps, items }))
    });
    answer.await?.map(|answer| Json(answer).into_response()).ok_or_else(unknown_node)
}

/// Every slot that is held.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Slots")]
pub(super) struct SlotsJson {
    /// Every group that is configured or of which a slot is held.
    groups: Vec<GroupJson>,
}

/// The slots of one group.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "SlotGroup")]
struct GroupJson {
    /// Its name.
    group: String,
    /// How many may hold one at once.
    slots: u32,
    /// Who holds one.
    held: Vec<HeldJson>,
}

/// A slot that is held.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "HeldSlot")]
struct HeldJson {
    /// `NODE/HOLDER`.
    id: String,
    /// The node of it.
    node: String,
    /// Since when.
    since: Option<Timestamp>,
}

pub(super) async fn slots(State(hub): State<Arc<Hub>>) -> Result<Json<SlotsJson>, Problem> {
    let slots = hub.slots.clone();
    let held = hub.ask(move |_| slots.held()).await?;
    let one = |row: SlotRow| HeldJson {
        node: node_of(&row.id).to_owned(),
        since: Timestamp::from_unix_ms(row.since),
        id: row.id,
    };
    let group = |(group, rows): (String, Vec<SlotRow>)| GroupJson {
        slots: hub.slots.size(&group),
        held: rows.into_iter().map(one).collect(),
        group,
    };
    Ok(Json(SlotsJson { groups: held.into_iter().map(group).collect() }))
}

/// What must be the same on every node of a tier.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Invariants")]
pub(super) struct InvariantsJson {
    /// Every one that is watched, whether it holds or not.
    invariants: Vec<InvariantJson>,
}

/// One fact that must not differ.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Invariant")]
struct InvariantJson {
    /// Its name.
    name: String,
    /// What it means, and why it matters.
    means: String,
    /// Whether `hub.yaml` says it.
    own: bool,
    /// Where it does not hold.
    broken: Vec<BrokenJson>,
}

/// A place where it does.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BrokenInvariant")]
struct BrokenJson {
    /// The tier.
    tier: String,
    /// The item.
    item: String,
    /// Which nodes say what.
    says: Vec<Says>,
    /// Nothing where it was so already when this hub began to look.
    since: Option<Timestamp>,
    /// What to do about it.
    #[serde(rename = "do")]
    remedy: String,
}

impl BrokenJson {
    fn new(one: &Broken) -> Self {
        Self {
            tier: one.tier.clone(),
            item: one.item.clone(),
            says: one.says.clone(),
            since: one.since.and_then(Timestamp::from_unix_ms),
            remedy: one.remedy.clone(),
        }
    }
}

pub(super) async fn invariants(State(hub): State<Arc<Hub>>) -> Result<Json<InvariantsJson>, Problem> {
    let answer = hub.look(|look| {
        let broken = look.broken_now()?;
        let of = |name: &str| broken.iter().filter(|one| one.name == name).map(BrokenJson::new).collect();
        let one = |one: &Invariant| InvariantJson {
            name: one.name.clone(),
            means: one.means.clone(),
            own: one.own,
            broken: of(&one.name),
        };
        Ok(InvariantsJson { invariants: look.watch.all().iter().map(one).collect() })
    });
    Ok(Json(answer.await?))
}

pub(super) fn unknown_node() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no node of this name or source has ever reported here")
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TimelineQuery {
    limit: Option<usize>,
    before: Option<String>,
}

/// One change of an item, or of the commit in force.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TimelineEntry")]
pub(super) struct ChangeJson {
    /// When, by the node's clock.
    time: Option<Timestamp>,
    /// When the hub heard of it, by its own.
    received: Option<Timestamp>,
    /// The report that told it.
    seq: Seq,
    /// `item`, or `spec` for the commit in force.
    #[schemars(extend("enum" = ["item", "spec"]))]
    kind: &'static str,
    /// The item.
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<String>,
    /// How the item, or the spec, stands since.
    status: String,
    /// Why a repair was needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<Change>,
    /// Where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    /// Why it stands so.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What is off, or was before the repair.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    drift: Vec<Drift>,
    /// Who did it, where the kernel could tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    writer: Option<Writer>,
    /// Where the spec says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    declared_at: Option<String>,
    /// When it was first seen off.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// The commit in force.
    commit: Option<String>,
    /// The commit that was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_commit: Option<String>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<String>,
}

impl ChangeJson {
    fn new(row: HistoryRow) -> Self {
        let spec = row.item == SPEC_ITEM;
        let detail = row.detail;
        Self {
            time: Timestamp::from_unix_ms(row.at),
            received: Timestamp::from_unix_ms(row.got),
            seq: row.place.seq,
            kind: if spec { "spec" } else { "item" },
            item: Some(row.item).filter(|_| !spec),
            status: row.status,
            change: detail.change,
            phase: detail.phase,
            reason: detail.reason,
            drift: detail.drift,
            writer: detail.writer,
            declared_at: detail.declared_at,
            since: detail.since,
            commit: row.commit,
            target_commit: detail.target,
            errors: detail.errors,
        }
    }
}

/// What changed on a node, newest first.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Timeline {
    /// The changes of this page.
    changes: Vec<ChangeJson>,
    /// The address of the older page; nothing on the last.
    next: Option<String>,
}

pub(super) async fn timeline(
    State(hub): State<Arc<Hub>>,
    Path(name): Path<String>,
    query: Result<Query<TimelineQuery>, QueryRejection>,
) -> Result<Json<Timeline>, Problem> {
    let Query(query) = query.map_err(|why| Problem::new(StatusCode::BAD_REQUEST, why.body_text()))?;
    let limit = query.limit.unwrap_or(PAGE).clamp(1, PAGE_MOST);
    let before = query.before.as_deref().map(cursor).transpose()?;
    let address = encode(&name);
    let rows = hub.ask(move |view| {
        let Some(row) = view.node(&name)? else { return Ok(None) };
        let before = before.as_ref().map(|(place, item)| (*place, item.as_str()));
        view.timeline(row.key, before, limit + 1).map(Some)
    });
    let mut rows = rows.await?.ok_or_else(unknown_node)?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| more).map(|last| {
        let Place { seq, sub } = last.place;
        let at = encode(&format!("{}:{}:{sub}:{}", seq.epoch, seq.n, last.item));
        format!("/api/v1/nodes/{address}/timeline?before={at}&limit={limit}")
    });
    Ok(Json(Timeline { changes: rows.into_iter().map(ChangeJson::new).collect(), next }))
}

/// `epoch:n:sub:item`, as `next` gives it.
fn cursor(text: &str) -> Result<(Place, String), Problem> {
    let mut parts = text.splitn(4, ':');
    let mut part = || parts.next();
    let parsed = (|| {
        let seq = Seq { epoch: part()?.parse().ok()?, n: part()?.parse().ok()? };
        let sub = part()?.parse().ok()?;
        Some((Place { seq, sub }, part()?.to_owned()))
    })();
    let detail = "`before` is not a place in a timeline; take it from `next` of the page before";
    parsed.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, detail))
}

/// That the hub is well.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(super) struct HealthJson {
    /// `ok`; a hub that is not answers with another code.
    status: &'static str,
    /// The hub's version.
    version: &'static str,
}

pub(super) async fn healthz(State(hub): State<Arc<Hub>>) -> Result<Json<HealthJson>, Problem> {
    hub.ask(|view| view.nodes(None, 1)).await?;
    Ok(Json(HealthJson { status: "ok", version: env!("CARGO_PKG_VERSION") }))
}
