//! Events in. An answer means committed: what it counts as accepted survives a power cut.
//!
//! With certificates, nobody's event is read before the certificate is known to be good, and none is stored that speaks for
//! another node.

use super::enroll::{admitted, own};
use super::{Hub, Problem};
use crate::metrics::Fate;
use crate::store::registry::Admission;
use crate::unpack::{self, UnpackError};
use crate::who::Peer;
use crate::wire::{self, BODY_CAP, Body, Incoming, Kind, Malformed, Refused};
use crate::writer::{WriteError, Written};
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Extension, FromRequest as _, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a body may take to arrive.
const BODY_DEADLINE: Duration = Duration::from_secs(30);

/// How long what is known of a certificate may be believed.
const FRESH: Duration = Duration::from_millis(250);

/// What became of a request's events.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Receipt {
    /// How many were stored.
    accepted: usize,
    /// How many were there already.
    duplicate: usize,
    /// How many were of a type that this hub does not know.
    ignored: usize,
    /// Those that read and cannot be right.
    refused: Vec<Refused>,
    /// The names of nodes whose next report should have `scope: full`.
    want_full: Vec<String>,
}

pub(super) async fn events(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<Receipt>, Problem> {
    let (admission, body) = hear(&hub, &peer, request).await?;
    store(&hub, admission, body).await
}

pub(super) async fn heartbeat(
    State(hub): State<Arc<Hub>>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Json<Receipt>, Problem> {
    let (admission, body) = hear(&hub, &peer, request).await?;
    let beats = body.events.iter().filter(|event| matches!(event, Incoming::Beat(_))).count()
        + body.refused.iter().filter(|event| event.kind == Kind::Heartbeat).count();
    if beats != 1 || body.events.len() + body.refused.len() + body.ignored != 1 {
        hub.metrics.malformed();
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "this address takes one heartbeat event, nothing else",
        ));
    }
    store(&hub, admission, body).await
}

/// A body, and what is known of who sent it. Where it took its time, that is asked again: it may be banned by now.
async fn hear(hub: &Hub, peer: &Peer, request: Request) -> Result<(Option<Admission>, Body), Problem> {
    let (began, admission) = (Instant::now(), admitted(hub, peer).await?);
    let body = read(hub, request).await?;
    if began.elapsed() < FRESH { Ok((admission, body)) } else { Ok((admitted(hub, peer).await?, body)) }
}

async fn read(hub: &Hub, request: Request) -> Result<Body, Problem> {
    read_body(request).await.inspect_err(|_| hub.metrics.malformed())
}

async fn read_body(request: Request) -> Result<Body, Problem> {
    let packed = accept(request.headers())?;
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
    let unpacked = if packed { Some(unpack::gzip(&bytes, BODY_CAP).map_err(unpacked_badly)?) } else { None };
    wire::parse(unpacked.as_deref().unwrap_or(&bytes)).map_err(|why| {
        let mut problem = Problem::new(StatusCode::BAD_REQUEST, why.to_string());
        if let Malformed::Event { index, id, .. } = why {
            problem.index = Some(index);
            problem.id = id;
        }
        problem
    })
}

fn unpacked_badly(why: UnpackError) -> Problem {
    let code = match why {
        UnpackError::Broken => StatusCode::BAD_REQUEST,
        UnpackError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
    };
    Problem::new(code, why.to_string())
}

/// JSON, under any of the three names that a batch or an event goes by, plain or as gzip; whether it is the latter.
fn accept(headers: &HeaderMap) -> Result<bool, Problem> {
    let unfit = |detail: &str| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    let packed = match headers.get(header::CONTENT_ENCODING).map(axum::http::HeaderValue::as_bytes) {
        None | Some(b"identity") => false,
        Some(b"gzip" | b"x-gzip") => true,
        Some(_) => return unfit("of compressed bodies the hub takes gzip alone"),
    };
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/cloudevents-batch+json" | "application/cloudevents+json" | "application/json" => {
            Ok(packed)
        }
        _ => {
            unfit("send application/cloudevents-batch+json, application/cloudevents+json or application/json")
        }
    }
}

async fn store(hub: &Hub, admission: Option<Admission>, body: Body) -> Result<Json<Receipt>, Problem> {
    if let Some(admission) = admission {
        own(hub, &admission, &body.events).await?;
    }
    let kinds: Vec<Kind> = body.events.iter().map(Incoming::kind).collect();
    let written = if kinds.is_empty() { Ok(Written::default()) } else { hub.writer.write(body.events).await };
    let written = written.map_err(|why| {
        hub.metrics.turned_away();
        let again = match why {
            WriteError::Full | WriteError::Ended | WriteError::Store => 1,
            WriteError::Away => super::AWAY_S,
        };
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, why.to_string()).again_after(again)
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
