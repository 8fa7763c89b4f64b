//! What is open across the fleet and how far a commit has come, as JSON.

use super::list::Params;
use super::past::{self, AtQuery};
use super::{Hub, Problem};
use crate::drifts::{self, Closed, Lately, Open};
use crate::liveness;
use crate::roll::{Filter, TierTally};
use crate::rollout::{self, Rollout};
use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use evenkeel_report::Status;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many drifts that were closed are told.
const CLOSED: usize = 200;

/// How many commits the fleet's answer has.
const COMMITS: usize = 100;

/// What a question about drift is narrowed by: the filter of nodes, and a part of an item's id.
pub(super) fn narrow(params: Result<Params, QueryRejection>) -> Result<(Filter, String), Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let Query(params) = params.map_err(|why| bad(why.body_text()))?;
    known(&params, &["tier", "liveness", "status", "sync", "even", "commit", "behind", "q", "item"])?;
    let filter = Filter::parse(|name| params.get(name).cloned())?;
    Ok((filter, params.get("item").cloned().unwrap_or_default()))
}

/// A parameter that is misspelt must not pass for one that narrows nothing.
pub(super) fn known(params: &BTreeMap<String, String>, names: &[&str]) -> Result<(), Problem> {
    match params.keys().find(|name| !names.contains(&name.as_str())) {
        Some(unknown) => {
            let detail = format!("unknown parameter {unknown:?}; known are: {}", names.join(", "));
            Err(Problem::new(StatusCode::BAD_REQUEST, detail))
        }
        None => Ok(()),
    }
}

fn inner<S: serde::Serializer>(open: &Arc<Open>, to: S) -> Result<S::Ok, S::Error> {
    open.as_ref().serialize(to)
}

/// What is off, and what was put right lately.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Drifts")]
pub(super) struct DriftJson {
    /// What is off now.
    #[serde(serialize_with = "inner")]
    #[schemars(with = "Open")]
    open: Arc<Open>,
    /// Within the last hour, newest first.
    closed: Vec<Closed>,
    /// Whether more changed within the hour than is read for one answer.
    closed_cut: bool,
}

pub(super) async fn drift(
    State(hub): State<Arc<Hub>>,
    params: Result<Params, QueryRejection>,
) -> Result<Json<DriftJson>, Problem> {
    let (filter, item) = narrow(params)?;
    let answer = hub.look(move |look| {
        let lately = Lately::read(look.view, look.times.now)?;
        let open = drifts::of(look, &filter, &item, &lately)?;
        let closed = lately.closed(look.view, look.roll, CLOSED)?;
        Ok(DriftJson { open, closed, closed_cut: lately.cut() })
    });
    Ok(Json(answer.await?))
}

/// How one tier stands, or the whole fleet.
#[derive(Debug, Serialize, JsonSchema)]
struct Standing {
    /// How many nodes there are.
    nodes: usize,
    /// How many of them are not even.
    uneven: usize,
    /// How many of them are online, late, silent and so on.
    liveness: BTreeMap<&'static str, usize>,
    /// How many items are pending, non-compliant or in error.
    open: BTreeMap<&'static str, u64>,
    /// How many nodes have the newest commit that they have seen in force.
    synced: usize,
    /// How many refuse it.
    refusing: usize,
}

impl Standing {
    fn new(tally: &TierTally) -> Self {
        let open = [Status::Pending, Status::NonCompliant, Status::Error].map(Status::word);
        Self {
            nodes: tally.nodes,
            uneven: tally.uneven,
            liveness: liveness::ALL.map(liveness::word).into_iter().zip(tally.liveness).collect(),
            open: open.into_iter().zip(tally.open).collect(),
            synced: tally.synced,
            refusing: tally.refusing,
        }
    }
}

/// How the whole fleet stands.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Fleet")]
pub(super) struct FleetJson {
    /// Whether every node is even.
    even: bool,
    /// Over every tier.
    all: Standing,
    /// By tier.
    tiers: BTreeMap<String, Standing>,
    /// How many nodes have which commit in force; most first, up to a hundred.
    commits: Vec<InForce>,
}

/// One commit.
#[derive(Debug, Serialize, JsonSchema)]
struct InForce {
    /// The commit.
    commit: String,
    /// How many nodes have it in force.
    nodes: usize,
}

pub(super) async fn fleet(
    State(hub): State<Arc<Hub>>,
    query: Result<Query<AtQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    if let Some(at) = past::asked(query, hub.times().now)? {
        return past::fleet(&hub, at).await.map(IntoResponse::into_response);
    }
    let answer = hub.look(|look| {
        let tally = look.tally_now()?;
        let known = tally.commits.iter().filter_map(|(commit, nodes)| Some((commit.as_deref()?, *nodes)));
        let tiers = tally.tiers.iter().map(|(name, tier)| (name.to_string(), Standing::new(tier)));
        Ok(FleetJson {
            even: tally.all.uneven == 0,
            all: Standing::new(&tally.all),
            tiers: tiers.collect(),
            commits: known
                .take(COMMITS)
                .map(|(commit, nodes)| InForce { commit: commit.to_owned(), nodes })
                .collect(),
        })
    });
    Ok(Json(answer.await?).into_response())
}

pub(super) async fn rollout(
    State(hub): State<Arc<Hub>>,
    Path(commit): Path<String>,
) -> Result<Json<Rollout>, Problem> {
    let answer = hub.look(move |look| {
        let commit = rollout::resolve(look.roll, &commit);
        Rollout::follow(look.view, look.roll, &commit, look.times)
    });
    let rollout = answer.await?;
    if rollout.known() { Ok(Json(rollout)) } else { Err(unknown_commit()) }
}

fn unknown_commit() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no node has ever had or seen this commit")
}
