//! The `FleetLock` protocol: a node asks before it disturbs something, and says when it is well again.
//!
//! `POST /v1/pre-reboot` and `/v1/steady-state`, with the header `fleet-lock-protocol: true` and
//! `{"client_params": {"id": "mw1/service", "group": "middleware"}}`. 200 is a yes; anything else is a no, with
//! `{"kind": …, "value": …}`. Where nodes have certificates, each asks for itself alone.

use super::enroll::{admitted, shut};
use super::{AWAY, Hub, Problem};
use crate::slots::{is_group, is_id, node_of};
use crate::store::registry::Admission;
use crate::store::{StoreError, Taken};
use crate::who::{Peer, Shut};
use crate::writer::chain;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a question.
const LONGEST: usize = 8 << 10;
/// How long it may take to arrive.
const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Debug, Deserialize)]
struct Question {
    client_params: Params,
}

#[derive(Debug, Deserialize)]
struct Params {
    id: String,
    group: String,
}

/// A no, as the protocol has it.
#[derive(Debug, Serialize)]
struct Refusal {
    kind: &'static str,
    value: String,
}

fn refuse(status: StatusCode, kind: &'static str, value: impl Into<String>) -> Response {
    (status, Json(Refusal { kind, value: value.into() })).into_response()
}

pub(super) async fn take(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let Params { id, group } = match hear(&hub, &peer, request).await {
        Ok(params) => params,
        Err(refusal) => return *refusal,
    };
    let now = (hub.clock)();
    let slots = hub.slots.clone();
    let asked = tokio::task::spawn_blocking(move || (slots.take(&group, &id, now), group, id)).await;
    match asked {
        Ok((Ok(Taken::Granted), group, id)) => {
            tracing::info!(group, id, "{id} has the slot of {group}");
            StatusCode::OK.into_response()
        }
        Ok((Ok(Taken::Full(holders)), ..)) => {
            let who =
                if holders.is_empty() { "too many slots are held".to_owned() } else { holders.join(", ") };
            refuse(StatusCode::CONFLICT, "failed_lock", who)
        }
        Ok((Err(why), ..)) => failed(&why),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "dropped", "the question was dropped"),
    }
}

pub(super) async fn leave(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Response {
    let Params { id, group } = match hear(&hub, &peer, request).await {
        Ok(params) => params,
        Err(refusal) => return *refusal,
    };
    let slots = hub.slots.clone();
    let left = tokio::task::spawn_blocking(move || {
        let held = slots.book.leave(&group, &id);
        if let Ok(true) = held {
            tracing::info!(group, id, "{id} has given back the slot of {group}");
        }
        held
    });
    match left.await {
        // One that was not held is given back all the same.
        Ok(Ok(_)) => StatusCode::OK.into_response(),
        Ok(Err(why)) => failed(&why),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "dropped", "the question was dropped"),
    }
}

fn failed(why: &StoreError) -> Response {
    if matches!(why, StoreError::Away { .. }) {
        tracing::warn!(error = chain(why), "a slot could not be granted or taken back");
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "store", AWAY);
    }
    tracing::error!(error = chain(why), "a slot could not be granted or taken back");
    refuse(StatusCode::INTERNAL_SERVER_ERROR, "store", "the store failed; see the hub's log")
}

/// A question of somebody who may ask it. With certificates, a node asks for itself alone.
async fn hear(hub: &Hub, peer: &Peer, request: Request) -> Result<Params, Box<Response>> {
    let admission = admitted(hub, peer).await.map_err(|why| Box::new(in_words(&why)))?;
    let headers = request.headers().clone();
    let body = match tokio::time::timeout(DEADLINE, Bytes::from_request(request, &())).await {
        Ok(Ok(body)) => body,
        Ok(Err(why)) => {
            return Err(Box::new(refuse(why.status(), "bad_request", "the question did not arrive whole")));
        }
        Err(_) => {
            return Err(Box::new(refuse(
                StatusCode::REQUEST_TIMEOUT,
                "late",
                "the question took more than 10 seconds",
            )));
        }
    };
    let params = read(&headers, &body)?;
    let foreign = |admission: &Admission| node_of(&params.id) != admission.name;
    if let Some(admission) = admission.filter(foreign) {
        tracing::warn!(node = admission.name, id = params.id, "a slot was asked for in another node's name");
        let problem = shut(hub, Shut::Forged);
        let why = format!("the certificate is of {}: ask as {0}/HOLDER", admission.name);
        return Err(Box::new(refuse(problem.code, Shut::Forged.word(), why)));
    }
    Ok(params)
}

/// A problem as the protocol has it, so that any client tells why.
fn in_words(why: &Problem) -> Response {
    let kind = why.kind.as_ref().map_or("refused", |word| word.0);
    refuse(why.code, kind, why.detail.clone())
}

fn read(headers: &HeaderMap, body: &[u8]) -> Result<Params, Box<Response>> {
    let bad = |value: &str| Box::new(refuse(StatusCode::BAD_REQUEST, "bad_request", value));
    if headers.get("fleet-lock-protocol").is_none_or(|value| value != "true") {
        return Err(bad("the header `fleet-lock-protocol: true` is missing"));
    }
    if body.len() > LONGEST {
        return Err(bad("the question is too long"));
    }
    let question: Question = serde_json::from_slice(body)
        .map_err(|_| bad("write {\"client_params\": {\"id\": \"NODE/HOLDER\", \"group\": \"GROUP\"}}"))?;
    let params = question.client_params;
    if !is_group(&params.group) {
        return Err(bad("a group is up to 64 of A-Z, a-z, 0-9, `.`, `_` and `-`"));
    }
    if !is_id(&params.id) {
        return Err(bad("an id is up to 320 printable characters without blanks"));
    }
    Ok(params)
}
