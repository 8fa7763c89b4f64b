//! The `FleetLock` protocol: a node asks before it disturbs something, and says when it is well again.
//!
//! `POST /v1/pre-reboot` and `/v1/steady-state`, with the header `fleet-lock-protocol: true` and
//! `{"client_params": {"id": "mw1/service", "group": "middleware"}}`. 200 is a yes; anything else is a no, with
//! `{"kind": …, "value": …}`.

use super::{AWAY, Hub};
use crate::slots::{is_group, is_id};
use crate::store::{StoreError, Taken};
use crate::writer::chain;
use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// The most bytes of a question.
const LONGEST: usize = 8 << 10;

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

pub(super) async fn take(State(hub): State<Arc<Hub>>, headers: HeaderMap, body: Bytes) -> Response {
    let Params { id, group } = match read(&headers, &body) {
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

pub(super) async fn leave(State(hub): State<Arc<Hub>>, headers: HeaderMap, body: Bytes) -> Response {
    let Params { id, group } = match read(&headers, &body) {
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
