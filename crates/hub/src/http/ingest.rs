//! Events in. An answer means committed: what it counts as accepted survives a power cut.

use super::{Hub, Problem};
use crate::metrics::Fate;
use crate::wire::{self, BODY_CAP, Body, Incoming, Kind, Malformed, Refused};
use crate::writer::{WriteError, Written};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;
use std::time::Duration;

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// What became of a request's events.
#[derive(Debug, Serialize)]
pub(super) struct Receipt {
    accepted: usize,
    duplicate: usize,
    ignored: usize,
    refused: Vec<Refused>,
    want_full: Vec<String>,
}

pub(super) async fn events(State(hub): State<Arc<Hub>>, request: Request) -> Result<Json<Receipt>, Problem> {
    let body = read(&hub, request).await?;
    store(&hub, body).await
}

pub(super) async fn heartbeat(
    State(hub): State<Arc<Hub>>,
    request: Request,
) -> Result<Json<Receipt>, Problem> {
    let body = read(&hub, request).await?;
    let beats = body.events.iter().filter(|event| matches!(event, Incoming::Beat(_))).count()
        + body.refused.iter().filter(|event| event.kind == Kind::Heartbeat).count();
    if beats != 1 || body.events.len() + body.refused.len() + body.ignored != 1 {
        hub.metrics.malformed();
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "this address takes one heartbeat event, nothing else",
        ));
    }
    store(&hub, body).await
}

async fn read(hub: &Hub, request: Request) -> Result<Body, Problem> {
    read_body(request).await.inspect_err(|_| hub.metrics.malformed())
}

async fn read_body(request: Request) -> Result<Body, Problem> {
    accept(request.headers())?;
    let arrived = tokio::time::timeout(BODY_DEADLINE, Bytes::from_request(request, &())).await;
    let bytes = match arrived {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(why)) if why.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let detail = format!("a body has at most {BODY_CAP} bytes; send fewer events at once");
            return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail));
        }
        Ok(Err(why)) => return Err(Problem::new(why.status(), "the body did not arrive whole")),
        Err(_) => {
            return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "the body took more than 30 seconds"));
        }
    };
    wire::parse(&bytes).map_err(|why| {
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, why.to_string());
        if let Malformed::Event { index, id, .. } = why {
            problem.index = Some(index);
            problem.id = id;
        }
        problem
    })
}

/// JSON, under any of the three names that a batch or an event goes by; nothing compressed.
fn accept(headers: &HeaderMap) -> Result<(), Problem> {
    let unfit = |detail: &str| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    if headers.get(header::CONTENT_ENCODING).is_some_and(|coding| coding != "identity") {
        return unfit("the hub takes no compressed bodies");
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/cloudevents-batch+json" | "application/cloudevents+json" | "application/json" => Ok(()),
        _ => {
            unfit("send application/cloudevents-batch+json, application/cloudevents+json or application/json")
        }
    }
}

async fn store(hub: &Hub, body: Body) -> Result<Json<Receipt>, Problem> {
    let kinds: Vec<Kind> = body.events.iter().map(Incoming::kind).collect();
    let written = if kinds.is_empty() { Ok(Written::default()) } else { hub.writer.write(body.events).await };
    let written = written.map_err(|why| {
        hub.metrics.turned_away();
        let again = match why {
            WriteError::Full | WriteError::Ended | WriteError::Store => 1,
            WriteError::Away => super::AWAY_S,
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()).again(again)
    })?;
    for (kind, duplicate) in kinds.iter().zip(&written.duplicate) {
        hub.metrics.event(*kind, if *duplicate { Fate::Duplicate } else { Fate::Accepted });
    }
    body.refused.iter().for_each(|refused| hub.metrics.event(refused.kind, Fate::Refused));
    (0..body.ignored).for_each(|_| hub.metrics.event(Kind::Other, Fate::Ignored));
    let duplicate = written.duplicate.iter().filter(|duplicate| **duplicate).count();
    Ok(Json(Receipt {
        accepted: kinds.len() - duplicate,
        duplicate,
        ignored: body.ignored,
        refused: body.refused,
        want_full: written.want_full,
    }))
}
